"""PURE: options and Harvester's environment -> `StarterConfig`.

Harvester appends its variables to those of the job template. Placeholders of
the template that nobody replaced (`$proxyContent`) arrive as they stand, and
switched-off features as empty strings: both mean "not set" here (harvester
d561b72, `k8s_utils.create_job_from_yaml`).
"""

import argparse
import re
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from pilot_core.config import StorageConfig
from pilot_core.errors import SetupError
from pilot_starter.config import (
    DEFAULT_SERVER,
    FETCH_S,
    CredentialSources,
    PilotSource,
    PodName,
    StarterConfig,
    WorkerLogTarget,
)
from pilot_starter.upload import log_name_of

__all__ = ["DEFAULT_LOG", "settings"]

DEFAULT_LOG = "/tmp/wrapper-wid.log"
_YES = frozenset({"yes", "y", "true", "1"})
# The template's placeholders; never needed by wrapper or pilot, and in one
# case a secret.
_NOT_FOR_CHILDREN = frozenset({"proxyContent", "proxySecretPath", "PILOT_AUTH_ORIGIN", "PILOT_EXTRA_OPTIONS"})


class _Environment:
    """Variables with Harvester's notion of "not set"."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, *names: str, default: str = "") -> str:
        """The first of these that is set."""
        for name in names:
            value = self._values.get(name, "").strip()
            if value and not value.startswith("$"):
                return value
        return default

    def empty_on_purpose(self, name: str) -> bool:
        """True for a variable that exists without a value."""
        return self._values.get(name) == ""

    def number(self, name: str, default: float) -> float:
        """A number.

        Raises
        ------
        SetupError
            If it is none.
        """
        text = self.get(name)
        try:
            return float(text) if text else default
        except ValueError as err:
            raise SetupError(f"{name}={text!r} is not a number") from err


def settings(
    options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str]
) -> StarterConfig:
    """Everything one worker needs; options come before variables.

    Parameters
    ----------
    options
        What `cli` parsed.
    extra
        Options for the pilot.
    environment
        As it is.

    Raises
    ------
    SetupError
        Naming the variable or option.
    """
    env = _Environment(environment)
    queue = options.queue or env.get("pandaQueueName", "PANDA_QUEUE")
    if not queue and options.command == "run":
        raise SetupError("no queue: give -q or pandaQueueName")
    tmp_dir = Path(env.get("TMPDIR", default="/tmp"))
    harvester_id, worker_id = env.get("HARVESTER_ID"), _worker_id(env)
    log_name = log_name_of(harvester_id, worker_id, asked=env.get("stdout_name"))
    read_url = env.get("logs_frontend_r")
    use_realtime = env.get("USE_REALTIME_LOGGING").lower() in _YES
    realtime_server = env.get("REALTIME_LOGGING_SERVER")
    return StarterConfig(
        queue=queue,
        site=options.site or env.get("computingSite", default=queue),
        tmp_dir=tmp_dir,
        worker_log=Path(options.worker_log or env.get("PILOT_WORKER_LOG", default=DEFAULT_LOG)),
        source=_source(options, env),
        credentials=_credentials(env),
        logging=WorkerLogTarget(
            server=_worker_log_server(env, realtime_server if use_realtime else ""),
            logname=env.get("WORKERLOG_LOGNAME", default="Panda-WorkerLog"),
            interval_s=env.number("WORKERLOG_INTERVAL", 5.0),
        ),
        storage=_storage(env),
        resource_type=env.get("resourceType"),
        label=options.label or env.get("prodSourceLabel", default="managed"),
        version_tag=env.get("pilotType", default="PR"),
        server_url=(options.url or env.get("PANDA_SERVER_URL", default=DEFAULT_SERVER)).rstrip("/"),
        server_api=env.get("PANDA_API", default="auto"),
        submit_mode=_submit_mode(env),
        use_realtime=use_realtime,
        realtime_server=realtime_server,
        realtime_logname=env.get("REALTIME_LOGNAME"),
        extra_options=(*_words(env, "PILOT_EXTRA_OPTIONS"), *extra),
        harvester_id=harvester_id,
        worker_id=worker_id,
        hostname=env.get("HOSTNAME", default=socket.gethostname()),
        pod=_pod(env),
        work_dir=_path(options.work_dir or env.get("PILOT_WORK_DIR")),
        job_dirs=(Path("/scratch/jobconfig"), tmp_dir / "jobconfig", Path.cwd()),
        log_upload_url=env.get("logs_frontend_w"),
        log_name=log_name if env.get("logs_frontend_w") else "",
        log_link=f"{read_url.rstrip('/')}/{log_name}" if read_url and log_name else "",
        termination_log=Path(env.get("PILOT_TERMINATION_LOG", default="/dev/termination-log")),
        metadata_url=env.get("PILOT_METADATA_URL"),
        health_address=_address(options.health_port or env.get("PILOT_HEALTH_PORT")),
        grace_s=options.grace if options.grace is not None else env.number("PILOT_GRACE_SECONDS", 12.0),
        silent_s=options.silent if options.silent is not None else env.number("PILOT_SILENT_SECONDS", 600.0),
        ca_file=_path(env.get("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")),
        ca_path=_path(env.get("X509_CERT_DIR")),
        child_environment=_for_children(environment),
    )


def _address(text: str) -> tuple[str, int] | None:
    """Host and port of `[HOST:]PORT`; without a host, this machine alone."""
    if not text:
        return None
    parts = urlsplit(f"//{text}" if ":" in text else f"//127.0.0.1:{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.path:
        raise SetupError(f"PILOT_HEALTH_PORT={text!r} is not [ADDRESS:]PORT")
    return host, port


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _words(env: _Environment, name: str) -> list[str]:
    try:
        return shlex.split(env.get(name))
    except ValueError as err:
        raise SetupError(f"{name}: {err}") from err


def _worker_id(env: _Environment) -> int | None:
    text = env.get("workerID", "HARVESTER_WORKER_ID")
    if not text:
        return None
    if not text.isdecimal():
        raise SetupError(f"workerID={text!r} is not a number")
    return int(text)


def _submit_mode(env: _Environment) -> str:
    mode = env.get("submit_mode", default="PULL").upper()
    if mode not in ("PULL", "PUSH"):
        raise SetupError(f"submit_mode={mode!r} is neither PULL nor PUSH")
    return mode


def _worker_log_server(env: _Environment, payload_server: str) -> str:
    """Its own setting, or where the payload's records go; set to nothing means
    off.
    """
    if env.empty_on_purpose("WORKERLOG_LOGGING_SERVER"):
        return ""
    return env.get("WORKERLOG_LOGGING_SERVER", default=payload_server)


def _pod(env: _Environment) -> PodName:
    if not env.get("K8S_JOB_ID", "KUBERNETES_SERVICE_HOST"):
        return PodName()
    return PodName(
        namespace=env.get("POD_NAMESPACE", default="default"),
        pod=env.get("POD_NAME", "HOSTNAME"),
        container=env.get("CONTAINER_NAME"),
    )


def _source(options: argparse.Namespace, env: _Environment) -> PilotSource:
    """Option, template, queue (CRIC's pilot_url reaches us as `--piloturl
    URL`), image.

    A URL may end in `#sha256=<hex>`, so that a queue can pin what it names.
    """
    text = options.pilot_url or env.get("PILOT_SOURCE")
    if not text:
        words = _words(env, "pilotUrlOpt")
        text = words[1] if len(words) == 2 and words[0] == "--piloturl" else ""
    url, fragment = urldefrag(text)
    pinned = re.fullmatch(r"sha256=([0-9A-Fa-f]+)", fragment)
    sha256 = options.sha256 or (pinned[1] if pinned else "") or env.get("PILOT_SHA256")
    return PilotSource(
        url="" if url in ("image", "local") else url,
        sha256=sha256.lower(),
        public_key=_path(options.public_key or env.get("PILOT_PUBLIC_KEY")),
        fallback=not options.no_fallback and env.get("PILOT_NO_FALLBACK").lower() not in _YES,
        timeout_s=env.number("PILOT_FETCH_SECONDS", FETCH_S),
    )


def _credentials(env: _Environment) -> CredentialSources:
    return CredentialSources(
        proxy_path=env.get("proxySecretPath"),
        proxy_in_place=env.get("X509_USER_PROXY"),
        proxy_content=env.get("proxyContent"),
        token_dir=env.get("PANDA_AUTH_DIR", "OIDC_AUTH_DIR"),
        token_name=env.get("PANDA_AUTH_TOKEN", "OIDC_AUTH_TOKEN"),
        token_key_name=env.get("PANDA_AUTH_TOKEN_KEY"),
        # Harvester's own value is a constant, `atlas.pilot`, and comes last.
        token_origin=env.get("PILOT_AUTH_ORIGIN", "PANDA_AUTH_ORIGIN", "OIDC_AUTH_ORIGIN"),
        google_path=env.get("GOOGLE_APPLICATION_CREDENTIALS"),
    )


def _storage(env: _Environment) -> StorageConfig:
    """As the pilot's own, from the same variables (`pilot_core/settings.py`)."""
    link = env.get("PILOT_LOG_URL", default="public")
    kinds = ("public", "authenticated", "signed")
    if link not in kinds:
        raise SetupError(f"PILOT_LOG_URL={link!r}: expected one of {', '.join(kinds)}")
    return StorageConfig(
        gcs_endpoint=env.get("STORAGE_EMULATOR_HOST"),
        link=link,
        s3_profile=env.get("PANDA_PILOT_AWS_PROFILE"),
        token_file=_path(env.get("BEARER_TOKEN_FILE")),
        proxy_file=_path(env.get("X509_USER_PROXY")),
        ca_path=_path(env.get("X509_CERT_DIR")),
    )


def _for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without placeholders left as they were, and what is only
    ours.
    """
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_FOR_CHILDREN and value not in (f"${name}", f"${{{name}}}")
    }
