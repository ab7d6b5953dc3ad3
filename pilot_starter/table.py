"""Every setting of the starter in one table: option, variables, meaning. Pure.

Most variables are Harvester's: it appends its own to those of the job template
(harvester d561b72, `k8s_utils.create_job_from_yaml`). `settings.py` makes the
configuration of them, `pilot-starter --show-config` prints it, and
`scripts/doc_tables.py` writes the table into docs/configuration.md.
"""

import re
import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

from pilot_core.base import text
from pilot_core.config import StorageConfig
from pilot_core.resolve import Setting
from pilot_starter.command import KILL_RESERVE_S
from pilot_starter.config import CredentialSources, PilotSource, PodName, StarterConfig, WorkerLogTarget

__all__ = ["DEFAULT_LOG", "GROUPS", "KINDS", "MADE", "SETTINGS", "sha256"]

DEFAULT_LOG = "/tmp/wrapper-wid.log"

#: Dataclass of each part of the settings.
KINDS: Mapping[str, type] = {
    "": StarterConfig,
    "credentials": CredentialSources,
    "logging": WorkerLogTarget,
    "pod": PodName,
    "source": PilotSource,
    "storage": StorageConfig,
}


def sha256(hexadecimal: str) -> str:
    """A SHA-256 in lower case."""
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", hexadecimal):
        raise ValueError("expected 64 hexadecimal digits")
    return hexadecimal.lower()


def _address(address: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`; without a host, this machine alone."""
    expected = "expected [ADDRESS:]PORT"
    try:
        parts = urlsplit(f"//{address}" if ":" in address else f"//127.0.0.1:{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(expected) from None
    if host is None or port is None or parts.path:
        raise ValueError(expected)
    return host, port


def _grace(words: str) -> float:
    value = text.seconds(words)
    if value < KILL_RESERVE_S:
        raise ValueError(f"expected {KILL_RESERVE_S:g} seconds or more: the starter's own end takes so long")
    return value


def _silent(words: str) -> float:
    value = text.seconds(words)
    if not value:
        raise ValueError("expected seconds, more than 0")
    return value


def _shell_words(words: str) -> tuple[str, ...]:
    return tuple(shlex.split(words))


def _pilot_url(words: str) -> str:
    """CRIC's pilot_url reaches us as `--piloturl URL`."""
    option, _, url = words.partition(" ")
    return url.strip() if option == "--piloturl" else ""


GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "the worker": (
        Setting("queue", "PanDA queue", "-q --queue pandaQueueName PANDA_QUEUE", shape="QUEUE"),
        Setting("site", "name of the site", "-s --site computingSite", default="the queue's"),
        Setting("harvester_id", "name of the Harvester instance", "HARVESTER_ID"),
        Setting("worker_id", "number of Harvester's worker", "workerID HARVESTER_WORKER_ID", text.count),
        Setting("hostname", "name of the node", "HOSTNAME", default="its own"),
        Setting("tmp_dir", "the worker's own folder is made below", "TMPDIR", text.path, default="/tmp"),
    ),
    "the pilot it starts": (
        Setting("label", "prodSourceLabel", "-j --label prodSourceLabel"),
        Setting("server_url", "PanDA server", "--url PANDA_SERVER_URL", text.url),
        Setting(
            "server_api",
            "dialect of the server's API",
            "PANDA_API",
            text.one_of("auto", "v1", "legacy"),
        ),
        Setting("version_tag", "version tag, part of pilotID", "pilotType"),
        Setting("resource_type", "resource type of the jobs to ask for", "resourceType"),
        Setting(
            "submit_mode",
            "PULL asks for jobs, PUSH finds the one that Harvester put there",
            "submit_mode",
            text.one_of("PULL", "PUSH"),
        ),
        Setting("work_dir", "the pilot's folder, kept at the end", "--work-dir PILOT_WORK_DIR", text.path),
        Setting(
            "extra_options",
            "further options of the pilot, as a shell splits them",
            "PILOT_EXTRA_OPTIONS",
            _shell_words,
        ),
        Setting("use_realtime", "ship the payload's log while it runs", "USE_REALTIME_LOGGING", text.flag),
        Setting("realtime_server", "log service that gets it", "REALTIME_LOGGING_SERVER"),
        Setting("realtime_logname", "name of the log there", "REALTIME_LOGNAME"),
    ),
    "where the pilot comes from": (
        Setting(
            "source.url",
            "http, https or file URL of pilot3.tar.gz, a pin `#sha256=HEX` may follow; "
            "`image` for the installed pilot",
            "--pilot-url PILOT_SOURCE",
            text.url,
        ),
        Setting("cli.pilot_url", "pilot_url of the queue, as `--piloturl URL`", "pilotUrlOpt", _pilot_url),
        Setting(
            "source.sha256",
            "SHA-256 the tarball must have; a pin in the URL comes before the variable",
            "--sha256 PILOT_SHA256",
            sha256,
            shape="HEX",
        ),
        Setting(
            "source.public_key",
            "PEM file with the key whose signature the tarball must have",
            "--public-key PILOT_PUBLIC_KEY",
            text.path,
        ),
        Setting(
            "cli.no_fallback",
            "no pilot rather than the installed one",
            "--no-fallback PILOT_NO_FALLBACK",
            text.flag,
            const="yes",
        ),
        Setting("source.timeout_s", "longest download of the pilot", "PILOT_FETCH_SECONDS", text.seconds),
    ),
    "credentials": (
        Setting("credentials.proxy_path", "X.509 proxy in a mounted Secret", "proxySecretPath"),
        Setting("credentials.proxy_content", "the proxy itself, commas for newlines", "proxyContent"),
        Setting("credentials.proxy_in_place", "a proxy that is here already", "X509_USER_PROXY"),
        Setting("credentials.token_dir", "folder of the OIDC token", "PANDA_AUTH_DIR OIDC_AUTH_DIR"),
        Setting("credentials.token_name", "file name of the OIDC token", "PANDA_AUTH_TOKEN OIDC_AUTH_TOKEN"),
        Setting("credentials.token_key_name", "file with the key for fresh tokens", "PANDA_AUTH_TOKEN_KEY"),
        Setting(
            "credentials.token_origin",
            "vo.role of the token",
            # Harvester's own value is a constant, `atlas.pilot`, and comes last.
            "PILOT_AUTH_ORIGIN PANDA_AUTH_ORIGIN OIDC_AUTH_ORIGIN",
        ),
        Setting(
            "credentials.google_path", "key of Google's service account", "GOOGLE_APPLICATION_CREDENTIALS"
        ),
        Setting("ca_file", "CA bundle", "REQUESTS_CA_BUNDLE SSL_CERT_FILE", text.path),
        Setting("ca_path", "folder of CA certificates", "X509_CERT_DIR", text.path),
    ),
    "the worker's log": (
        Setting(
            "worker_log",
            "file; the worker's state is beside it, `.json`",
            "--worker-log PILOT_WORKER_LOG",
            text.path,
            default=DEFAULT_LOG,
        ),
        Setting(
            "logging.server",
            "log service that gets it; set to nothing for none",
            "WORKERLOG_LOGGING_SERVER",
            default="the payload's, if that is shipped",
        ),
        Setting("logging.logname", "name of the log there", "WORKERLOG_LOGNAME"),
        Setting("logging.interval_s", "between two looks at the file", "WORKERLOG_INTERVAL", text.seconds),
        Setting("log_upload_url", "it is uploaded below this URL at the end", "logs_frontend_w", text.url),
        Setting("cli.log_read_url", "people read it below this URL", "logs_frontend_r", text.url),
        Setting("cli.log_name", "its name there, from a Harvester that says it", "stdout_name"),
    ),
    "health, and the end": (
        Setting(
            "grace_s",
            "from SIGTERM to the end of everything",
            "--grace PILOT_GRACE_SECONDS",
            _grace,
            shape="SECONDS",
        ),
        Setting(
            "silent_s",
            "without a move for so long, the worker is unwell",
            "--silent PILOT_SILENT_SECONDS",
            _silent,
            shape="SECONDS",
        ),
        Setting(
            "health_address",
            "serve /healthz and /metrics, on loopback unless told otherwise",
            "--health-port PILOT_HEALTH_PORT",
            _address,
            shape="[ADDRESS:]PORT",
        ),
        Setting("termination_log", "its last line goes there", "PILOT_TERMINATION_LOG", text.path),
        Setting(
            "metadata_url",
            "asked after SIGTERM whether the node is being preempted",
            "PILOT_METADATA_URL",
            text.url,
            default="Google's",
        ),
    ),
    "Kubernetes": (
        Setting("pod.namespace", "namespace of our pod", "POD_NAMESPACE"),
        Setting("pod.pod", "our own pod", "POD_NAME HOSTNAME"),
        Setting("pod.container", "our container in it", "CONTAINER_NAME"),
    ),
    "logs of a job whose pilot died": (
        Setting(
            "storage.link",
            "kind of log URL that people get",
            "PILOT_LOG_URL",
            text.one_of("public", "authenticated", "signed"),
        ),
        Setting(
            "storage.gcs_endpoint", "address of Cloud Storage", "STORAGE_EMULATOR_HOST", default="Google's"
        ),
        Setting("storage.s3_profile", "profile of S3 credentials", "PANDA_PILOT_AWS_PROFILE"),
        Setting("storage.token_file", "bearer token for https storage", "BEARER_TOKEN_FILE", text.path),
        Setting("storage.proxy_file", "X.509 proxy for https storage", "X509_USER_PROXY", text.path),
        Setting("storage.ca_path", "CA certificates of https storage", "X509_CERT_DIR", text.path),
    ),
}

SETTINGS: tuple[Setting, ...] = tuple(setting for group in GROUPS.values() for setting in group)

#: What is made of other settings, and of which.
MADE: Mapping[str, tuple[str, ...]] = {
    "site": ("queue",),
    "source.url": ("cli.pilot_url",),
    "source.fallback": ("cli.no_fallback",),
    "logging.server": ("realtime_server",),
    "log_name": ("cli.log_name", "harvester_id", "worker_id"),
    "log_link": ("cli.log_read_url",),
}
