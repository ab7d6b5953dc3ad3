"""PURE: options and Harvester's environment -> `StarterConfig`.

Placeholders of the job template that nobody replaced (`$proxyContent`) arrive
as they stand, and switched-off features as empty strings: both mean "not set"
here (harvester d561b72, `k8s_utils.create_job_from_yaml`).
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from pilot_core.config import StorageConfig
from pilot_core.errors import SetupError
from pilot_core.resolve import BadSetting, Value, resolve
from pilot_starter.config import (
    CredentialSources,
    PilotSource,
    PodName,
    StarterConfig,
    WorkerLogTarget,
)
from pilot_starter.table import DEFAULT_LOG, SETTINGS, sha256
from pilot_starter.upload import log_name_of

__all__ = ["read", "settings"]

# The template's placeholders; never needed by wrapper or pilot, and in one
# case a secret.
_NOT_FOR_CHILDREN = frozenset({"proxyContent", "proxySecretPath", "PILOT_AUTH_ORIGIN", "PILOT_EXTRA_OPTIONS"})


def read(options: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, Value]:
    """What options and variables say, by setting; options come first.

    Raises
    ------
    SetupError
        Naming the option or variable, and its value.
    """
    try:
        return resolve(SETTINGS, options, {name: value.strip() for name, value in environment.items()}, {})
    except BadSetting as err:
        raise SetupError(str(err)) from err


def settings(values: dict[str, Value], extra: Sequence[str], environment: Mapping[str, str]) -> StarterConfig:
    """Everything one worker needs.

    Parameters
    ----------
    values
        From `read`; what is made out of others is put into them, too.
    extra
        Options for the pilot.
    environment
        As it is.

    Raises
    ------
    SetupError
        Naming the option or variable.
    """

    _derive(values, environment)
    plain: dict[str, Any] = {name: value.value for name, value in values.items() if "." not in name}
    plain["extra_options"] = (*plain.get("extra_options", ()), *extra)
    if "server_url" in plain:
        plain["server_url"] = plain["server_url"].rstrip("/")
    plain = {
        "queue": "",
        "site": "",
        "hostname": socket.gethostname(),
        "tmp_dir": Path("/tmp"),
        "worker_log": Path(DEFAULT_LOG),
        **plain,
    }
    return StarterConfig(
        **plain,
        source=PilotSource(**_part(values, "source")),
        credentials=CredentialSources(**_part(values, "credentials")),
        logging=WorkerLogTarget(**_part(values, "logging")),
        storage=StorageConfig(**_part(values, "storage")),
        pod=PodName(**_part(values, "pod")),
        job_dirs=(Path("/scratch/jobconfig"), plain["tmp_dir"] / "jobconfig", Path.cwd()),
        child_environment=_for_children(environment),
    )


def _part(values: Mapping[str, Value], section: str) -> dict[str, Any]:
    """The settings of one part, by their names in it."""
    return {
        name.removeprefix(f"{section}."): value.value
        for name, value in values.items()
        if name.startswith(f"{section}.")
    }


def _derive(values: dict[str, Value], environment: Mapping[str, str]) -> None:
    """Settings that are made of others, with the source of the first of these."""

    def get(name: str, default: Any = "") -> Any:
        return values[name].value if name in values else default

    def make(name: str, value: object, origin: str) -> None:
        if value:
            values[name] = Value(value, values[origin].source)

    if "site" not in values:
        make("site", get("queue"), "queue")
    if "cli.no_fallback" in values:
        values["source.fallback"] = replace(values["cli.no_fallback"], value=not get("cli.no_fallback"))
    if "source.url" not in values:
        make("source.url", get("cli.pilot_url"), "cli.pilot_url")
    _pin(values)
    if environment.get("WORKERLOG_LOGGING_SERVER") == "":
        # Set to nothing means off.
        values["logging.server"] = Value("", "WORKERLOG_LOGGING_SERVER")
    elif "logging.server" not in values and get("use_realtime"):
        make("logging.server", get("realtime_server"), "realtime_server")
    log_name = log_name_of(get("harvester_id"), get("worker_id", None), asked=get("cli.log_name"))
    if read_url := log_name and get("cli.log_read_url"):
        make("log_link", f"{read_url.rstrip('/')}/{log_name}", "cli.log_read_url")
    if get("log_upload_url"):
        make("log_name", log_name, "cli.log_name" if log_name == get("cli.log_name") else "harvester_id")
    if not any(_given(environment, name) for name in ("K8S_JOB_ID", "KUBERNETES_SERVICE_HOST")):
        for name in [name for name in values if name.startswith("pod.")]:
            del values[name]
    elif "pod.namespace" not in values:
        values["pod.namespace"] = Value("default", "default")


def _pin(values: dict[str, Value]) -> None:
    """A URL may end in `#sha256=<hex>`, so that a queue can pin what it names;
    the option comes before it, PILOT_SHA256 after it.
    """
    if "source.url" not in values:
        return
    text, source = str(values["source.url"].value), values["source.url"].source
    url, fragment = urldefrag(text)
    values["source.url"] = Value("" if url in ("image", "local") else url, source)
    if not fragment.startswith("sha256"):
        return
    try:
        pinned = sha256(fragment.removeprefix("sha256="))
    except ValueError as err:
        raise SetupError(f"{source}={text!r}: after sha256= {err}") from err
    if "source.sha256" not in values or values["source.sha256"].source != "--sha256":
        values["source.sha256"] = Value(pinned, source)


def _given(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip()
    return bool(text) and not text.startswith("$")


def _for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without placeholders left as they were, and what is only
    ours.
    """
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_FOR_CHILDREN and value not in (f"${name}", f"${{{name}}}")
    }
