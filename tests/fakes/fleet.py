"""Real log shippers, a thread each, on one clock: it stands still while one of
them works, and one works at a time.
"""

import heapq
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.fleet_logging import DRAIN_S, LINE_BYTES, RECORD_BYTES, Pilot, Service, account
from pilot_core.base.budget import Budget
from pilot_core.base.redact import Redactor
from pilot_core.logship.contract import Entry, Outcome, ShipCounts
from pilot_core.logship.disk import FileFacts
from pilot_core.logship.record import PayloadRecords
from pilot_core.logship.shipper import LogShipper
from tests.fakes.disk import MemoryDisk
from tests.fakes.shipping import CONTEXT, line
from tests.fakes.sink import MemorySink

EPOCH_S = 1_700_000_000.0
LOG = Path("/memory/payload-log.json")
TEXT = "m" * (LINE_BYTES - len(line(0, "")))


class Turns:
    """Whose turn it is, in the order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()
        self._parked = threading.Semaphore(0)

    def at(self, when: float, do: Callable[[], object]) -> None:
        """Do this then; at once if that is past."""
        heapq.heappush(self._due, (max(when, self.now), next(self._number), do))

    def spawn(self, when: float, body: Callable[[], object]) -> None:
        """A thread that begins then."""

        def run() -> None:
            body()
            self._parked.release()

        thread = threading.Thread(target=run, daemon=True)
        self.at(when, lambda: (thread.start(), self._parked.acquire()))

    def park(self, seconds: float) -> None:
        """Called by a thread: go on so much later."""
        turn = threading.Semaphore(0)
        self.at(self.now + seconds, lambda: (turn.release(), self._parked.acquire()))
        self._parked.release()
        turn.acquire()

    def run(self) -> None:
        """Until nothing is due any more."""
        while self._due:
            self.now, _, do = heapq.heappop(self._due)
            do()


class TurnClock:
    """The `Clock` of one of the threads."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def time(self) -> float:
        return EPOCH_S + self._turns.now

    def monotonic(self) -> float:
        return self._turns.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self._turns.park(max(0.0, seconds))
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        raise AssertionError("nobody waits for a thread here")


class PayloadDisk(MemoryDisk):
    """Has what the payload has written by the time somebody looks."""

    def __init__(self, pilot: Pilot, turns: Turns) -> None:
        super().__init__()
        self._pilot = pilot
        self._turns = turns
        self._written = 0
        self.append(LOG, b"")

    def fstat(self, fd: int) -> FileFacts:
        written = self._pilot.written(self._turns.now)
        if written > self._written:
            self.append(LOG, b"".join(line(n, TEXT) for n in range(self._written, written)))
            self._written = written
        return super().fstat(fd)


def live(pilots: Sequence[Pilot], service: Service) -> list[ShipCounts]:
    """All of them to the end of their drains.

    Each pilot's `sent` is set, and what its reader sees is checked: each
    record once, in order.
    """
    turns = Turns()
    shippers: list[LogShipper] = []
    sinks: list[MemorySink] = []
    for pilot in pilots:
        clock = TurnClock(turns)

        def mood(entries: Sequence[Entry]) -> Outcome:
            return Outcome(service.write(turns.now, len(entries) * RECORD_BYTES), detail="429")

        sink = MemorySink(mood)
        shipper = LogShipper(
            [LOG],
            lambda source, clock=clock: PayloadRecords(  # type: ignore[misc]
                CONTEXT, source, entry_bytes=0, redactor=Redactor(), now=clock.time
            ),
            sink,
            checkpoint=None,
            clock=clock,
            disk=PayloadDisk(pilot, turns),
        )
        turns.spawn(pilot.start, lambda shipper=shipper: shipper.run(threading.Event()))  # type: ignore[misc]
        turns.at(
            pilot.end,
            lambda shipper=shipper, clock=clock: shipper.ask(Budget(clock, DRAIN_S, "drain")),  # type: ignore[misc]
        )
        shippers.append(shipper)
        sinks.append(sink)
    turns.run()
    for pilot, sink in zip(pilots, sinks, strict=True):
        seen = [json.loads(entry.payload)["seq"] for entry in sink.visible()]
        pilot.sent = len(seen)
        assert seen == list(range(len(seen)))
        assert len(sink.stored) == len(seen)
    return [shipper.counts() for shipper in shippers]


def share(pilots: Sequence[Pilot], rate: float) -> float:
    """Delivered of what the payloads with this rate have written."""
    written, sent = account(pilots, rate)
    return sent / written
