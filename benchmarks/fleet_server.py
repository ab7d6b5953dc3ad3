"""A thousand pilots and one server that was away: how hard do they come back?

    python benchmarks/fleet_server.py [--pilots 1000] [--outage 600 3600]
        [--seed 1 2 3] [--kind refused] [--job 3600]

Each pilot is the real conversation: `PandaServer` with its retries, the
heartbeat's thread body, `PullSource`, `deliver_at_last` and the breather after
it; only the line to the server (`Http`) is a stand-in that notes the time of
each request. The pilots share nothing but the outage, so each lives alone, on
a clock of its own that jumps from wait to wait, and their requests are laid
over each other afterwards.

Prints requests per second in bins of a minute: the steady rate of the three
hours before, the highest bin while the server is away, and the highest one in
the hour after. Fails if one of these is more than twice the steady rate. Draws
them with matplotlib, or writes a CSV without it.

=========  ===================================================================
kind       what a pilot sees while the server is away
=========  ===================================================================
refused    no connection, at once
busy       503 with `Retry-After: 30`, at once
reset      the connection breaks, at once: a request may have been carried out
hang       nothing, until the pilot's own timeout
=========  ===================================================================
"""

import argparse
import csv
import logging
import random
import statistics
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pilot_core.base.budget import Budget
from pilot_core.config import HeartbeatConfig, JobsConfig, ServerConfig, WrapupConfig
from pilot_core.errors import ServerError, ServerUnreachable
from pilot_core.heartbeat import Heartbeat
from pilot_core.jobs.pull import PullSource
from pilot_core.model.report import JobReport, JobState, Node
from pilot_core.server.answer import Answer
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from pilot_core.server.http import NotSent
from pilot_core.server.wire import Request
from pilot_core.wrapup import breather_s, deliver_at_last

BIN_S = 60.0
#: Pilots start one after the other, and are in no step when measuring begins.
WARM_UP_S = 4 * 3600.0
BEFORE_S = 3 * 3600.0
AFTER_S = 3600.0
AWAY_S = WARM_UP_S + BEFORE_S
#: Between a pilot's end and the start of the one that Harvester sends in its
#: place.
REPLACED_S = (60.0, 300.0)
KINDS = ("refused", "busy", "reset", "hang")
JOB = (
    b'{"success":true,"message":"","data":{"StatusCode":0,'
    b'"jobs":[{"PandaID":1,"attemptNr":1,"transformation":"x"}]}}'
)
DONE = b'{"success":true,"message":"","data":{"StatusCode":0,"command":"NULL"}}'


class PilotClock:
    """One pilot's time: a wait jumps to its end, or to an earlier alarm."""

    def __init__(self) -> None:
        self.now = 0.0
        #: When the payload ends, and what happens then.
        self.alarm_s = float("inf")
        self.ring: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        end = self.now + max(0.0, seconds)
        if end >= self.alarm_s:
            # `ring` may well set the event that is waited for.
            self.now, self.alarm_s = max(self.now, self.alarm_s), float("inf")
            self.ring()
            return event.is_set()
        self.now = end
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))


@dataclass(slots=True)
class Line:
    """Stands in for `Http`: notes each request; answers unless the server is
    away.
    """

    clock: PilotClock
    away_s: float
    kind: str
    sent: list[float]

    def send(self, request: Request, *, budget: Budget, read_s: float, **_: object) -> Answer:
        self.sent.append(self.clock.now)
        if not AWAY_S <= self.clock.now < AWAY_S + self.away_s:
            return Answer(200, "application/json", JOB if "acquire_jobs" in request.path else DONE)
        if self.kind == "busy":
            return Answer(503, "text/plain", b"busy", retry_after_s=30.0)
        if self.kind == "refused":
            raise NotSent("connection refused")
        if self.kind == "hang":
            self.clock.wait(threading.Event(), budget.timeout(read_s))
        raise ServerUnreachable("no answer")

    def close(self) -> None:
        """Nothing is open."""


class LonePilot:
    """One slot of the site: a pilot, and after it the next one."""

    def __init__(self, away_s: float, kind: str, job_s: float) -> None:
        self.clock = PilotClock()
        self.sent: list[float] = []
        self._job_s = job_s
        self._server = PandaServer(ServerConfig(url="http://panda.invalid", api="v1"), clock=self.clock)
        self._server._http = Line(self.clock, away_s, kind, self.sent)  # type: ignore[assignment]
        self._never = threading.Event()

    def live(self, until_s: float) -> None:
        """Jobs one after the other; a pilot that gives up is replaced."""
        self.clock.now = random.uniform(0.0, self._job_s)
        while self.clock.now < until_s:
            source = PullSource(self._acquire, config=JobsConfig(), clock=self.clock)
            try:
                source.next(budget=Budget(self.clock, 324_000.0, "pilot"), stop=self._never)
                self._work()
            except ServerError:
                self.clock.now += random.uniform(*REPLACED_S)

    def _acquire(self, *, budget: Budget, stop: threading.Event) -> Mapping[str, object] | None:
        request = JobRequest("Q", "Q", "managed", "node", 10_000, 4_000)
        return self._server.acquire_job(request, budget=budget, stop=stop)

    def _work(self) -> None:
        report = JobReport(1, 1, JobState.RUNNING, "Q", Node("node"), start_s=self.clock.now)
        heartbeat = Heartbeat(
            self._server,
            report=lambda state: replace(report, state=state),
            heard=lambda _: None,
            lost=lambda _: None,
            config=HeartbeatConfig(),
            clock=self.clock,
        )
        heartbeat.say(JobState.STARTING)
        heartbeat.say(JobState.RUNNING)
        self.clock.alarm_s = self.clock.now + self._job_s * random.uniform(0.5, 1.5)
        self.clock.ring = heartbeat.quiet
        heartbeat.run(self._never)
        budget = Budget(self.clock, WrapupConfig().final_s, "final report")
        final = replace(report, state=JobState.FINISHED, end_s=self.clock.now)
        waited_s = deliver_at_last(self._server, final, budget=budget, hasten=self._never)
        self.clock.wait(self._never, breather_s(waited_s))


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second: by minute, and what is said about them."""

    by_minute: Sequence[tuple[float, float]]
    steady: float
    while_away: float
    after: float

    @property
    def burst(self) -> float:
        """The highest minute, in units of the steady rate."""
        return max(self.while_away, self.after) / self.steady


def simulate(options: argparse.Namespace, away_s: float, seed: int) -> Rates:
    """All pilots, one after the other."""
    random.seed(seed)
    sent: list[float] = []
    for _ in range(options.pilots):
        pilot = LonePilot(away_s, options.kind, options.job)
        pilot.live(AWAY_S + away_s + AFTER_S)
        sent += pilot.sent
    return measure(sent, away_s)


def measure(sent: Sequence[float], away_s: float) -> Rates:
    """Requests in bins of a minute; the first one begins with the outage."""
    counts = Counter(int((when - AWAY_S) // BIN_S) for when in sent)
    first, back, last = -int(BEFORE_S // BIN_S), int(away_s // BIN_S), int((away_s + AFTER_S) // BIN_S)
    rate = {number: counts[number] / BIN_S for number in range(first, last)}
    return Rates(
        by_minute=[(number * BIN_S, rate[number]) for number in range(first, last)],
        steady=statistics.mean(rate[number] for number in range(first, 0)),
        while_away=max(rate[number] for number in range(back)),
        after=max(rate[number] for number in range(back, last)),
    )


def draw(runs: Mapping[tuple[float, int], Rates], image: Path) -> Path:
    """A PNG with a row for each outage, or a CSV of the same name where there
    is no matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        table = image.with_suffix(".csv")
        with table.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(("outage_s", "seed", "second", "requests_per_second"))
            for (away_s, seed), rates in runs.items():
                writer.writerows((away_s, seed, *point) for point in rates.by_minute)
        return table
    matplotlib.use("Agg")
    from matplotlib import pyplot

    outages = sorted({away_s for away_s, _ in runs})
    figure, rows = pyplot.subplots(len(outages), figsize=(9, 3.5 * len(outages)), squeeze=False)
    for axes, away_s in zip(rows[:, 0], outages, strict=True):
        mine = {seed: rates for (outage, seed), rates in runs.items() if outage == away_s}
        steady = statistics.mean(rates.steady for rates in mine.values())
        for seed, rates in mine.items():
            minutes, rate = zip(*((s / 60, r) for s, r in rates.by_minute), strict=True)
            axes.step(minutes, rate, where="post", linewidth=0.8, label=f"seed {seed}")
        axes.axvspan(0, away_s / 60, alpha=0.2, label="server away")
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
    parser.add_argument("--kind", default="refused", choices=KINDS)
    parser.add_argument("--job", type=float, default=3600.0, help="mean length of a job, seconds")
    parser.add_argument("--image", type=Path, default=Path("fleet_server.png"))
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    print(f"{options.pilots} pilots, jobs of {options.job:.0f} s, server away: {options.kind}")
    print(f"{'away, s':>8} {'seed':>5} {'steady, 1/s':>12} {'while away':>11} {'hour after':>11}")
    runs: dict[tuple[float, int], Rates] = {}
    for away_s in options.outage:
        for seed in options.seed:
            runs[away_s, seed] = rates = simulate(options, away_s, seed)
            away, after = (rate / rates.steady for rate in (rates.while_away, rates.after))
            print(f"{away_s:8.0f} {seed:5} {rates.steady:12.2f} {away:10.2f}x {after:10.2f}x", flush=True)
    burst = max(rates.burst for rates in runs.values())
    print(f"highest minute: {burst:.2f} times the steady rate; drawn in {draw(runs, options.image)}")
    return 0 if burst <= 2.0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
