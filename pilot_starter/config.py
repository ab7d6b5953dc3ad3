"""Settings of the starter, frozen; `cli.py` fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.config import StorageConfig
from pilot_core.server.url import DEFAULT_SERVER

__all__ = [
    "FETCH_S",
    "CredentialSources",
    "PilotSource",
    "PodName",
    "StarterConfig",
    "WorkerLogTarget",
]

#: Longest download of a pilot, seconds.
FETCH_S = 180.0


@dataclass(frozen=True, slots=True)
class PilotSource:
    """Where the pilot comes from.

    Attributes
    ----------
    url
        `http`, `https` or `file` URL of `pilot3.tar.gz`; empty for the pilot
        that is installed beside the starter.
    sha256
        Hex digest the tarball must have; empty if nobody said.
    public_key
        PEM file with the key whose signature a tarball must have; None if
        nobody asks for one.
    fallback
        Use the installed pilot when the tarball cannot be had.
    timeout_s
        Longest download, all attempts together.
    """

    url: str = ""
    sha256: str = ""
    public_key: Path | None = None
    fallback: bool = True
    timeout_s: float = FETCH_S


@dataclass(frozen=True, slots=True)
class CredentialSources:
    """What Harvester says about credentials; all of it may be absent.

    Attributes
    ----------
    proxy_path
        Proxy file in a mounted Secret (proxySecretPath).
    proxy_in_place
        A proxy that is ours already (X509_USER_PROXY at a batch site); used
        where it is if nothing else was given.
    proxy_content
        The proxy itself, with commas for newlines (proxyContent).
    token_dir, token_name, token_key_name
        Folder and file names of the OIDC token and its renewal key.
    token_origin
        `vo.role`.
    google_path
        Service account key; left where it is, only looked at.
    """

    proxy_path: str = ""
    proxy_in_place: str = ""
    proxy_content: str = field(default="", repr=False)
    token_dir: str = ""
    token_name: str = ""
    token_key_name: str = ""
    token_origin: str = ""
    google_path: str = ""


@dataclass(frozen=True, slots=True)
class WorkerLogTarget:
    """Where the worker's log is shipped while the pilot runs; no server means
    nowhere.

    Attributes
    ----------
    server
        Spelled as for `--realtime-logging-server`.
    logname
        Name of the log.
    interval_s
        Time between two looks at the file.
    """

    server: str = ""
    logname: str = "Panda-WorkerLog"
    interval_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PodName:
    """How Kubernetes calls us, from the downward API; empty outside of it."""

    namespace: str = ""
    pod: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class StarterConfig:
    """Everything one worker needs.

    Attributes
    ----------
    tmp_dir
        Where the worker's own folder is made (TMPDIR).
    work_dir
        A folder given from outside instead; it is kept at the end.
    job_dirs
        Where Harvester may have put the job of a PUSH worker.
    worker_log, state_file
        The worker's log, and what `healthcheck` and `status` read.
    log_upload_url, log_name, log_link
        Base URL that takes the worker's log, its name there, its address for
        readers.
    storage
        For the logs of a job whose pilot is dead.
    health_address
        Where `/healthz` and `/metrics` are served; None for nowhere.
    metadata_url
        Where the notice of preemption is asked for; empty for Google's place.
    grace_s
        From SIGTERM to the end of everything.
    child_environment
        What the wrapper starts with, before credentials are added.
    """

    queue: str
    site: str
    tmp_dir: Path
    worker_log: Path
    source: PilotSource = field(default_factory=PilotSource)
    credentials: CredentialSources = field(default_factory=CredentialSources)
    logging: WorkerLogTarget = field(default_factory=WorkerLogTarget)
    storage: StorageConfig = field(default_factory=StorageConfig)
    resource_type: str = ""
    label: str = "managed"
    version_tag: str = "PR"
    server_url: str = DEFAULT_SERVER
    server_api: str = "auto"
    submit_mode: str = "PULL"
    use_realtime: bool = False
    realtime_server: str = ""
    realtime_logname: str = ""
    extra_options: tuple[str, ...] = ()
    harvester_id: str = ""
    worker_id: int | None = None
    hostname: str = ""
    pod: PodName = field(default_factory=PodName)
    work_dir: Path | None = None
    job_dirs: tuple[Path, ...] = ()
    log_upload_url: str = ""
    log_name: str = ""
    log_link: str = ""
    termination_log: Path = Path("/dev/termination-log")
    metadata_url: str = ""
    health_address: tuple[str, int] | None = None
    grace_s: float = 12.0
    silent_s: float = 600.0
    upload_s: float = 60.0
    debug: bool = True
    ca_file: Path | None = None
    ca_path: Path | None = None
    child_environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def state_file(self) -> Path:
        """Beside the worker's log: who runs where."""
        return self.worker_log.with_suffix(".json")
