"""Settings, frozen: one class a capability, units in the names, defaults with
their reason.

Nothing here reads anything: `cli.py` fills it in from options, environment and
files, and hands each part to the one capability it belongs to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Config",
    "HarvesterConfig",
    "HeartbeatConfig",
    "InfoConfig",
    "JobsConfig",
    "KubernetesConfig",
    "MonitorConfig",
    "PayloadConfig",
    "RealtimeConfig",
    "ServerConfig",
    "StorageConfig",
    "WorkerConfig",
    "WrapupConfig",
]


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Who this pilot is.

    Attributes
    ----------
    queue
        PanDA queue (-q).
    home
        The pilot's main directory; job directories are made below it.
    version_tag
        -i; third part of pilotID.
    lifetime_s
        Longest life of the pilot (-l); the queue's maxtime comes before it.
    harvester_id, worker_id, scheduler_id
        From HARVESTER_ID, HARVESTER_WORKER_ID, PANDA_JSID.
    log_url
        GTAG: where the worker's own log will be found; first part of pilotID
        until the job's log is uploaded.
    starter_pid
        The starter, if it is our parent: the pilot does not outlive it. 0 for
        none.
    id_file
        One PandaID per line is appended to it: the wrapper reads it. None: do
        not.
    """

    queue: str
    home: Path
    debug: bool = False
    version_tag: str = "PR"
    lifetime_s: int = 324_000
    harvester_id: str = ""
    worker_id: int | None = None
    scheduler_id: str = "unknown"
    log_url: str = "unknown"
    pilot_user: str = "rubin"
    cleanup: bool = True
    send_worker_status: bool = True
    id_file: Path | None = None
    hostname: str = ""
    batch_type: str = ""
    batch_id: str = ""
    pod_name: str = ""
    starter_pid: int = 0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How to reach the PanDA server.

    Attributes
    ----------
    url
        Base URL with port, without a path.
    api
        `auto`, `v1` or `legacy`.
    proxy_file
        X.509 proxy: certificate and key in one PEM file; re-read when it
        changes.
    token_file, token_origin
        OIDC bearer token and the mandatory Origin (`vo.role`).
    ca_file, ca_path
        CA bundle and directory of hashed CA certificates; None for the
        system's.
    connect_s, read_s
        Timeouts of one attempt.
    acquire_s
        For a request for a job: the server itself waits up to 60 s for one.
    renew_token
        Exchange the token before it ends, where there is a key to do so.
    renew_proxy, proxy_role
        Ask the server for a fresh proxy before ours ends; with which VOMS
        role, empty for the server's default.
    spare_folder
        For a fresh proxy where `proxy_file` cannot be written.
    talk
        False (`-z`): nobody is told; heartbeat.json is written instead.
    """

    url: str
    api: str = "auto"
    proxy_file: Path | None = None
    token_file: Path | None = None
    token_origin: str = ""
    token_key_file: Path | None = None
    ca_file: Path | None = None
    ca_path: Path | None = None
    connect_s: float = 10.0
    read_s: float = 60.0
    acquire_s: float = 90.0
    renew_token: bool = True
    renew_proxy: bool = True
    proxy_role: str = ""
    spare_folder: Path | None = None
    talk: bool = True


@dataclass(frozen=True, slots=True)
class HarvesterConfig:
    """Files shared with Harvester; used if `folder` is set.

    Attributes
    ----------
    names
        `harvester` or `pilot3`: whose file names.
    attributes, files
        Paths of worker_attributes.json and event_status.dump.json where
        options name them.
    """

    folder: Path | None = None
    names: str = "harvester"
    attributes: Path | None = None
    files: Path | None = None


@dataclass(frozen=True, slots=True)
class InfoConfig:
    """Where queue and storage data are looked for, in this order.

    Attributes
    ----------
    folder
        Files from the wrapper: cric_pandaqueues.json, queuedata.json,
        cric_ddmendpoints.json. Also the cache.
    queuedata_url, storagedata_url
        --queuedata-url, --storagedata-url; `{pandaqueue}` stands for the
        queue.
    server_url
        The PanDA server's cache, `/cache/schedconfig/<queue>.all.json`.
    queues_cvmfs, storages_cvmfs
        Files that a site has on CVMFS; None for none.
    cric_url
        CRIC itself.
    lifetime_s
        A cached document is used for so long.
    """

    folder: Path
    queuedata_url: str = ""
    storagedata_url: str = ""
    server_url: str = ""
    queues_cvmfs: Path | None = None
    storages_cvmfs: Path | None = None
    cric_url: str = "https://datalake-cric.cern.ch"
    lifetime_s: float = 10_800.0
    ca_file: Path | None = None
    ca_path: Path | None = None


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """When and how to take a job.

    Attributes
    ----------
    submit_mode
        PULL or PUSH.
    requests
        Requests without a job in a row before the pilot ends (-v).
    failures
        Failed requests in a row before the pilot ends (-x); requests without
        a job, too, if that is less than `requests`.
    no_job_wait_s
        Upper and lower bound of the jittered wait after "no jobs", in PULL.
    push_file
        pandaJobData.out; waited for, at most `push_wait_s`.
    wait_for_load, load_factor
        Ask for no job while the node's load is above this many times its
        cores.
    """

    label: str = "managed"
    submit_mode: str = "PULL"
    requests: int = 2
    failures: int = 5
    no_job_wait_s: tuple[float, float] = (60.0, 180.0)
    push_file: Path | None = None
    push_wait_s: float = 600.0
    resource_type: str = ""
    job_type: str = ""
    working_group: str = ""
    country_group: str = ""
    allow_other_country: bool = False
    allow_same_user: bool = True
    min_free_mb: int = 2_048
    max_jobs: int = 0
    drain_file: Path | None = None
    wait_for_load: bool = False
    load_factor: float = 1.2


@dataclass(frozen=True, slots=True)
class HeartbeatConfig:
    """Updates while a job runs.

    Attributes
    ----------
    period_s
        The server fails a job after 7200 s without one.
    debug_period_s
        While a debug command is active.
    lost_s
        Without a single accepted update for so long, the job has been given
        to somebody else; the payload is stopped.
    """

    period_s: float = 1_800.0
    debug_period_s: float = 60.0
    lost_s: float = 10_800.0


@dataclass(frozen=True, slots=True)
class PayloadConfig:
    """How payloads run.

    Attributes
    ----------
    engine
        `auto`, `docker`, `process` or `kubernetes`.
    shared_root
        Same path on the host and in the pilot's container; the job's shared
        folder is `<shared_root>/<PandaID>`.
    base_urls
        URL prefixes a transformation may come from; empty for the
        experiment's.
    grace_s
        Between asking a payload to end and killing it.
    pull_s
        Longest image pull.
    image_store_gb
        Above so many GB of images on the node those that pilots have pulled
        are removed again, longest unused first; 0 for never.
    environment
        The pilot's environment; experiments pass a declared part of it on.
    pass_environment
        Further names the payload gets from it; `NAME_*` stands for a prefix.
    """

    engine: str = "auto"
    shared_root: Path = Path("/tmp/panda")
    base_urls: tuple[str, ...] = ()
    grace_s: float = 10.0
    fetch_s: float = 120.0
    stagein_s: float = 7_200.0
    pull_s: float = 1_800.0
    image_store_gb: float = 0.0
    network: str = "host"
    ca_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    pass_environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """The cluster we run in, for `--engine kubernetes`.

    Attributes
    ----------
    pod
        Our own pod, which payloads belong to.
    namespace
        Where pods live; empty for what the service account says.
    account
        Folder with the service account's `token`, `ca.crt` and `namespace`.
    cgroup_root
        Where the node's cgroups can be seen, for CPU time and memory.
    place_s
        Longest wait for a node with room.
    """

    pod: str = ""
    namespace: str = ""
    account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    cgroup_root: Path = Path("/sys/fs/cgroup")
    place_s: float = 600.0


@dataclass(frozen=True, slots=True)
class RealtimeConfig:
    """Real-time logging of the payload.

    Attributes
    ----------
    server
        `google-cloud-logging[;http://host:port]`, `file;<path>`, `stdout`...
        Every spelling found in the field is accepted, see `logship/target.py`.
    logname
        Log name (`Panda-RubinLog`).
    files
        Names below the job directory, or absolute paths. Both kinds of
        payload are served where nobody says: Rubin's, which writes records,
        and one that prints.
    interval_s
        Time between two looks at a file.
    loki_url, loki_labels
        LOKI_URL: comes before the address that `server` names, as for pilot3;
        LOKI_LABELKEYS: fields of a record that are labels as well.
    """

    enabled: bool = False
    server: str = ""
    loki_url: str = ""
    loki_labels: tuple[str, ...] = ()
    logname: str = "Panda-RubinLog"
    files: tuple[str, ...] = ("payload-log.json", "payload.stdout")
    interval_s: float = 5.0
    memory_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """Watching the payload.

    Attributes
    ----------
    sample_s
        Time between two samples.
    looping_s
        Silent and idle for so long means looping.
    free_mb
        Free space below which a job is failed.
    output_bytes
        Largest payload.stdout or payload.stderr.
    workdir_grace, memory_grace_s
        pilot3: 1.2 of maxwdir; seconds above maxrss before the kill.
    processes
        A payload with more processes is ended; far above what a pipeline
        starts (a few per core), far below what stops a node from forking. 0
        for no limit.
    """

    sample_s: float = 30.0
    looping_s: float = 7_200.0
    free_mb: int = 1_024
    output_bytes: int = 2 * 1024**3
    workdir_grace: float = 1.2
    memory_grace_s: float = 60.0
    processes: int = 5_000

    @property
    def tasks(self) -> int:
        """Processes and threads beyond which the kernel refuses more.

        It does not tell one from the other: twice as many leave room for the
        threads of a payload that has its processes in order, and let what
        forks faster than we look be seen above its limit.
        """
        return 2 * self.processes


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Storing logs.

    Attributes
    ----------
    gcs_endpoint
        STORAGE_EMULATOR_HOST; empty for Google itself.
    link
        `public`, `authenticated` (Google's login) or `signed`: the kind of
        URL that people get.
    link_s
        How long a signed URL is good for; seconds, 7 days at most.
    upload_bundle
        Store `log.tgz` besides the single files.
    cap_bytes
        A larger log file is stored as its head and tail, 64 MiB at most; 0
        for the largest output that a payload may have (`output_bytes`).
    gzip_bytes
        Text of at least so many bytes is stored gzip-encoded in buckets; 0
        for never: what is packed can only be read from its beginning.
    output_mb
        Largest output file of a job; 0 for no limit. The default is pilot3's.
    s3_profile
        PANDA_PILOT_AWS_PROFILE; empty for the SDK's own search for
        credentials.
    token_file, proxy_file, ca_path
        For https: bearer token or X.509 proxy, read when they are used, and
        the file or folder of CA certificates; None for none and the system's.
    """

    gcs_endpoint: str = ""
    link: str = "public"
    link_s: int = 7 * 86_400
    upload_bundle: bool = False
    cap_bytes: int = 0
    gzip_bytes: int = 0
    output_mb: int = 500 * 1024
    s3_profile: str = ""
    token_file: Path | None = None
    proxy_file: Path | None = None
    ca_path: Path | None = None

    @property
    def signed_s(self) -> int:
        """Lifetime of signed URLs; 0 if they are not signed."""
        return min(self.link_s, 7 * 86_400) if self.link == "signed" else 0


@dataclass(frozen=True, slots=True)
class WrapupConfig:
    """Time for what follows a payload, seconds; each step has its own
    allowance.

    Attributes
    ----------
    drain_s, upload_s, stageout_s
        Last log records; upload of the log files; the payload's outputs.
    final_s
        Final report: tried for as long as a server outage may last.
    preempt_s
        Everything, counted from SIGTERM. A Spot pod gets 15 s; the starter
        works with 12 s and needs the difference for the worker log.
    hasty_s
        What is left after a second signal.
    metadata_url
        Where a cloud says that it takes the node away; empty for Google's own.
    """

    drain_s: float = 30.0
    upload_s: float = 900.0
    stageout_s: float = 7_200.0
    final_s: float = 4 * 3_600.0
    preempt_s: float = 9.0
    hasty_s: float = 3.0
    metadata_url: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything."""

    worker: WorkerConfig
    server: ServerConfig
    info: InfoConfig
    harvester: HarvesterConfig = field(default_factory=HarvesterConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    heartbeat: HeartbeatConfig = field(default_factory=HeartbeatConfig)
    payload: PayloadConfig = field(default_factory=PayloadConfig)
    kubernetes: KubernetesConfig = field(default_factory=KubernetesConfig)
    realtime: RealtimeConfig = field(default_factory=RealtimeConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    wrapup: WrapupConfig = field(default_factory=WrapupConfig)
