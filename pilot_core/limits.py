"""PURE: what a payload may use, and whether it still does.

No clock and no I/O: `limits_for` turns job and queue into `Limits` once,
`Judge` looks at each `Sample` and keeps only what a grace needs to remember.
"""

from collections import deque
from collections.abc import Callable, Mapping

from pilot_core.config import MonitorConfig
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.queue import Queue
from pilot_core.model.sample import Limits, Sample, Verdict

__all__ = ["IDLE_CORES", "Judge", "limits_for"]

MB = 1024 * 1024

#: A payload that used less than this many cores on average is idle. A hung one
#: still pays for prmon and a polling parent: about 0.01 in practice.
IDLE_CORES = 0.05

#: Points kept to tell how much CPU went into the silent time.
_HISTORY = 60


def limits_for(job: Job, queue: Queue, config: MonitorConfig, *, remaining_s: float | None) -> Limits:
    """What this job may use on this queue.

    Parameters
    ----------
    remaining_s
        Seconds that pilot and pod still have for the payload; None for no
        limit. Time for the wrap-up is the caller's to keep back.

    Notes
    -----
    CRIC's maxrss and maxwdir belong to a slot of `corecount` cores, so a job
    with fewer cores gets its share of both (Harvester cuts requests for
    memory and ephemeral storage the same way), but never less than the job
    itself asked for: the broker has already agreed to that. pilot3 divides
    maxwdir by the whole `corecount` for single-core jobs only, which is the
    same number for the jobs it was written for.

    `params.pilot_maxwdir_grace`, `pilot_rss_grace` and `pilot_walltime_grace`
    are per cent on top, as in pilot3; without them 20, 0 and 0.
    """
    here = f"queue {queue.name}"
    share = min(1.0, job.cores / queue.corecount) if queue.corecount > 0 else 1.0
    memory, memory_of = _part(queue.maxrss_mb, share, f"maxrss of {here}", job.min_ram_mb, "minRamCount")
    workdir, workdir_of = _part(
        queue.maxwdir_mb, share, f"maxwdir of {here}", job.max_disk_mb, "maxDiskCount"
    )
    walltime, walltime_of = _walltime(job, queue, remaining_s)
    return Limits(
        memory_kb=int(memory * 1024 * _grace(queue.params, "pilot_rss_grace", 1.0)),
        memory_grace_s=config.memory_grace_s,
        workdir_bytes=int(workdir * MB * _grace(queue.params, "pilot_maxwdir_grace", config.workdir_grace)),
        free_bytes=config.free_mb * MB,
        walltime_s=walltime,
        looping_s=config.looping_s if job.looping_check else 0.0,
        output_bytes=config.output_bytes,
        processes=config.processes,
        tasks=config.tasks,
        origins={"memory_kb": memory_of, "workdir_bytes": workdir_of, "walltime_s": walltime_of},
    )


def _part(slot_mb: int, share: float, of_queue: str, asked_mb: int, of_job: str) -> tuple[float, str]:
    """MB a job may use of a queue's number, and where that number comes from."""
    if slot_mb <= 0:
        return 0.0, ""
    part, asked = slot_mb * share, min(asked_mb, slot_mb)
    if asked > part:
        return float(asked), f"{of_job} of the job"
    return part, of_queue if share == 1.0 else f"{share:.3g} of the {of_queue}"


def _walltime(job: Job, queue: Queue, remaining_s: float | None) -> tuple[float, str]:
    """Seconds the payload may run, 0 for no limit, and whose limit that is."""
    factor = _grace(queue.params, "pilot_walltime_grace", 1.0)
    limits = [
        (job.max_walltime_s * factor, "maxWalltime of the job"),
        (float(queue.maxtime_s), f"maxtime of queue {queue.name}"),
    ]
    found = [limit for limit in limits if limit[0] > 0]
    if remaining_s is not None:
        # Nothing left is a limit too, and 0 would mean none.
        found.append((max(1.0, remaining_s), "the pilot's remaining lifetime"))
    return min(found, default=(0.0, ""))


#: Per cent; more is a mistake, as are NaN and infinity.
_MOST_GRACE = 10_000.0


def _grace(params: Mapping[str, object], name: str, default: float) -> float:
    """A grace of CRIC's `params`, per cent on top, as a factor."""
    value = params.get(name)
    try:
        per_cent = -1.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return default
    return 1.0 + per_cent / 100.0 if 0.0 <= per_cent <= _MOST_GRACE else default


class Judge:
    """Looks at the samples of one payload, in their order.

    The checks run in the order of `_checks`: what endangers the node comes
    first. Numbers that could not be measured never count against a payload.

    Parameters
    ----------
    limits
        From `limits_for`; 0 switches a limit off.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # running_s of the first sample above the memory limit since it was
        # below.
        self._above_since: float | None = None
        # The youngest file's time, and running_s when it last changed.
        self._newest: float | None = None
        self._touched_s = 0.0
        # (running_s, cpu_s), for the CPU use of the last looping_s seconds.
        self._cpu: deque[tuple[float, float]] = deque()
        self._checks: tuple[Callable[[Sample], Verdict | None], ...] = (
            self._free,
            self._memory,
            self._workdir,
            self._output,
            self._tasks,
            self._processes,
            self._walltime,
            self._looping,
        )

    def look(self, sample: Sample) -> Verdict | None:
        """The first limit this sample crosses, or None."""
        self._remember_cpu(sample)
        if sample.newest_mtime not in (None, self._newest):
            self._newest, self._touched_s = sample.newest_mtime, sample.running_s
        verdicts = (check(sample) for check in self._checks)
        return next((verdict for verdict in verdicts if verdict is not None), None)

    def _of(self, field: str) -> str:
        origin = self._limits.origins.get(field, "")
        return f" ({origin})" if origin else ""

    def _free(self, sample: Sample) -> Verdict | None:
        free, limit = sample.free_bytes, self._limits.free_bytes
        if free is None or not limit or free >= limit:
            return None
        return Verdict(
            ErrorCode.NOLOCALSPACE,
            f"{free // MB} MB free on the file system of the work directory, {limit // MB} MB needed",
        )

    def _memory(self, sample: Sample) -> Verdict | None:
        # Shared pages count once in PSS; RSS of a process tree counts them in
        # every process, which is not the payload's fault.
        used = sample.rss_kb if sample.pss_kb is None else sample.pss_kb
        limit = self._limits.memory_kb
        if used is None or not limit:
            return None
        if used <= limit:
            self._above_since = None
            return None
        if self._above_since is None:
            self._above_since = sample.running_s
        above_s = sample.running_s - self._above_since
        if above_s < self._limits.memory_grace_s:
            return None
        return Verdict(
            ErrorCode.PAYLOADEXCEEDMAXMEM,
            f"payload used {used // 1024} MB of memory for {above_s:.0f} s"
            f" ({sample.memory_source or 'unknown source'}), limit {limit // 1024} MB{self._of('memory_kb')}",
        )

    def _workdir(self, sample: Sample) -> Verdict | None:
        size, limit = sample.workdir_bytes, self._limits.workdir_bytes
        if size is None or not limit or size <= limit:
            return None
        return Verdict(
            ErrorCode.USERDIRTOOLARGE,
            f"work directory holds {size // MB} MB, limit {limit // MB} MB{self._of('workdir_bytes')}",
        )

    def _output(self, sample: Sample) -> Verdict | None:
        limit = self._limits.output_bytes
        for name, size in (("payload.stdout", sample.stdout_bytes), ("payload.stderr", sample.stderr_bytes)):
            if size is not None and limit and size > limit:
                return Verdict(
                    ErrorCode.STDOUTTOOBIG,
                    f"{name} holds {size // MB} MB, limit {limit // MB} MB of the pilot",
                )
        return None

    def _processes(self, sample: Sample) -> Verdict | None:
        count, limit = sample.processes, self._limits.processes
        if count is None or not limit or count <= limit:
            return None
        # "Resource temporarily unavailable" is what fork says at the node's
        # own limit.
        return Verdict(
            ErrorCode.RESOURCEUNAVAILABLE, f"payload runs {count} processes, limit {limit} of the pilot"
        )

    def _tasks(self, sample: Sample) -> Verdict | None:
        # A Docker daemon does not tell processes from threads, nor how many
        # were refused.
        count, refused, limit = sample.threads or 0, sample.refused_forks or 0, self._limits.tasks
        if not limit or not (refused or count >= limit):
            return None
        more = f", {refused} more were refused" if refused else ""
        return Verdict(
            ErrorCode.RESOURCEUNAVAILABLE,
            f"payload runs {count} processes and threads, limit {limit} of the pilot{more}",
        )

    def _walltime(self, sample: Sample) -> Verdict | None:
        limit = self._limits.walltime_s
        if not limit or sample.running_s <= limit:
            return None
        return Verdict(
            ErrorCode.REACHEDMAXTIME,
            f"payload ran for {sample.running_s:.0f} s, limit {limit:.0f} s{self._of('walltime_s')}",
        )

    def _looping(self, sample: Sample) -> Verdict | None:
        limit = self._limits.looping_s
        if not limit or sample.newest_mtime is None or sample.running_s <= limit:
            return None
        # Who sets the node's clock forward must not make a payload silent; a
        # file dated in the future hides what is written after it.
        silent_s = min(sample.time - sample.newest_mtime, sample.running_s - self._touched_s)
        if silent_s <= limit:
            return None
        cores = self._mean_cores(sample)
        if cores is not None and cores >= IDLE_CORES:
            return None
        idle = "its CPU use is unknown" if cores is None else f"used {cores:.3f} cores"
        return Verdict(
            ErrorCode.LOOPINGJOB,
            f"payload touched no file for {silent_s:.0f} s and {idle}, limit {limit:.0f} s of the pilot",
        )

    def _remember_cpu(self, sample: Sample) -> None:
        """Keep enough points to know the CPU time at the start of the silent
        time.
        """
        limit = self._limits.looping_s
        if not limit or sample.cpu_s is None:
            return
        points = self._cpu
        if not points or sample.running_s - points[-1][0] >= limit / _HISTORY:
            points.append((sample.running_s, sample.cpu_s))
        # The oldest point left is the youngest that is at least looping_s old.
        while len(points) > 1 and sample.running_s - points[1][0] >= limit:
            points.popleft()

    def _mean_cores(self, sample: Sample) -> float | None:
        """Cores used over the last `looping_s` seconds or so; None if unknown
        then.
        """
        if sample.cpu_s is None or not self._cpu:
            return None
        since_s, then_s = self._cpu[0]
        passed_s = sample.running_s - since_s
        if passed_s < 0.9 * self._limits.looping_s:
            return None
        return max(0.0, sample.cpu_s - then_s) / passed_s
