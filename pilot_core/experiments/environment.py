"""What a payload finds in its environment: a declared list, and nothing else.

pilot3 hands its whole environment on, with the paths of its credentials in
it. Here a variable of the pilot passes for one of five reasons, written
beside it; everything else stays out. The pilot's own credentials pass only if
they are listed, here or by an operator, each by its full name.
"""

import re
from collections.abc import Iterable, Mapping

import pilot_core
from pilot_core.base.secretnames import secret_variable
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue

__all__ = ["BATCH_SITE", "HOST_BASICS", "LSST_SITE", "PANDA_CLIENT", "WORKER", "identity", "select"]

#: Who runs the job and where its log goes: read by runner scripts and by the
#: people who read their output. All kinds of payload get these.
WORKER = (
    "HARVESTER_ID",
    "HARVESTER_WORKER_ID",
    "PANDA_JSID",
    "REALTIME_LOGFILES",  # the runner names the payload's log after it
    "S3_ENDPOINT_URL",  # the runner hands it to its container for the butler
    "TZ",
)

#: What any script run beside the pilot needs of the machine. DOCKER_*: Rubin's
#: runner calls `docker run` itself. The certificate folders let it verify TLS.
HOST_BASICS = (
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "USER",
    "X509_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

#: Batch sites: the batch system's own, for programs started by srun or
#: mpiexec.
BATCH_SITE = ("SLURM_*", "PBS_*", "LSB_*", "_CONDOR_*", "SCRATCH", "CVMFS_*", "OMP_*", "OPENBLAS_*", "MKL_*")

#: What panda-client and iDDS read in a payload that submits further work:
#: remote build and custom commands of ctrl_bps_panda. PANDA_SERVER_URL is the
#: server of this pilot (`cli`). The others name the pilot's own token, as
#: pilot3 lets them: its file can be read by whoever runs as the pilot.
PANDA_CLIENT = (
    "PANDA_AUTH",
    "PANDA_AUTH_DIR",
    "PANDA_AUTH_ORIGIN",
    "PANDA_AUTH_VO",
    "PANDA_SERVER_URL",
)

#: Set by Rubin's site prolog (LSST_LOCAL_PROLOG of rubin-wrapper.sh) for the
#: stack on CVMFS: temporary space, butler repositories, the registry's login
#: file.
LSST_SITE = (
    "LSST_*",  # LSST_RUN_TEMP_SPACE, LSST_RESOURCES_*...
    # Paths, for all that they are called: `lsst.utils.db_auth` and
    # `lsst.resources` open the files, whose modes guard them.
    "LSST_DB_AUTH",
    "LSST_HTTP_AUTH_CLIENT_CERT",
    "LSST_HTTP_AUTH_CLIENT_KEY",
    "DAF_BUTLER_*",
    "CTRL_*",
    "RUBIN_*",
    "PGPASSFILE",
    "PGUSER",
    # The butler's S3 login at USDF: a profile's name, and paths of files.
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "XRD_*",
)

# Credentials of ours, whatever the rest of the name is.
_OURS = re.compile(r"^(PANDA_AUTH|OIDC|GOOGLE_APPLICATION|X509_USER)_")


def select(environment: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The part of `environment` that `patterns` name, sorted.

    Parameters
    ----------
    patterns
        Names; `PREFIX_*` takes every name with that prefix except those that
        look like a credential: such a name must be listed whole.

    Notes
    -----
    Values pass as they are. The password in `https_proxy` or in an
    `LSST_RESOURCES_S3_PROFILE_*` is what makes the URL work: without it the
    payload would reach nothing. What it prints of it is masked
    (`base.redact.url_passwords`).
    """
    patterns = tuple(patterns)
    names = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {
        name: environment[name]
        for name in sorted(environment)
        if name in names or (prefixes and name.startswith(prefixes) and not _secret(name))
    }


def _secret(name: str) -> bool:
    return secret_variable(name) or _OURS.match(name) is not None


def identity(job: Job, queue: Queue, paths: JobPaths, user: str) -> dict[str, str]:
    """What the pilot itself tells every payload: which job it is, where, and
    by whom.

    Names and values are pilot3's, PANDA_ATTEMPT excepted: Rubin's runner makes
    its log directory from PANDAID, wrappers read the others.
    """
    found = {
        "PANDAID": str(job.panda_id),
        "PANDA_ATTEMPT": str(job.attempt),
        "PILOT_EXEC_ITERATION_COUNT": "0",
        "PILOT_HOME": str(paths.home),
        "PILOT_SITENAME": queue.resource,
        "PILOT_USER": user,
        "PILOT_VERSION": pilot_core.__version__,
    }
    if job.task_id is not None:
        found["PanDA_TaskID"] = str(job.task_id)
    return found
