"""A log file, a shipper that can be killed and started again, and a reader."""

import functools
import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.redact import Redactor
from pilot_core.logship.contract import RecordMaker, ShipCounts, Source
from pilot_core.logship.delivery import DeliveryPolicy
from pilot_core.logship.record import JobContext, PayloadRecords
from pilot_core.logship.shipper import LogShipper, ShipSettings
from tests.fakes.clock import FakeClock
from tests.fakes.disk import RealDisk, WriterDisk
from tests.fakes.sink import MemorySink

CONTEXT = JobContext(
    task_id="77", panda_job_id="4242", harvester_worker_id="9", harvester_id="h1", request_id=5
)


@functools.lru_cache(maxsize=4096)
def line(seq: int, text: str = "hello") -> bytes:
    """A record in the shape of Rubin's, with a number of its own."""
    record = {
        "name": "lsst.isr",
        "asctime": f"2023-11-14T22:{seq // 3600 % 60:02d}:{seq // 60 % 60:02d}.{seq % 60:06d}Z",
        "message": text,
        "levelno": 20,
        "levelname": "INFO",
        "seq": seq,
        "MDC": {},
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


class Rig:
    """One log file and its shipper, all on one thread and one clock.

    Parameters
    ----------
    folder
        Where the file and the position file are.
    sink
        Where the records go.
    disk
        Where the files are.
    names
        What the shipper looks at; the payload writes to the first of them.
    """

    def __init__(
        self,
        folder: Path,
        sink: MemorySink,
        *,
        names: Sequence[str] = ("payload-log.json",),
        memory_bytes: int = 1 << 20,
        line_bytes: int = 1 << 20,
        redactor: Redactor | None = None,
        disk: WriterDisk | None = None,
    ) -> None:
        self.paths = [folder / name for name in names]
        self.path = self.paths[0]
        self.positions = folder / "positions.json"
        self.sink = sink
        self.disk: WriterDisk = disk or RealDisk()
        self.clock = FakeClock()
        self.settings = ShipSettings(
            memory_bytes=memory_bytes, line_bytes=line_bytes, delivery=DeliveryPolicy(request_s=5.0)
        )
        self._redactor = redactor or Redactor()
        self._made = 0
        self.shipper = self._start()

    def maker(self, source: Source) -> RecordMaker:
        """The payload's record maker."""
        limit = self.sink.limits.entry_bytes
        return PayloadRecords(
            CONTEXT, source, entry_bytes=limit, redactor=self._redactor, now=self.clock.time
        )

    def append(self, data: bytes) -> None:
        """What the payload's handler does: one append."""
        self.disk.append(self.path, data)

    def lines(self, count: int) -> list[int]:
        """Write so many records; their numbers."""
        numbers = list(range(self._made, self._made + count))
        self._made += count
        self.append(b"".join(map(line, numbers)))
        return numbers

    def ship(self) -> None:
        """Look until there is nothing to do."""
        self.clock.now += 1.0
        while self.shipper.ship_once():
            pass

    def kill(self) -> None:
        """SIGKILL and a new pilot: only the position file survives."""
        self.shipper = self._start()

    def finish(self, seconds: float = 60.0) -> ShipCounts:
        """The payload has ended."""
        self.shipper.ask(Budget(self.clock, seconds, "drain"))
        self.shipper.run(threading.Event())
        return self.shipper.counts()

    def seen(self) -> list[int]:
        """The numbers a reader sees, in the order in which it sees them."""
        return [json.loads(e.payload)["seq"] for e in self.sink.visible()]

    def messages(self) -> list[str]:
        """The messages a reader sees."""
        return [json.loads(e.payload)["message"] for e in self.sink.visible()]

    def _start(self) -> LogShipper:
        return LogShipper(
            self.paths,
            self.maker,
            self.sink,
            checkpoint=self.positions,
            clock=self.clock,
            settings=self.settings,
            disk=self.disk,
        )


def lost_and_doubled(written: list[int], seen: list[int]) -> tuple[list[int], list[int]]:
    """What is missing and what is there more than once."""
    count = Counter(seen)
    return [n for n in written if not count[n]], [n for n, times in count.items() if times > 1]
