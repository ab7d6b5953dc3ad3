"""A thousand pilots and one server that was away: how hard do they come back?

    python benchmarks/fleet_server.py [--pilots 1000] [--outage 600] [--job
    3600]

Each pilot is the real conversation: `PandaServer` with its retries, the
heartbeat's thread body, `PullSource`, `deliver`; only the line to the server
(`Http`) is a stand-in that notes the time of each request. The pilots share
nothing but the outage, so each lives alone, on a clock of its own that jumps
from wait to wait, and their requests are laid over each other afterwards.

While the server is away each request costs nothing and fails (connection
refused, the worst kind: a hang slows a pilot down). Prints requests per second
in bins of a minute: the steady rate of the time before, the highest bin while
the server is away, and the highest one in the hour after; the aim is at most
twice the steady rate. Draws them with matplotlib, or writes a CSV without it.
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
from pilot_core.errors import ServerError
from pilot_core.heartbeat import Heartbeat
from pilot_core.jobs.pull import PullSource
from pilot_core.model.report import JobReport, JobState, Node
from pilot_core.server.answer import Answer
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from pilot_core.server.http import NotSent
from pilot_core.server.wire import Request
from pilot_core.wrapup import deliver

BIN_S = 60.0
#: Pilots start one after the other, and are in no step when measuring begins.
WARM_UP_S = 4 * 3600.0
BEFORE_S = 3 * 3600.0
AFTER_S = 3600.0
#: Between a pilot's end and the start of the one that Harvester sends in its
#: place.
REPLACED_S = (60.0, 300.0)
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
    away: tuple[float, float]
    sent: list[float]

    def send(self, request: Request, **_: object) -> Answer:
        self.sent.append(self.clock.now)
        if self.away[0] <= self.clock.now < self.away[1]:
            raise NotSent("connection refused")
        body = JOB if "acquire_jobs" in request.path else DONE
        return Answer(200, "application/json", body)

    def close(self) -> None:
        """Nothing is open."""


class LonePilot:
    """One slot of the site: a pilot, and after it the next one."""

    def __init__(self, away: tuple[float, float], job_s: float) -> None:
        self.clock = PilotClock()
        self.sent: list[float] = []
        self._job_s = job_s
        self._server = PandaServer(ServerConfig(url="http://panda.invalid", api="v1"), clock=self.clock)
        self._server._http = Line(self.clock, away, self.sent)  # type: ignore[assignment]
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
        deliver(self._server, final, budget=budget, stop=self._never)


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second: by minute, and what is said about them."""

    by_minute: Sequence[tuple[float, float]]
    steady: float
    while_away: float
    after: float


def measure(sent: Sequence[float], away: tuple[float, float]) -> Rates:
    counts = Counter(int((when - away[0]) // BIN_S) for when in sent)
    last = int((away[1] - away[0] + AFTER_S) // BIN_S)
    first, back = -int(BEFORE_S // BIN_S), int((away[1] - away[0]) // BIN_S)
    rate = {number: counts[number] / BIN_S for number in range(first, last)}
    return Rates(
        by_minute=[(number * BIN_S, rate[number]) for number in range(first, last)],
        steady=statistics.mean(rate[number] for number in range(first, 0)),
        while_away=max(rate[number] for number in range(back)),
        after=max(rate[number] for number in range(back, last)),
    )


def draw(rates: Rates, away_s: float, image: Path) -> Path:
    """A PNG, or a CSV of the same name where there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        table = image.with_suffix(".csv")
        with table.open("w", newline="") as out:
            csv.writer(out).writerows([("seconds", "requests per second"), *rates.by_minute])
        return table
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    axes.step([s / 60 for s, _ in rates.by_minute], [r for _, r in rates.by_minute], where="post")
    axes.axvspan(0, away_s / 60, alpha=0.2, label="server away")
    axes.axhline(rates.steady, linestyle=":", label="steady")
    axes.axhline(2 * rates.steady, linestyle="--", label="twice steady")
    axes.set_xlabel("minutes since the outage began")
    axes.set_ylabel("requests per second")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.tight_layout()
    figure.savefig(image, dpi=100)
    return image


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pilots", type=int, default=1000)
    parser.add_argument("--outage", type=float, default=600.0, help="seconds")
    parser.add_argument("--job", type=float, default=3600.0, help="mean length of a job, seconds")
    parser.add_argument("--image", type=Path, default=Path("fleet_server.png"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    random.seed(options.seed)
    away = (WARM_UP_S + BEFORE_S, WARM_UP_S + BEFORE_S + options.outage)
    sent: list[float] = []
    for _ in range(options.pilots):
        pilot = LonePilot(away, options.job)
        pilot.live(away[1] + AFTER_S)
        sent += pilot.sent
    rates = measure(sent, away)
    print(f"{options.pilots} pilots, jobs of {options.job:.0f} s, server away for {options.outage:.0f} s")
    print(f"steady        {rates.steady:7.2f} requests/s")
    for name, rate in (("while away", rates.while_away), ("hour after", rates.after)):
        print(f"{name:13} {rate:7.2f} requests/s at most, {rate / rates.steady:5.2f} times steady")
    print(f"drawn in {draw(rates, options.outage, options.image)}")
    return 0 if rates.after <= 2 * rates.steady else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
