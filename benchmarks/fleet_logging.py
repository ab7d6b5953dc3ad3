"""Very many pilots, one project's quota: what arrives when, what an operator
sees.

    python benchmarks/fleet_logging.py [--pilots 200000] [--minutes 20]
                                       [--requests 120000] [--megabytes 4800]
                                       [--out fleet-logging]

A simulation of events on a clock of its own. Looks, loads, gaps and waits are
those of the shipper (`ShipSettings`, `Pace`); the service is a counter of
requests and bytes that starts anew each minute and says 429 beyond it, and
which of the two it is. Three payloads in four write a record a minute, one in
five one in two seconds, the rest four a second. All start within the first
minute, end in the second half of the time, and have 30 s for their drain.

A row a simulated minute goes to stdout, and to `<out>.csv`; with matplotlib
to `<out>.png` too. Its last three columns are what an operator sees, summed
over all pilots as `/metrics` has them at the end of the minute:

=========  ===================================================================
waiting    `log_waiting_bytes`, MB: written and not yet taken
behind     pilots with `log_behind_seconds` above 600: when to be woken
told       pilots whose log says "does not take entries" in this minute
=========  ===================================================================
"""

import argparse
import csv
import heapq
import random
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pilot_core.logship.contract import OutcomeKind  # noqa: E402
from pilot_core.logship.delivery import CROWD_S  # noqa: E402
from pilot_core.logship.pace import Pace  # noqa: E402 - runs from a checkout
from pilot_core.logship.shipper import ShipSettings  # noqa: E402

LINE_BYTES = 612  # a Rubin record in its file
RECORD_BYTES = 900  # the same with the pilot's fields and its envelope
MIX = ((0.75, 1 / 60), (0.20, 0.5), (0.05, 4.0))
DRAIN_S = 30.0
SETTINGS = ShipSettings()
BEHIND_S = 600.0
SAY_EVERY_S = 60.0
ROUND_TRIP_S = 0.1


@dataclass(slots=True)
class Service:
    """Cloud Logging's write quota of one project and region, a minute at a
    time.
    """

    requests: int
    volume: int
    minute: int = -1
    used: int = 0
    used_bytes: int = 0

    def write(self, now: float, size: int) -> OutcomeKind:
        """Whether a request of so many bytes still fits into this minute."""
        if int(now // 60) != self.minute:
            self.minute, self.used, self.used_bytes = int(now // 60), 0, 0
        if self.used >= self.requests:
            return OutcomeKind.BUSY
        if self.used_bytes + size > self.volume:
            return OutcomeKind.FULL
        self.used += 1
        self.used_bytes += size
        return OutcomeKind.DELIVERED


@dataclass(slots=True)
class Pilot:
    """A payload that writes evenly, and its shipper."""

    rate: float
    start: float
    end: float
    sent: int = 0
    repeated: int = 0
    told_at: float = float("-inf")
    abreast_at: float = 0.0
    pace: Pace = field(default_factory=Pace)

    def written(self, now: float) -> int:
        """Records in the file."""
        return int((min(now, self.end) - self.start) * self.rate)

    def behind_s(self, now: float) -> float:
        """As the shipper counts it."""
        return now - max(self.abreast_at, self.start) if self.written(now) > self.sent else 0.0


def account(pilots: Sequence[Pilot], rate: float) -> tuple[int, int]:
    """Records written and delivered by the payloads with this rate."""
    some = [pilot for pilot in pilots if pilot.rate == rate]
    return sum(pilot.written(pilot.end) for pilot in some), sum(pilot.sent for pilot in some)


@dataclass(slots=True)
class Row:
    """One minute; delays in seconds, of the oldest record of each request."""

    minute: int
    requests: int = 0
    refused: int = 0
    records: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    waiting: float = 0.0
    behind: int = 0
    told: int = 0


class Fleet:
    """All pilots, and the events of all of them in the order of time."""

    def __init__(self, count: int, minutes: int, service: Service) -> None:
        self.over = minutes * 60.0
        self.service = service
        self.pilots = [self._pilot() for _ in range(count)]
        self.events = [(pilot.start, n) for n, pilot in enumerate(self.pilots)]
        heapq.heapify(self.events)
        self.rows = [Row(minute) for minute in range(minutes + 1)]
        self.delays: list[list[float]] = [[] for _ in self.rows]
        self.left_at_end = 0
        self.late = 0

    def _pilot(self) -> Pilot:
        (rate,) = random.choices([r for _, r in MIX], [share for share, _ in MIX])
        start = random.uniform(0.0, 60.0)
        return Pilot(rate, start, random.uniform(self.over / 2, self.over))

    def run(self) -> None:
        """Until all payloads are over and drained."""
        seen = 0
        while self.events:
            now, number = heapq.heappop(self.events)
            while seen < min(int(now // 60), len(self.rows)):
                self._scrape(self.rows[seen])
                seen += 1
            following = self._look(now, self.pilots[number])
            if following is not None:
                heapq.heappush(self.events, (following, number))
        for row, delays in zip(self.rows, self.delays, strict=True):
            delays.sort()
            if delays:
                row.p50_s = delays[len(delays) // 2]
                row.p99_s = delays[int(len(delays) * 0.99)]

    def _scrape(self, row: Row) -> None:
        """The pilots' metrics at the end of a minute."""
        now = (row.minute + 1) * 60.0
        alive = [pilot for pilot in self.pilots if pilot.start <= now < pilot.end + DRAIN_S]
        row.waiting = sum(pilot.written(now) - pilot.sent for pilot in alive) * LINE_BYTES / 1e6
        row.behind = sum(pilot.behind_s(now) > BEHIND_S for pilot in alive)

    def _look(self, now: float, pilot: Pilot) -> float | None:
        """One look at the file; when the next one is, None after the last."""
        ending = now >= pilot.end
        waiting = pilot.written(now) - pilot.sent
        if waiting == 0:
            pilot.abreast_at = now
            return None if ending else min(pilot.end, now + max(SETTINGS.interval_s, pilot.pace.wait_s()))
        # A look reads half a share of lines.
        count = min(waiting, max(1, int(min(SETTINGS.load_bytes, pilot.pace.share_bytes / 2)) // LINE_BYTES))
        row = self.rows[min(int(now // 60), len(self.rows) - 1)]
        row.requests += 1
        size = count * RECORD_BYTES
        said = self.service.write(now, size)
        if said is not OutcomeKind.DELIVERED:
            row.refused += 1
            pilot.repeated += count
            if now - pilot.told_at >= SAY_EVERY_S:
                row.told += 1
                pilot.told_at = now
            if said is OutcomeKind.FULL:
                pilot.pace.too_many_bytes(size)
            else:
                pilot.pace.too_many_requests()
            return self._again(now, pilot, pilot.pace.wait_s())
        oldest = pilot.start + (pilot.sent + 1) / pilot.rate
        self.delays[row.minute].append(now - oldest)
        pilot.sent += count
        row.records += count
        pilot.pace.accepted(hurry=ending)
        if count == waiting:
            pilot.abreast_at = now
        if ending or count < waiting:
            # The next request of a backlog, a round trip later at least.
            return self._again(now, pilot, max(ROUND_TRIP_S, pilot.pace.apart_s()))
        return min(pilot.end, now + max(SETTINGS.interval_s, pilot.pace.wait_s()))

    def _again(self, now: float, pilot: Pilot, wait: float) -> float | None:
        """Soon; at the end of a job after a third of what time is left."""
        if now < pilot.end:
            # The end of the payload wakes the shipper.
            return min(now + wait, pilot.end)
        over = pilot.end + DRAIN_S
        following = now + min(wait, max((over - now) / 3, CROWD_S))
        if following < over:
            return following
        if pilot.written(now) > pilot.sent:
            self.left_at_end += pilot.written(now) - pilot.sent
            self.late += 1
        return None


def plot(rows: list[Row], path: Path) -> bool:
    """Delays and refusals over time; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below, seen) = pyplot.subplots(3, sharex=True, figsize=(8, 9))
    minutes = [row.minute for row in rows]
    above.plot(minutes, [row.p50_s for row in rows], label="p50")
    above.plot(minutes, [row.p99_s for row in rows], label="p99")
    above.set_ylabel("age of the oldest record, s")
    above.legend()
    below.plot(minutes, [row.requests - row.refused for row in rows], label="taken")
    below.plot(minutes, [row.refused for row in rows], label="refused")
    below.set_ylabel("requests a minute")
    below.legend()
    seen.plot(minutes, [row.behind for row in rows], label="more than 10 minutes behind")
    seen.plot(minutes, [row.told for row in rows], label="say that entries are not taken")
    seen.set_ylabel("pilots")
    seen.set_xlabel("minute")
    seen.legend()
    figure.savefig(path)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pilots", type=int, default=200_000)
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--requests", type=int, default=120_000, help="quota, a minute")
    parser.add_argument("--megabytes", type=int, default=4_800, help="quota, a minute; 300 in small regions")
    parser.add_argument("--out", type=Path, default=Path("fleet-logging"))
    options = parser.parse_args()
    random.seed(7)
    fleet = Fleet(options.pilots, options.minutes, Service(options.requests, options.megabytes * 1_000_000))
    fleet.run()
    names = [f.name for f in fields(Row)]
    print(" ".join(f"{name:>9}" for name in names))
    for row in fleet.rows:
        print(" ".join(f"{v:>9.1f}" if isinstance(v, float) else f"{v:>9}" for v in astuple(row)))
    with options.out.with_suffix(".csv").open("w", newline="") as out:
        csv.writer(out).writerows([names, *map(astuple, fleet.rows)])
    plotted = plot(fleet.rows, options.out.with_suffix(".png"))
    written = sum(pilot.written(pilot.end) for pilot in fleet.pilots)
    sent = sum(pilot.sent for pilot in fleet.pilots)
    print(f"{written} records written, {sent} delivered, {written - sent} not: {fleet.left_at_end} of these")
    print(f"were left when the drain of {fleet.late} jobs ran out; they are in the stored logs")
    for name, (_, rate) in zip(("quiet", "usual", "noisy"), MIX, strict=True):
        written, sent = account(fleet.pilots, rate)
        print(f"{name} payloads: {sent} of {written} delivered, {100 * sent / max(1, written):.1f} %")
        closing = sorted((p.repeated, p.sent) for p in fleet.pilots if p.rate == rate)
        repeated, sent = closing[len(closing) // 2]
        print(f"  closing line of one (median): {sent} sent, {repeated} repeated, 0 rejected")
    print(f"{options.out}.csv written{', and .png' if plotted else '; no matplotlib, no picture'}")


if __name__ == "__main__":
    main()
