"""The demonstration: a local server, four jobs, one worker, and what became of
them.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.clock import Clock, SystemClock
from pilot_core.base.complaint import complaint_in
from pilot_core.local.client import Unanswered
from pilot_core.local.demo import LOG, DemoJob, demo_jobs
from pilot_core.local.image import DockerCli, ImageProblem
from pilot_core.local.rows import ARCHIVED_STATES, JobRow
from pilot_core.local.server import LocalPanda
from pilot_core.local.shared import make_shared
from pilot_core.local.worker import Worker, WorkerPlan

__all__ = ["Outcome", "count_records", "run_demo"]

SCRIPTS = Path(__file__).parent / "transformations"
#: Seconds a job runs before it is cancelled.
CANCEL_AFTER_S = 3.0
#: Seconds for all jobs, and for the worker to leave after the last one.
LIMIT_S = 85.0
LEAVE_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended; `complaint` is empty if it ended as it should."""

    demo: DemoJob
    job: JobRow
    records: int
    complaint: str
    logs: Path


def count_records(path: Path) -> Counter[int]:
    """Records of the real-time log by PandaJobID; a missing file has none."""
    counts: Counter[int] = Counter()
    with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                counts[_panda_id(json.loads(line))] += 1
    return counts


def _panda_id(record: Mapping[str, object]) -> int:
    inner = record.get("jsonPayload")
    body = inner if isinstance(inner, dict) else record
    return int(str(body.get("PandaJobID") or 0))


@contextlib.contextmanager
def _engine(wanted: str, shared: Path, environment: Mapping[str, str], say: Say) -> Iterator[tuple[str, str]]:
    """Engine and image for the jobs; says which, and why."""
    docker = DockerCli(environment)
    image = ""
    try:
        if wanted == "process":
            say("engine    processes, as asked for")
            yield "process", ""
            return
        try:
            version = docker.version()
            image = docker.import_image([SCRIPTS / "demo"])
            make_shared(shared)
            docker.check_mount(image, shared)
        except (ImageProblem, Unanswered) as err:
            if wanted == "docker":
                raise
            say(f"engine    processes ({err})")
            yield "process", ""
            return
        say(f"engine    Docker {version}, image {image} made from programs of this machine")
        yield "docker", image
    finally:
        if image:
            docker.remove_image(image)


def run_demo(
    folder: Path,
    *,
    engine: str = "auto",
    shared: Path,
    environment: Mapping[str, str],
    say: Say,
    clock: Clock | None = None,
) -> list[Outcome]:
    """Run the demonstration below `folder` and tell how it goes.

    Parameters
    ----------
    shared
        For containers, with the same path in them.

    Raises
    ------
    ImageProblem, Unanswered
        With `engine="docker"`, if Docker cannot be used.
    """
    clock = clock or SystemClock()
    with LocalPanda(folder) as panda, _engine(engine, shared, environment, say) as (kind, image):
        say(f"server    {panda.url}, everything below {panda.folder}")
        jobs = demo_jobs(panda.url, image=image, shared=shared)
        watched = {panda.store.submit(demo.definition): demo for demo in jobs}
        for panda_id, demo in watched.items():
            say(f"submitted {panda_id}  {demo.title}")
        plan = WorkerPlan(
            url=panda.url,
            folder=panda.folder / "worker",
            engine=kind,
            jobs=len(watched),
            shared=shared if image else panda.folder / "shared",
            environment=environment,
        )
        worker = Worker(plan)
        worker.start()
        say(f"started   pilot-starter, its log is {plan.output}")
        try:
            _Watch(panda, worker, watched, say, clock).until_done()
        finally:
            code = worker.stop()
        say(f"ended     pilot-starter, exit code {code}")
        counts = count_records(plan.records)
        return [_outcome(panda, panda_id, demo, counts[panda_id], code) for panda_id, demo in watched.items()]


def _outcome(panda: LocalPanda, panda_id: int, demo: DemoJob, records: int, code: int | None) -> Outcome:
    job = panda.store.job(panda_id)
    complaint = demo.complaint(state=job.status, exit_code=job.exit_code, records=records)
    if not complaint and code:
        complaint = f"pilot-starter ended with exit code {code}"
    logs = panda.folder / "logs" / job.queue / f"PandaJob_{panda_id}"
    missing = [name for name in ("pilotlog.txt", LOG) if not (logs / name).is_file()]
    if not complaint and missing:
        complaint = f"no {' and no '.join(missing)} in {logs}"
    return Outcome(demo, job, records, complaint, logs)


class _Watch:
    """Follows the jobs, cancels the one that asks for it, until all have
    ended.
    """

    def __init__(
        self, panda: LocalPanda, worker: Worker, watched: Mapping[int, DemoJob], say: Say, clock: Clock
    ) -> None:
        self._panda = panda
        self._worker = worker
        self._watched = watched
        self._say = say
        self._clock = clock
        self._begin = clock.monotonic()
        self._states = dict.fromkeys(watched, "activated")
        self._cancelled: set[int] = set()

    def until_done(self) -> None:
        """Return when the worker has gone, or when the time is over."""
        end = self._begin + LIMIT_S
        leaving = 0.0
        while self._worker.poll() is None and self._clock.monotonic() < (leaving or end):
            self._panda.store.wait_for(self._changed, 0.5)
            self._tell()
            self._cancel()
            if not leaving and self._all_ended():
                leaving = self._clock.monotonic() + LEAVE_S
        self._tell()
        if not self._all_ended():
            why = "the worker has gone" if self._worker.poll() is not None else "the time is over"
            self._say(f"gave up   {why}, and not every job has ended; see {self._worker.plan.output}")
            said = complaint_in(self._worker.plan.output)
            if said:
                self._say(f"why       {said}")

    def _jobs(self) -> list[JobRow]:
        return [self._panda.store.job(panda_id) for panda_id in self._watched]

    def _changed(self) -> bool:
        return any(job.status != self._states[job.panda_id] for job in self._jobs())

    def _all_ended(self) -> bool:
        return all(job.status in ARCHIVED_STATES for job in self._jobs())

    def _tell(self) -> None:
        for job in self._jobs():
            if job.status == self._states[job.panda_id]:
                continue
            self._states[job.panda_id] = job.status
            seconds = self._clock.monotonic() - self._begin
            code = "" if job.payload_code is None else f", exit code {job.payload_code}"
            ending = code if job.status in ARCHIVED_STATES else ""
            self._say(f"{seconds:6.1f} s  {job.panda_id}  {job.status}{ending}")

    def _cancel(self) -> None:
        now = self._clock.time()
        for job in self._jobs():
            wanted = self._watched[job.panda_id].cancel and job.panda_id not in self._cancelled
            running = [u.time_s for u in self._panda.store.updates(job.panda_id) if u.status == "running"]
            if wanted and running and now - running[0] >= CANCEL_AFTER_S:
                self._cancelled.add(job.panda_id)
                self._panda.store.kill(job.panda_id)
                self._say(f"{self._clock.monotonic() - self._begin:6.1f} s  {job.panda_id}  cancelling it")
