"""A thousand pilots and one server that was away: how hard do they come back?

    python benchmarks/fleet_server.py [--pilots 1000] [--outage 600 3600]
        [--kind refused hang] [--seed 1 2] [--one-job]

The server is real: `LocalPanda` on a port of this machine, with its database
and its faults; it is stopped for the outage and started again on the same
port, or made to misbehave. Each pilot is the real conversation with it over
HTTP: `PandaServer` with its retries and connections, the heartbeat's thread
body, `PullSource`, `deliver_at_last` and the breather after it. Only time is
virtual: of all threads one runs, until it waits; then the clock jumps to the
earliest end of all waits.

The rates are those of the server's own record of requests; those that found
nobody at its port were counted by the pilots. Prints requests per second in
bins of a minute: the steady rate of 90 minutes before and the highest bin in
them (what chance alone does), the highest bin while the server is away, and the
highest one in the hour after; and the jobs that the server gave up in the end.
Fails if a bin during or after the outage is more than twice the steady rate, or
if a job is lost. Draws the rate over time in a PNG.

=========  ===================================================================
kind       what a pilot sees while the server is away
=========  ===================================================================
refused    nobody listens
busy       503 with `Retry-After: 30`
error      500
reset      the connection breaks after the request was sent
hang       nothing, until a gateway closes the connection after 45 s
=========  ===================================================================

With `--one-job` pilots end after a job (timefloor 0), and Harvester sends
another one in their place.
"""

import argparse
import contextlib
import itertools
import logging
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.turns import EPOCH, AlarmClock, World
from pilot_core.base.budget import Budget
from pilot_core.base.scope import Scope
from pilot_core.config import HeartbeatConfig, JobsConfig, ServerConfig, WrapupConfig
from pilot_core.errors import ServerError
from pilot_core.heartbeat import Heartbeat
from pilot_core.jobs.pull import PullSource
from pilot_core.local.definition import make
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda, RequestRecord
from pilot_core.model.job import Job
from pilot_core.model.report import FileReport, JobReport, JobState, Node, WorkerState
from pilot_core.server.answer import Answer
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from pilot_core.server.http import Http, NotSent
from pilot_core.server.wire import Request
from pilot_core.wrapup import breather_s, deliver_at_last

BIN_S = 60.0
#: What is measured; before that each slot has begun its first job.
BEFORE_S = 1.5 * 3600.0
AFTER_S = 3600.0
#: The length of a job, in units of the mean one, lies between these.
SHORTEST, LONGEST = 0.5, 1.5
#: Between a pilot's end and the start of the one that Harvester sends in its
#: place.
REPLACED_S = (60.0, 300.0)
#: So often a PanDA server looks for jobs whose pilots are silent.
WATCH_S = 2400.0
#: What is done to each request; None: the server is stopped.
KINDS: Mapping[str, Fault | None] = {
    "refused": None,
    "busy": Fault("*", FaultKind.STATUS, count=None, status=503, retry_after="30"),
    "error": Fault("*", FaultKind.STATUS, count=None, status=500),
    "reset": Fault("*", FaultKind.RESET, count=None),
    "hang": Fault("*", FaultKind.HANG, count=None, seconds=45.0),
}


class Site:
    """The server, and when requests came to it or to its closed door."""

    def __init__(self, folder: Path, world: World) -> None:
        self._folder, self._world = folder, world
        self.panda = LocalPanda(folder, clock=world)
        self.url = self.panda.url
        self.refused: list[float] = []
        self._arrived: list[float] = []
        self._spare = 0
        self._up = True
        self.panda.start()

    @property
    def sent(self) -> list[float]:
        """Moments of all requests."""
        return [*self._arrived, *_moments(self.panda.requests), *self.refused]

    def fill(self) -> None:
        """There is always a job for who asks."""
        if self._up and self._spare < 1:
            self.panda.store.submit(make(transformation="x"))
            self._spare += 1

    def given(self) -> None:
        """A pilot has got a job."""
        self._spare -= 1

    def be_away(self, kind: str, seconds: float) -> None:
        """The outage; returns after it."""
        world, fault = self._world, KINDS[kind]
        if fault is not None:
            self.panda.faults.add(fault)
            world.sleep_until(world.now + seconds)
            self.panda.faults.clear()
            return
        self._up = False
        self.panda.stop()
        self._arrived += _moments(self.panda.requests)
        world.sleep_until(world.now + seconds)
        self.panda = LocalPanda(self._folder, clock=world, port=int(self.url.rsplit(":", 1)[1]))
        self.panda.start()
        self._up = True

    def watch_until(self, when: float) -> None:
        """Give up silent jobs now and then, as the real one does."""
        while self._world.now < when:
            self._world.sleep_until(min(when, self._world.now + WATCH_S))
            self.panda.store.watch()


def _moments(records: Sequence[RequestRecord]) -> list[float]:
    return [record.time_s - EPOCH for record in records]


class Line(Http):
    """Notes who found nobody at the server's port."""

    refused: list[float]

    def send(self, request: Request, *, budget: Budget, read_s: float, file: Path | None = None) -> Answer:
        try:
            return super().send(request, budget=budget, read_s=read_s, file=file)
        except NotSent:
            self.refused.append(self._clock.monotonic())
            raise


class Slot:
    """One slot of the queue: a pilot, and after it the next one."""

    def __init__(self, number: int, site: Site, world: World, options: argparse.Namespace) -> None:
        self._number, self._site, self._options = number, site, options
        self._clock = AlarmClock(world)
        self._never = threading.Event()

    def live(self) -> None:
        """One pilot after the other, until the world ends."""
        # The rest of a job that was begun before the world was: so the slots are
        # in no step from the beginning. Long jobs are met more often.
        length_s = self._options.job * random.uniform(SHORTEST**2, LONGEST**2) ** 0.5
        self._pause(0.0, length_s)
        while True:
            config = ServerConfig(url=self._site.url, api="v1")
            server = PandaServer(config, clock=self._clock, harvester_id="fleet", worker_id=self._number)
            line = Line(config, server.auth, clock=self._clock)
            line.refused = self._site.refused
            server._http = line
            with contextlib.suppress(ServerError):
                self._be_a_pilot(server)
            server.close()
            self._pause(*REPLACED_S)

    def _be_a_pilot(self, server: PandaServer) -> None:
        whole = Budget(self._clock, 324_000.0, "pilot")
        self._tell(server, WorkerState.STARTED)

        def acquire(*, budget: Budget, stop: threading.Event) -> Mapping[str, object] | None:
            self._site.fill()
            request = JobRequest("LOCAL", "LOCAL", "managed", f"node{self._number}", 10_000, 4_000)
            job = server.acquire_job(request, budget=budget, stop=stop)
            if job is not None:
                self._site.given()
            return job

        source = PullSource(acquire, config=JobsConfig(), clock=self._clock)
        more = True
        while more and (job := source.next(budget=whole, stop=self._never)) is not None:
            waited_s = self._work(server, job)
            self._clock.wait(self._never, breather_s(waited_s))
            more = not self._options.one_job
        self._tell(server, WorkerState.FINISHED)

    def _tell(self, server: PandaServer, state: WorkerState) -> None:
        budget = Budget(self._clock, 15.0, "worker status")
        try:
            server.update_worker(state, site="LOCAL", node="node", budget=budget, stop=self._never)
        except ServerError:
            return

    def _work(self, server: PandaServer, job: Job) -> float:
        """One job; how long its final report had to wait, seconds."""
        clock = self._clock
        node = Node(f"node{self._number}")
        report = JobReport(job.panda_id, job.attempt, JobState.RUNNING, "LOCAL", node, start_s=clock.time())
        heartbeat = Heartbeat(
            server,
            report=lambda state: replace(report, state=state),
            heard=lambda _: None,
            lost=lambda _: None,
            config=HeartbeatConfig(),
            clock=clock,
        )
        heartbeat.say(JobState.STARTING)
        heartbeat.say(JobState.RUNNING)
        clock.alarm_s = clock.monotonic() + self._options.job * random.uniform(SHORTEST, LONGEST)
        clock.ring = heartbeat.quiet
        heartbeat.run(self._never)
        budget = Budget(clock, WrapupConfig().final_s, "final report")
        assert job.log is not None
        files = (FileReport(job.log.lfn, job.log.guid, 1000, "00000001"),)
        final = replace(report, state=JobState.FINISHED, end_s=clock.time(), exit_code=0, files=files)
        return deliver_at_last(server, final, budget=budget, hasten=self._never)

    def _pause(self, least_s: float, most_s: float) -> None:
        self._clock.wait(self._never, random.uniform(least_s, most_s))


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second: by minute, and what is said about them."""

    by_minute: Sequence[tuple[float, float]]
    steady: float
    before: float
    while_away: float
    after: float
    lost: int

    @property
    def burst(self) -> float:
        """The highest minute, in units of the steady rate."""
        return max(self.while_away, self.after) / self.steady


def simulate(options: argparse.Namespace, kind: str, away_s: float, seed: int) -> Rates:
    """All pilots together, before, during and after one outage."""
    random.seed(seed)
    world = World()
    away_at = LONGEST * options.job + BEFORE_S
    with tempfile.TemporaryDirectory() as folder, Scope("fleet") as scope:
        site = Site(Path(folder), world)
        try:
            for number in range(options.pilots):
                world.spawn(scope, Slot(number, site, world, options).live)
            site.watch_until(away_at)
            site.be_away(kind, away_s)
            site.watch_until(away_at + away_s + AFTER_S)
            lost = sum(job.status == "failed" for job in site.panda.store.jobs())
        finally:
            world.end()
            scope.stop()
            site.panda.stop()
        return measure([when - away_at for when in site.sent], away_s, lost)


def measure(sent: Sequence[float], away_s: float, lost: int) -> Rates:
    """Requests in bins of a minute; those `sent` count from the outage's
    beginning, and so do bins.
    """
    counts = Counter(int(when // BIN_S) for when in sent)
    first, back, last = -int(BEFORE_S // BIN_S), int(away_s // BIN_S), int((away_s + AFTER_S) // BIN_S)
    rate = {number: counts[number] / BIN_S for number in range(first, last)}
    return Rates(
        by_minute=[(number * BIN_S, rate[number]) for number in range(first, last)],
        steady=statistics.mean(rate[number] for number in range(first, 0)),
        before=max(rate[number] for number in range(first, 0)),
        while_away=max(rate[number] for number in range(back)),
        after=max(rate[number] for number in range(back, last)),
        lost=lost,
    )


def draw(runs: Mapping[tuple[str, float, int], Rates], image: Path) -> Path:
    """A PNG with a row for each kind and length of outage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = sorted({(kind, away_s) for kind, away_s, _ in runs})
    figure, rows = pyplot.subplots(len(cases), figsize=(9, 3.5 * len(cases)), squeeze=False)
    for axes, (kind, away_s) in zip(rows[:, 0], cases, strict=True):
        mine = {seed: rates for (*case, seed), rates in runs.items() if case == [kind, away_s]}
        steady = statistics.mean(rates.steady for rates in mine.values())
        for seed, rates in mine.items():
            minutes, rate = zip(*((s / 60, r) for s, r in rates.by_minute), strict=True)
            axes.step(minutes, rate, where="post", linewidth=0.8, label=f"seed {seed}")
        axes.axvspan(0, away_s / 60, alpha=0.2, label=f"server away: {kind}")
        axes.axhline(steady, linestyle=":", color="black", label="steady")
        axes.axhline(2 * steady, linestyle="--", color="black", label="twice steady")
        axes.set_xlabel("minutes since the outage began")
        axes.set_ylabel("requests per second")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small", ncols=3)
    figure.tight_layout()
    figure.savefig(image, dpi=100)
    return image


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pilots", type=int, default=1000)
    parser.add_argument("--outage", type=float, nargs="+", default=[600.0, 3600.0], help="seconds")
    parser.add_argument("--kind", nargs="+", default=["refused"], choices=list(KINDS))
    parser.add_argument("--job", type=float, default=3600.0, help="mean length of a job, seconds")
    parser.add_argument("--one-job", action="store_true", help="a pilot for each job")
    parser.add_argument("--image", type=Path, default=Path("fleet_server.png"))
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    options = parser.parse_args(argv)
    # Pilots warn of each failure; what ends a thread is an error.
    logging.disable(logging.WARNING)
    threading.stack_size(512 * 1024)
    print(f"{options.pilots} pilots, jobs of {options.job:.0f} s{', one a pilot' * options.one_job}")
    print("kind     away, s  seed  steady, 1/s   before  while away  hour after  jobs lost  took, s")
    runs: dict[tuple[str, float, int], Rates] = {}
    for case in itertools.product(options.kind, options.outage, options.seed):
        began = time.monotonic()
        runs[case] = rates = simulate(options, *case)
        kind, away_s, seed = case
        print(
            f"{kind:8} {away_s:7.0f} {seed:5} {rates.steady:12.2f} {rates.before / rates.steady:7.2f}x "
            f"{rates.while_away / rates.steady:10.2f}x {rates.after / rates.steady:10.2f}x "
            f"{rates.lost:10} {time.monotonic() - began:8.0f}",
            flush=True,
        )
    burst = max(rates.burst for rates in runs.values())
    print(f"highest minute: {burst:.2f} times the steady rate; drawn in {draw(runs, options.image)}")
    return 0 if burst <= 2.0 and not any(rates.lost for rates in runs.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
