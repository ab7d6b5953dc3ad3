"""Job, queue and payload into a container spec: pure, pinned by pairs of files
in `tests/golden/compile`.
"""

from collections.abc import Mapping
from pathlib import Path

from container.spec import ContainerSpec, Mount
from pilot_core.config import PayloadConfig
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadKind, PayloadSpec

__all__ = ["FAMILY", "container_spec", "job_labels", "job_paths"]

#: Prefix of every label of ours on a container.
LABEL = "org.panda.pilot."

#: On everything that any pilot of ours starts; the reaper looks at nothing
#: else.
FAMILY = {f"{LABEL}family": "panda"}


def job_paths(job: Job, *, home: Path, shared_root: Path) -> JobPaths:
    """The folders of a job; the names are pilot3's, which people and scripts
    know.
    """
    return JobPaths(
        home=home,
        work=home / f"PanDA_Pilot-{job.panda_id}",
        shared=shared_root / str(job.panda_id),
    )


def job_labels(job: Job, *, queue: str, owner: Mapping[str, str]) -> dict[str, str]:
    """Labels of everything a job starts: whose it is, and which pilot may
    remove it.
    """
    return {
        **FAMILY,
        f"{LABEL}job": str(job.panda_id),
        f"{LABEL}task": str(job.task_id or ""),
        f"{LABEL}queue": queue,
        **owner,
    }


def container_spec(
    payload: PayloadSpec,
    paths: JobPaths,
    *,
    labels: Mapping[str, str],
    config: PayloadConfig,
    tasks: int,
    memory_bytes: int = 0,
    cpus: float = 0.0,
) -> ContainerSpec:
    """What the engine has to run.

    A transformation runs beside the pilot in the job's directory. An image
    runs in the job's shared folder, the only one that has the same path on the
    host, in the pilot's container and in the payload's; the pilot's own files
    (its log, payload.stdout and payload.stderr) stay out of the payload's
    reach.

    Parameters
    ----------
    tasks
        Most processes and threads; 0 for no limit.
    memory_bytes, cpus
        What the job may use. A pod is given it as its limits; elsewhere the
        pilot watches, with the grace that goes with it.
    """
    image = payload.kind is PayloadKind.IMAGE
    pod = image and config.engine == "kubernetes"
    return ContainerSpec(
        name=f"panda-{payload.panda_id}",
        argv=(*payload.shell, payload.command),
        workdir=str(paths.shared if image else paths.work),
        stdout=paths.stdout,
        stderr=paths.stderr,
        image=payload.image,
        environment=payload.environment,
        labels=labels,
        mounts=(Mount(str(paths.shared), str(paths.shared)),),
        network=config.network,
        memory_bytes=memory_bytes if pod else 0,
        cpus=cpus if pod else 0.0,
        processes=tasks,
        # Signals must arrive and orphans be reaped in what a script starts,
        # too.
        init=True,
    )
