"""What a payload finds in its environment: a declared list, and nothing else.

pilot3 hands its whole environment on, with the paths of its credentials in
it. Here a variable of the pilot passes for one of four reasons, written
beside it; everything else stays out. The pilot's own credentials pass only if
an operator names them, each by its full name.
"""

import re
from collections.abc import Iterable, Mapping

import pilot_core
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue

__all__ = ["BATCH_SITE", "HOST_BASICS", "LSST_SITE", "WORKER", "identity", "select"]

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

#: Set by Rubin's site prolog (LSST_LOCAL_PROLOG of rubin-wrapper.sh) for the
#: stack on CVMFS: temporary space, butler repositories, the registry's login
#: file.
LSST_SITE = (
    "LSST_*",  # LSST_RUN_TEMP_SPACE, LSST_RESOURCES_*, LSST_DB_AUTH...
    "DAF_BUTLER_*",
    "CTRL_*",
    "RUBIN_*",
    "PGPASSFILE",
    "PGUSER",
    "XRD_*",
)

# A wildcard never opens the door for a secret: such a name must be listed
# whole.
_SECRET = re.compile(
    r"^(PANDA_AUTH|OIDC)_|^GOOGLE_APPLICATION|TOKEN|SECRET|PASSWORD|PASSWD|PRIVATE_KEY|ACCESS_KEY|^X509_USER_"
)


def select(environment: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The part of `environment` that `patterns` name, sorted.

    Parameters
    ----------
    patterns
        Names; `PREFIX_*` takes every name with that prefix except those that
        look like a credential.
    """
    patterns = tuple(patterns)
    names = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {
        name: environment[name]
        for name in sorted(environment)
        if name in names or (prefixes and name.startswith(prefixes) and not _SECRET.search(name))
    }


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
