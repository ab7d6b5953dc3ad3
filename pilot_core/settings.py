"""Every setting in one table: its option, variables, INI key, unit and
meaning. Pure.

`resolve.py` says which source counts (PANDAPILOT_LIFETIME alone beats its
option, as it does in pilot3), `cli.py` reads the sources, and
`pilot.py --show-config` prints the result with the source of each value.
`scripts/doc_tables.py` writes the table into docs/configuration.md.
"""

from collections.abc import Mapping

from pilot_core.base import text
from pilot_core.resolve import Setting
from pilot_core.server.url import DEFAULT_PORT, DEFAULT_SERVER

__all__ = ["GROUPS", "MADE", "SETTINGS"]

#: Parts of `config.py` in the order of help and documents, and what they are
#: about.
GROUPS: Mapping[str, str] = {
    "worker": "the pilot itself",
    "server": "the PanDA server",
    "info": "queue and storage data",
    "jobs": "which jobs, and how many",
    "harvester": "files shared with Harvester",
    "heartbeat": "heartbeats",
    "payload": "how payloads run",
    "kubernetes": "payloads as pods",
    "realtime": "the log while the payload runs",
    "monitor": "watching the payload",
    "storage": "storing logs",
    "wrapup": "time for what follows a payload",
}

#: What is made of other settings, and of which; the first that is given is its
#: source.
MADE: Mapping[str, tuple[str, ...]] = {
    "worker.home": ("cli.workdir",),
    "info.folder": ("cli.workdir",),
    "server.spare_folder": ("cli.workdir",),
    "server.url": ("cli.url", "cli.port"),
    "server.proxy_file": ("cli.cacert", "cli.proxy"),
    "server.ca_file": ("cli.cacert",),
    "info.ca_file": ("cli.cacert",),
    "payload.ca_file": ("cli.cacert",),
    "server.token_file": ("cli.token", "cli.token_dir"),
    "server.token_key_file": ("cli.token_key", "cli.token_dir"),
    "info.ca_path": ("server.ca_path",),
    "realtime.enabled": ("cli.use_realtime",),
    "info.server_url": ("server.talk", "cli.url", "cli.port"),
    "jobs.push_file": ("cli.datadir", "harvester.folder", "jobs.submit_mode"),
}

SETTINGS: tuple[Setting, ...] = (
    # who we are
    Setting("worker.queue", "PanDA queue", "-q --queue PILOT_QUEUE", shape="QUEUE"),
    Setting(
        "cli.workdir",
        "folder below which the pilot makes its own",
        "-a --workdir",
        text.path,
        default="the current one itself",
    ),
    Setting("worker.debug", "log at level DEBUG", "-d --debug", const=True),
    Setting("worker.version_tag", "version tag, part of pilotID", "-i --versiontag"),
    Setting(
        "worker.lifetime_s",
        "longest life of the pilot",
        "PANDAPILOT_LIFETIME -l --lifetime",
        text.whole_seconds,
    ),
    Setting("worker.pilot_user", "experiment", "--pilot-user", str.lower),
    Setting("worker.cleanup", "remove a job's folder once all of it is stored", "--cleanup", text.flag),
    Setting(
        "worker.send_worker_status",
        "do not tell the server that the worker started and finished",
        "-k --noworkerpilotstatusupdate",
        const=False,
    ),
    Setting("worker.harvester_id", "name of the Harvester instance", "HARVESTER_ID"),
    Setting("worker.worker_id", "number of Harvester's worker", "HARVESTER_WORKER_ID workerID", text.number),
    Setting("worker.scheduler_id", "schedulerID in job updates", "PANDA_JSID"),
    Setting("worker.log_url", "URL of the worker's log", "GTAG", text.url),
    Setting("worker.hostname", "name of the node", "PANDA_HOSTNAME", default="its own"),
    Setting("worker.starter_pid", "end when this parent process ends", "PILOT_STARTER_PID", text.count),
    Setting("worker.pod_name", "name of the pod", "POD_NAME HOSTNAME"),
    # the server
    Setting(
        "cli.url",
        "PanDA server, with or without port",
        "--url Pilot.pandaserver",
        text.url,
        default=DEFAULT_SERVER,
    ),
    Setting(
        "cli.port",
        "PanDA server's port if the URL has none",
        "-p --port",
        text.port,
        default=f"{DEFAULT_PORT}",
    ),
    Setting(
        "server.api",
        "dialect of the server's API",
        "--panda-api PANDA_API",
        text.one_of("auto", "v1", "legacy"),
    ),
    Setting(
        "server.talk",
        "never talk to the server; write heartbeat.json instead",
        "-z --noserverupdate",
        const=False,
    ),
    Setting("server.renew_token", "do not renew tokens", "-y --notokenrenewal", const=False),
    Setting(
        "cli.proxy", "X.509 proxy", "X509_USER_PROXY", text.path, default="/tmp/x509up_u<uid> if it is there"
    ),
    Setting(
        "server.renew_proxy",
        "leave the X.509 proxy to others: do not renew it",
        "-t --noproxyverification",
        const=False,
    ),
    Setting(
        "server.proxy_role",
        "VOMS role of a renewed X.509 proxy, empty for the server's default",
        "--proxy-role PILOT_PROXY_ROLE",
    ),
    Setting("cli.cacert", "CA bundle, or a proxy file", "--cacert", text.path),
    Setting(
        "server.ca_path",
        "folder of CA certificates",
        "--capath X509_CERT_DIR",
        text.path,
        default="/etc/grid-security/certificates if it is there",
    ),
    Setting("cli.token", "file name of the OIDC token", "OIDC_AUTH_TOKEN PANDA_AUTH_TOKEN"),
    Setting("server.token_origin", "vo.role of the token", "OIDC_AUTH_ORIGIN PANDA_AUTH_ORIGIN"),
    Setting("cli.token_dir", "folder of the token", "OIDC_AUTH_DIR PANDA_AUTH_DIR"),
    Setting("cli.token_key", "file with the key for fresh tokens", "PANDA_AUTH_TOKEN_KEY"),
    Setting("server.connect_s", "longest wait for a connection", "Pilot.http_connect_timeout", text.seconds),
    Setting("server.read_s", "longest wait for an answer", "Pilot.http_maxtime", text.seconds),
    # queue and storage data
    Setting(
        "info.queuedata_url",
        "where queue data come from, `{pandaqueue}` stands for the queue",
        "--queuedata-url QUEUEDATA_SERVER_URL Information.queuedata_url",
        text.url,
    ),
    Setting(
        "info.storagedata_url",
        "where data of ddmendpoints come from",
        "--storagedata-url STORAGEDATA_SERVER_URL Information.storages_url",
        text.url,
    ),
    Setting(
        "info.queues_cvmfs",
        "file with all queues, `CVMFS_PATH` stands for /cvmfs or ATLAS_SW_BASE",
        "Information.queues_cvmfs",
        text.path,
    ),
    Setting("info.storages_cvmfs", "file with all ddmendpoints", "Information.storages_cvmfs", text.path),
    Setting(
        "info.cric_url",
        "CRIC, asked where no other source has the data",
        "PILOT_CRIC_URL Information.cric_url",
        text.url,
    ),
    # jobs
    Setting("jobs.label", "prodSourceLabel of requests", "-j --joblabel"),
    Setting(
        "jobs.submit_mode",
        "PULL asks for jobs, PUSH finds one",
        "--harvester-submit-mode",
        text.one_of("PULL", "PUSH"),
    ),
    Setting(
        "jobs.requests", "requests without a job before the pilot ends", "-v --getjobrequests", text.count
    ),
    Setting(
        "jobs.failures",
        "failed requests, or ones without a job, before the pilot ends",
        "-x --getjobfailures",
        text.count,
    ),
    Setting("cli.datadir", "folder with pandaJobData.out", "--harvester-datadir", text.path),
    Setting(
        "harvester.folder", "folder shared with Harvester", "--harvester-workdir HARVESTER_WORKDIR", text.path
    ),
    Setting(
        "harvester.files",
        "file that tells Harvester of output files",
        "--harvester-eventstatusdump",
        text.path,
    ),
    Setting(
        "harvester.attributes",
        "file that tells Harvester of the job's state",
        "--harvester-workerattributes",
        text.path,
    ),
    Setting(
        "harvester.names",
        "whose names the shared files have",
        "--harvester-file-names",
        text.one_of("harvester", "pilot3"),
    ),
    Setting(
        "jobs.resource_type", "resource type of the jobs to ask for", "--resource-type", text.resource_type
    ),
    Setting("jobs.job_type", "job type to ask for", "--job-type"),
    Setting("jobs.working_group", "working group to ask for", "--working-group"),
    Setting("jobs.country_group", "country group to ask for", "--country-group"),
    Setting(
        "jobs.allow_other_country", "take jobs of other countries, too", "--allow-other-country", text.flag
    ),
    Setting("jobs.allow_same_user", "take the next job from the same task", "--allow-same-user", text.flag),
    Setting("jobs.min_free_mb", "free space needed to ask for a job", "Pilot.free_space_limit", text.size_mb),
    Setting("jobs.max_jobs", "jobs before the pilot ends, 0 for any", "--max-jobs", text.count),
    Setting("jobs.drain_file", "take no further job once it exists", "--drain-file", text.path),
    Setting(
        "jobs.wait_for_load",
        "ask for no job while the node is busy",
        "PILOT_ENABLE_DELAY_TO_GET_JOB Pilot.enable_delay_to_get_job",
        text.flag,
    ),
    Setting(
        "jobs.load_factor",
        "load per core that counts as busy",
        "PILOT_LOAD_FACTOR Pilot.load_factor",
        text.ratio,
    ),
    # heartbeat
    Setting("heartbeat.period_s", "between two updates of a job", "Pilot.heartbeat", text.seconds),
    Setting("heartbeat.debug_period_s", "the same in debug mode", "Pilot.debug_heartbeat", text.seconds),
    Setting(
        "heartbeat.lost_s",
        "without an accepted update: the job is given up",
        "Pilot.lost_heartbeat",
        text.seconds,
    ),
    # payload
    Setting(
        "payload.engine",
        "what runs payloads",
        "--engine PILOT_ENGINE",
        text.one_of("auto", "docker", "process", "kubernetes"),
    ),
    Setting(
        "payload.shared_root",
        "folder of the jobs, with the same path on the host and in the pilot's container",
        "--shared-root PILOT_SHARED_ROOT",
        text.path,
    ),
    Setting(
        "payload.base_urls",
        "URL prefixes that transformations may come from",
        "-g --baseurls PANDA_BASE_URLS",
        text.words,
    ),
    Setting(
        "payload.pass_environment",
        "further variables of ours that the payload gets, `NAME_*` for a prefix",
        "--pass-environment PILOT_PASS_ENVIRONMENT",
        text.words,
    ),
    Setting(
        "payload.grace_s", "between asking a payload to end and killing it", "--payload-grace", text.seconds
    ),
    Setting("payload.pull_s", "longest image pull", "--pull-timeout", text.seconds),
    Setting(
        "payload.image_store_gb",
        "above so much, remove images that pilots pulled, longest unused first; 0 for never",
        "--image-store-limit",
        text.gigabytes,
    ),
    # payloads as pods
    Setting("kubernetes.pod", "our own pod", "POD_NAME HOSTNAME"),
    Setting("kubernetes.namespace", "namespace of our pod", "POD_NAMESPACE"),
    Setting("kubernetes.account", "folder of the service account", "PILOT_SERVICE_ACCOUNT", text.path),
    Setting("kubernetes.cgroup_root", "where the node's cgroups are seen", "PILOT_CGROUP_ROOT", text.path),
    Setting(
        "kubernetes.place_s",
        "longest wait for a node with room",
        "--place-timeout PILOT_PLACE_SECONDS",
        text.seconds,
    ),
    # real-time log
    Setting(
        "cli.use_realtime",
        "ship the payload's log while it runs",
        "--use-realtime-logging USE_REALTIME_LOGGING",
        text.flag,
        const="yes",
    ),
    Setting(
        "realtime.server",
        "who gets it: google-cloud-logging, loki;URL, fluent;URL, logstash;URL, file;PATH or stdout",
        "--realtime-logging-server REALTIME_LOGGING_SERVER Pilot.rtlogging",
        shape="SERVICE[;URL]",
    ),
    Setting("realtime.logname", "name of the log there", "--realtime-logname REALTIME_LOGNAME"),
    Setting("realtime.loki_url", "Loki's address, before the one that the service's name has", "LOKI_URL"),
    Setting(
        "realtime.loki_labels",
        "fields of a record that are labels at Loki, too: words, or a JSON list",
        "LOKI_LABELKEYS",
        text.listed,
    ),
    Setting(
        "realtime.files",
        "files to ship, below the job's folder",
        "REALTIME_LOGFILES REALTIME_LOGFILE",
        text.names,
    ),
    Setting("realtime.interval_s", "between two looks at a file", "--realtime-interval", text.seconds),
    # monitoring
    Setting(
        "monitor.sample_s",
        "between two samples",
        "--sample-interval Pilot.memory_usage_verification_time",
        text.seconds,
    ),
    Setting(
        "monitor.memory_grace_s",
        "how long a payload may be above its memory limit",
        "--memory-grace",
        text.seconds,
    ),
    Setting(
        "monitor.looping_s",
        "a payload silent and idle for so long is looping",
        "Pilot.looping_limit_default",
        text.seconds,
    ),
    Setting(
        "monitor.free_mb",
        "least free space while a payload runs",
        "Pilot.free_space_limit_running",
        text.size_mb,
    ),
    Setting(
        "monitor.output_bytes",
        "largest payload.stdout or payload.stderr; the INI key is in kB",
        "Pilot.local_size_limit_stdout",
        text.kilobytes,
    ),
    Setting(
        "monitor.processes", "most processes of a payload, 0 for no limit", "--max-processes", text.count
    ),
    # storage
    Setting("storage.gcs_endpoint", "address of Cloud Storage", "STORAGE_EMULATOR_HOST", default="Google's"),
    Setting(
        "storage.link",
        "kind of log URL that people get",
        "--log-url PILOT_LOG_URL",
        text.one_of("public", "authenticated", "signed"),
    ),
    Setting(
        "storage.link_s", "life of a signed URL, 7 days at most", "--log-url-lifetime", text.whole_seconds
    ),
    Setting(
        "storage.gzip_bytes",
        "text from this size on is stored gzip-encoded, 0 for never",
        "--log-gzip",
        text.byte_count,
    ),
    Setting(
        "storage.output_mb",
        "largest output file of a job, which fails with a larger one; 0 for no limit",
        "Pilot.maximum_output_file_size",
        text.size_mb,
    ),
    Setting("storage.s3_profile", "profile of S3 credentials", "PANDA_PILOT_AWS_PROFILE"),
    Setting("storage.token_file", "bearer token for https storage", "BEARER_TOKEN_FILE", text.path),
    Setting("storage.proxy_file", "X.509 proxy for https storage", "X509_USER_PROXY", text.path),
    Setting("storage.ca_path", "CA certificates of https storage", "X509_CERT_DIR", text.path),
    Setting("storage.upload_bundle", "store log.tgz as well", "--upload-bundle", text.flag),
    Setting(
        "storage.cap_bytes",
        "largest log file stored whole, 0 for the largest output",
        "--log-cap",
        text.byte_count,
    ),
    # wrap-up
    Setting("wrapup.drain_s", "delivery of the last log records", "--drain-timeout", text.seconds),
    Setting("wrapup.upload_s", "upload of the logs", "--upload-timeout", text.seconds),
    Setting("wrapup.stageout_s", "stage-out of the payload's outputs", "--stageout-timeout", text.seconds),
    Setting("payload.stagein_s", "stage-in of the payload's inputs", "--stagein-timeout", text.seconds),
    Setting("wrapup.final_s", "delivery of the final report", "--final-timeout", text.seconds),
    Setting(
        "wrapup.preempt_s",
        "everything after SIGTERM together",
        "--preempt-budget PILOT_GRACE_SECONDS",
        text.seconds,
    ),
    Setting(
        "wrapup.metadata_url",
        "asked on Kubernetes after SIGTERM whether the node is being preempted",
        "PILOT_METADATA_URL",
        text.url,
        default="Google's",
    ),
)
