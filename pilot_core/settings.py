"""Every setting in one table: its option, variables, INI key, unit and
meaning; and the options of pilot3 that change nothing here. Pure.

`resolve.py` says which source counts (PANDAPILOT_LIFETIME alone beats its
option, as it does in pilot3), `cli.py` reads the sources, and
`pilot.py --show-config` prints the result with the source of each value.
"""

from pilot_core.base import text
from pilot_core.resolve import Ignored, Setting

__all__ = ["IGNORED", "SETTINGS"]

SETTINGS: tuple[Setting, ...] = (
    # who we are
    Setting("worker.queue", "PanDA queue", flags=("-q", "--queue"), env=("PILOT_QUEUE",)),
    Setting("cli.workdir", "folder below which the pilot makes its own", flags=("-a", "--workdir")),
    Setting("worker.debug", "log at level DEBUG", flags=("-d", "--debug"), const=True),
    Setting("worker.version_tag", "version tag, part of pilotID", flags=("-i", "--versiontag")),
    Setting(
        "worker.lifetime_s",
        "longest life of the pilot",
        text.count,
        flags=("-l", "--lifetime"),
        env=("PANDAPILOT_LIFETIME",),
        unit="s",
        env_wins=True,
    ),
    Setting("worker.pilot_user", "experiment", str.lower, flags=("--pilot-user",)),
    Setting(
        "worker.cleanup", "remove a job's folder once all of it is stored", text.flag, flags=("--cleanup",)
    ),
    Setting(
        "worker.send_worker_status",
        "do not tell the server that the worker started and finished",
        flags=("-k", "--noworkerpilotstatusupdate"),
        const=False,
    ),
    Setting("worker.harvester_id", "Harvester instance", env=("HARVESTER_ID",)),
    Setting("worker.worker_id", "Harvester's worker", text.number, env=("HARVESTER_WORKER_ID", "workerID")),
    Setting("worker.scheduler_id", "schedulerID of job updates", env=("PANDA_JSID",)),
    Setting("worker.log_url", "URL of the worker's log", env=("GTAG",)),
    Setting("worker.hostname", "name of the node", env=("PANDA_HOSTNAME",)),
    Setting(
        "worker.starter_pid", "end when this parent process ends", text.count, env=("PILOT_STARTER_PID",)
    ),
    Setting("worker.pod_name", "name of the pod", env=("POD_NAME", "HOSTNAME")),
    # the server
    Setting("cli.url", "PanDA server, with or without port", flags=("--url",), ini="Pilot.pandaserver"),
    Setting("cli.port", "PanDA server's port if the URL has none", text.count, flags=("-p", "--port")),
    Setting(
        "server.api",
        "dialect: auto, v1 or legacy",
        text.one_of("auto", "v1", "legacy"),
        flags=("--panda-api",),
        env=("PANDA_API",),
    ),
    Setting(
        "server.talk",
        "never talk to the server; write heartbeat.json instead",
        flags=("-z", "--noserverupdate"),
        const=False,
    ),
    Setting("server.renew_token", "do not renew tokens", flags=("-y", "--notokenrenewal"), const=False),
    Setting("cli.proxy", "X.509 proxy", text.path, env=("X509_USER_PROXY",)),
    Setting(
        "server.renew_proxy",
        "leave the X.509 proxy to others: do not renew it",
        flags=("-t", "--noproxyverification"),
        const=False,
    ),
    Setting(
        "server.proxy_role",
        "VOMS role of a renewed X.509 proxy, empty for the server's default",
        flags=("--proxy-role",),
        env=("PILOT_PROXY_ROLE",),
    ),
    Setting("cli.cacert", "CA bundle, or a proxy file", text.path, flags=("--cacert",)),
    Setting(
        "server.ca_path", "folder of CA certificates", text.path, flags=("--capath",), env=("X509_CERT_DIR",)
    ),
    Setting("cli.token", "file name of the OIDC token", env=("OIDC_AUTH_TOKEN", "PANDA_AUTH_TOKEN")),
    Setting("server.token_origin", "vo.role of the token", env=("OIDC_AUTH_ORIGIN", "PANDA_AUTH_ORIGIN")),
    Setting("cli.token_dir", "folder of the token", env=("OIDC_AUTH_DIR", "PANDA_AUTH_DIR")),
    Setting("cli.token_key", "file with the key for fresh tokens", env=("PANDA_AUTH_TOKEN_KEY",)),
    Setting("server.connect_s", "connecting", text.seconds, ini="Pilot.http_connect_timeout", unit="s"),
    Setting("server.read_s", "one answer", text.seconds, ini="Pilot.http_maxtime", unit="s"),
    # queue and storage data
    Setting(
        "info.queuedata_url",
        "queue data",
        flags=("--queuedata-url",),
        env=("QUEUEDATA_SERVER_URL",),
        ini="Information.queuedata_url",
    ),
    Setting(
        "info.storagedata_url",
        "storage data",
        flags=("--storagedata-url",),
        env=("STORAGEDATA_SERVER_URL",),
        ini="Information.storages_url",
    ),
    Setting("info.cric_url", "CRIC", env=("PILOT_CRIC_URL",), ini="Information.cric_url"),
    # jobs
    Setting("jobs.label", "prodSourceLabel of requests", flags=("-j", "--joblabel")),
    Setting(
        "jobs.submit_mode",
        "PULL asks for jobs, PUSH finds one",
        text.one_of("PULL", "PUSH"),
        flags=("--harvester-submit-mode",),
    ),
    Setting(
        "jobs.requests",
        "requests without a job before the pilot ends",
        text.count,
        flags=("-v", "--getjobrequests"),
    ),
    Setting(
        "jobs.failures", "failed requests before the pilot ends", text.count, flags=("-x", "--getjobfailures")
    ),
    Setting("cli.datadir", "folder with pandaJobData.out", text.path, flags=("--harvester-datadir",)),
    Setting(
        "harvester.folder",
        "Harvester's folder",
        text.path,
        flags=("--harvester-workdir",),
        env=("HARVESTER_WORKDIR",),
    ),
    Setting("harvester.files", "list of output files", text.path, flags=("--harvester-eventstatusdump",)),
    Setting("harvester.attributes", "state of the job", text.path, flags=("--harvester-workerattributes",)),
    Setting(
        "harvester.names",
        "whose names the shared files have: harvester or pilot3",
        text.one_of("harvester", "pilot3"),
        flags=("--harvester-file-names",),
    ),
    Setting("jobs.resource_type", "resource type", text.resource_type, flags=("--resource-type",)),
    Setting("jobs.job_type", "job type", flags=("--job-type",)),
    Setting("jobs.working_group", "working group", flags=("--working-group",)),
    Setting("jobs.country_group", "country group", flags=("--country-group",)),
    Setting(
        "jobs.allow_other_country", "jobs of other countries", text.flag, flags=("--allow-other-country",)
    ),
    Setting("jobs.allow_same_user", "next job from the same task", text.flag, flags=("--allow-same-user",)),
    Setting(
        "jobs.min_free_mb", "free space needed to ask", text.size_mb, ini="Pilot.free_space_limit", unit="MB"
    ),
    Setting("jobs.max_jobs", "jobs before the pilot ends, 0 for any", text.count, flags=("--max-jobs",)),
    Setting("jobs.drain_file", "take no further job once it exists", text.path, flags=("--drain-file",)),
    Setting(
        "jobs.wait_for_load",
        "ask for no job while the node is busy",
        text.flag,
        env=("PILOT_ENABLE_DELAY_TO_GET_JOB",),
        ini="Pilot.enable_delay_to_get_job",
    ),
    Setting(
        "jobs.load_factor",
        "load per core that counts as busy",
        text.seconds,
        env=("PILOT_LOAD_FACTOR",),
        ini="Pilot.load_factor",
    ),
    # heartbeat
    Setting("heartbeat.period_s", "between updates", text.seconds, ini="Pilot.heartbeat", unit="s"),
    Setting("heartbeat.debug_period_s", "in debug mode", text.seconds, ini="Pilot.debug_heartbeat", unit="s"),
    Setting(
        "heartbeat.lost_s", "without an accepted update", text.seconds, ini="Pilot.lost_heartbeat", unit="s"
    ),
    # payload
    Setting(
        "payload.engine",
        "auto, docker, process or kubernetes",
        text.one_of("auto", "docker", "process", "kubernetes"),
        flags=("--engine",),
        env=("PILOT_ENGINE",),
    ),
    Setting(
        "payload.shared_root",
        "folder with the same path on the host",
        text.path,
        flags=("--shared-root",),
        env=("PILOT_SHARED_ROOT",),
    ),
    Setting(
        "payload.base_urls",
        "where transformations may come from",
        text.words,
        flags=("-g", "--baseurls"),
        env=("PANDA_BASE_URLS",),
    ),
    Setting(
        "payload.pass_environment",
        "further variables for the payload, names or PREFIX_*",
        text.words,
        flags=("--pass-environment",),
        env=("PILOT_PASS_ENVIRONMENT",),
    ),
    Setting(
        "payload.grace_s",
        "between asking and killing a payload",
        text.seconds,
        flags=("--payload-grace",),
        unit="s",
    ),
    Setting("payload.pull_s", "longest image pull", text.seconds, flags=("--pull-timeout",), unit="s"),
    Setting(
        "payload.image_store_gb",
        "remove images that pilots pulled, longest unused first, above so many GB; 0 for never",
        text.gigabytes,
        flags=("--image-store-limit",),
        unit="GB",
    ),
    # payloads as pods
    Setting("kubernetes.pod", "our own pod", env=("POD_NAME", "HOSTNAME")),
    Setting("kubernetes.namespace", "namespace of our pod", env=("POD_NAMESPACE",)),
    Setting("kubernetes.account", "folder of the service account", text.path, env=("PILOT_SERVICE_ACCOUNT",)),
    Setting(
        "kubernetes.cgroup_root", "where the node's cgroups are seen", text.path, env=("PILOT_CGROUP_ROOT",)
    ),
    Setting(
        "kubernetes.place_s",
        "longest wait for a node with room",
        text.seconds,
        flags=("--place-timeout",),
        env=("PILOT_PLACE_SECONDS",),
        unit="s",
    ),
    # real-time log
    Setting(
        "cli.use_realtime",
        "ship the payload's log while it runs",
        flags=("--use-realtime-logging",),
        const="yes",
        convert=text.flag,
        env=("USE_REALTIME_LOGGING",),
    ),
    Setting(
        "realtime.server",
        "where real-time records go",
        flags=("--realtime-logging-server",),
        env=("REALTIME_LOGGING_SERVER",),
        ini="Pilot.rtlogging",
    ),
    Setting("realtime.logname", "log name", flags=("--realtime-logname",), env=("REALTIME_LOGNAME",)),
    Setting("realtime.files", "files to ship", text.names, env=("REALTIME_LOGFILES", "REALTIME_LOGFILE")),
    Setting(
        "realtime.interval_s",
        "between looks at a file",
        text.seconds,
        flags=("--realtime-interval",),
        unit="s",
    ),
    # monitoring
    Setting(
        "monitor.sample_s",
        "between samples",
        text.seconds,
        flags=("--sample-interval",),
        ini="Pilot.memory_usage_verification_time",
        unit="s",
    ),
    Setting(
        "monitor.memory_grace_s",
        "above the memory limit before the kill",
        text.seconds,
        flags=("--memory-grace",),
        unit="s",
    ),
    Setting(
        "monitor.looping_s",
        "silence that counts as looping",
        text.seconds,
        ini="Pilot.looping_limit_default",
        unit="s",
    ),
    Setting(
        "monitor.free_mb",
        "free space while running",
        text.size_mb,
        ini="Pilot.free_space_limit_running",
        unit="MB",
    ),
    Setting(
        "monitor.output_bytes",
        "largest output",
        text.kilobytes,
        ini="Pilot.local_size_limit_stdout",
        unit="bytes",
    ),
    Setting(
        "monitor.processes", "processes of a payload, 0 for no limit", text.count, flags=("--max-processes",)
    ),
    # storage
    Setting("storage.gcs_endpoint", "Cloud Storage's address", env=("STORAGE_EMULATOR_HOST",)),
    Setting(
        "storage.link",
        "kind of log URL: public, authenticated or signed",
        text.one_of("public", "authenticated", "signed"),
        flags=("--log-url",),
        env=("PILOT_LOG_URL",),
    ),
    Setting(
        "storage.link_s",
        "life of a signed URL, 7 days at most",
        text.count,
        flags=("--log-url-lifetime",),
        unit="s",
    ),
    Setting(
        "storage.gzip_bytes",
        "text from this size on is stored gzip-encoded, 0 for never",
        text.count,
        flags=("--log-gzip",),
        unit="bytes",
    ),
    Setting("storage.s3_profile", "profile of S3 credentials", env=("PANDA_PILOT_AWS_PROFILE",)),
    Setting("storage.token_file", "bearer token for https storage", text.path, env=("BEARER_TOKEN_FILE",)),
    Setting("storage.proxy_file", "X.509 proxy for https storage", text.path, env=("X509_USER_PROXY",)),
    Setting("storage.ca_path", "CA certificates of https storage", text.path, env=("X509_CERT_DIR",)),
    Setting("storage.upload_bundle", "store log.tgz as well", text.flag, flags=("--upload-bundle",)),
    Setting(
        "storage.cap_bytes", "largest log file stored whole", text.count, flags=("--log-cap",), unit="bytes"
    ),
    # wrap-up
    Setting("wrapup.drain_s", "last log records", text.seconds, flags=("--drain-timeout",), unit="s"),
    Setting("wrapup.upload_s", "upload of logs", text.seconds, flags=("--upload-timeout",), unit="s"),
    Setting(
        "wrapup.stageout_s", "the payload's outputs", text.seconds, flags=("--stageout-timeout",), unit="s"
    ),
    Setting(
        "payload.stagein_s", "the payload's inputs", text.seconds, flags=("--stagein-timeout",), unit="s"
    ),
    Setting("wrapup.final_s", "final report", text.seconds, flags=("--final-timeout",), unit="s"),
    Setting(
        "wrapup.preempt_s",
        "everything after SIGTERM",
        text.seconds,
        flags=("--preempt-budget",),
        env=("PILOT_GRACE_SECONDS",),
        unit="s",
    ),
    Setting(
        "wrapup.metadata_url",
        "says whether the node is being preempted, asked on Kubernetes after SIGTERM",
        env=("PILOT_METADATA_URL",),
    ),
)


IGNORED: tuple[Ignored, ...] = (
    Ignored(("-r", "--resource")),
    Ignored(("-s", "--site")),
    Ignored(("-w", "--workflow"), "there is one workflow"),
    Ignored(("-b", "--nocvmfs"), takes_value=False),
    Ignored(("-u", "--verifypayloadproxy"), takes_value=False),
    Ignored(("--no-pilot-log",), "the pilot's log is always kept with the job", takes_value=False),
    Ignored(("--redirect-stdout",), "redirect in the shell that starts the pilot"),
    Ignored(("--pod",), takes_value=False),
    Ignored(("--use-https",)),
    Ignored(("--use-rucio-traces",)),
    Ignored(("--rucio-host",), "no traces are sent to Rucio"),
    Ignored(("--stageout-attempts",), "a transfer is repeated as often as its time allows"),
    Ignored(("-L", "--leasetime"), "there is no stager workflow"),
    Ignored(("--input-dir",), "there are no HPC workflows"),
    Ignored(("--input-destination-dir",), "there are no HPC workflows"),
    Ignored(("--output-dir",), "the queue's storage says where outputs go"),
    Ignored(("--hpc-resource",), "there are no HPC workflows"),
    Ignored(("--hpc-mode",), "there are no HPC workflows"),
    Ignored(("--es-executor-type",), "there is no event service"),
    Ignored(("--subscribe-to-msgsvc",), "jobs do not come through the message broker", takes_value=False),
)
