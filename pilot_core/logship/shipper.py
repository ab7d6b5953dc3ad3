"""The thread that ships log files: read, make records, deliver, remember.

One loop on one thread owns files, makers and sink. Other threads may only call
`finish`, `ask` and `counts`.
"""

import dataclasses
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.logship.checkpoint import Checkpoint, Place
from pilot_core.logship.contract import MakerFactory, ShipCounts, Sink
from pilot_core.logship.delivery import Delivery, DeliveryPolicy
from pilot_core.logship.disk import Disk, OsDisk
from pilot_core.logship.load import Load
from pilot_core.logship.tail import Tail
from pilot_core.logship.tailed import GRAIN, TailedFile

__all__ = ["LogShipper", "ShipSettings"]

log = logging.getLogger(__name__)

# A sleeping loop looks so often whether it was told to stop.
_SLICE_S = 0.25
# Positions reach the disk at most so often; what is sent again after a kill
# has the same insert ids.
_SAVE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class ShipSettings:
    """How logs are shipped.

    Attributes
    ----------
    interval_s
        Time between two looks at a file that had nothing new.
    memory_bytes
        Bound of what is in memory; lines, entries and a request are each about
        a sixteenth of it. What does not fit stays in its file.
    line_bytes
        A longer line is shipped in pieces.
    idle_flush_s
        A record that waits for more lines is closed after so long without one.
    rotate_wait_s
        See `Tail`.
    delivery
        How the sink is asked.
    """

    interval_s: float = 5.0
    memory_bytes: int = 8 * 1024 * 1024
    line_bytes: int = 16 * 1024 * 1024
    idle_flush_s: float = 10.0
    rotate_wait_s: float = 60.0
    delivery: DeliveryPolicy = field(default_factory=DeliveryPolicy)

    @property
    def load_bytes(self) -> int:
        """Bytes read before they are delivered."""
        return max(64 * 1024, self.memory_bytes // 16)

    @property
    def read_bytes(self) -> int:
        """Bytes of one read: the grain in which positions move."""
        return min(GRAIN, self.load_bytes, self.line_bytes)


class LogShipper:
    """Ships some files to one sink.

    Parameters
    ----------
    files
        Paths; they may appear later.
    maker_for
        Makes the record maker of a file.
    sink
        Used by the shipper's thread only; the caller closes it.
    checkpoint
        Position file; None for none.
    clock, settings, disk
        Source of time; how; where the files are.
    """

    def __init__(
        self,
        files: Sequence[Path],
        maker_for: MakerFactory,
        sink: Sink,
        *,
        checkpoint: Path | None,
        clock: Clock,
        settings: ShipSettings | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._settings = settings or ShipSettings()
        self._maker_for = maker_for
        self._clock = clock
        self._disk = disk or OsDisk()
        self._sink_name = sink.name
        self._checkpoint = Checkpoint(checkpoint, self._disk)
        places = self._checkpoint.load()
        self._tails = [self._tail(path, places) for path in dict.fromkeys(files)]
        self._turns = deque(self._tails)
        for tail in self._tails:
            tail.others = [other for other in self._tails if other is not tail]
        self._wake = threading.Event()
        self._over = threading.Event()
        self._stop = threading.Event()
        self._budget: Budget | None = None
        self._gave_up = False
        self._behind = False
        self._saved_at = float("-inf")
        self._abreast_at = clock.monotonic()
        self._delivery = Delivery(
            sink,
            self._settings.delivery,
            clock=clock,
            wake=self._wake,
            time_left=self._time_left,
            meanwhile=self._look,
        )

    def run(self, stop: threading.Event) -> None:
        """Body of the thread: ships until `stop` is set or `finish` was asked
        for.

        On `stop` it leaves at once, with the positions remembered; what is
        left is shipped by the next one. Only `finish` reads to the end.
        """
        self._stop = stop
        try:
            while self._budget is None and not stop.is_set():
                self.ship_once()
                self._sleep()
            if self._budget is not None:
                self._drain()
        finally:
            self._save()
            for tail in self._tails:
                tail.close()
            self._over.set()
        if self._budget is None:
            self._say_counts()

    def ask(self, budget: Budget) -> None:
        """The writers have ended: read to the end within `budget`. Does not
        wait.
        """
        self._budget = budget
        self._wake.set()

    def finish(self, budget: Budget) -> ShipCounts:
        """`ask`, wait for the thread or the end of the budget, say what became
        of it.

        Called from another thread than `run`'s. Bounded even where the sink
        never returns: that thread is then left behind.
        """
        self.ask(budget)
        while not self._over.is_set() and not budget.spent:
            self._clock.wait(self._over, min(_SLICE_S, budget.left))
        self._say_counts()
        return self.counts()

    def counts(self) -> ShipCounts:
        """What became of the records so far; from any thread."""
        files = [file for tail in self._tails for file in tuple(tail.files)]
        opened = {file.ident for file in files}
        # Where the sink hangs nobody looks, and there may be a file by now.
        others = dict(tail.unopened() for tail in self._tails)
        left = sum(file.left_bytes for file in files)
        left += sum(size for ident, size in others.items() if ident not in opened)
        behind_s = self._clock.monotonic() - self._abreast_at if left else 0.0
        return dataclasses.replace(self._delivery.counts, left_bytes=left, behind_s=behind_s)

    def ship_once(self, *, ending: bool = False) -> bool:
        """One look at every file; False if there was nothing to do.

        With `ending`, lines without a newline and open records are closed.
        """
        # Nothing is on its way here.
        renewed = [tail.renew() for tail in self._tails]
        self._look(added=any(renewed))
        began = self._clock.monotonic()
        load = self._new_load()
        done: list[tuple[Tail, TailedFile]] = []
        replaced = False
        # None waits for long where another has a backlog without end.
        self._turns.rotate(-1)
        for tail in self._turns:
            for file in tuple(tail.files):
                was_replaced = file.replaced
                if self._gather(tail, file, load, ending=ending):
                    done.append((tail, file))
                replaced = replaced or file.replaced != was_replaced
                if file.replaced:
                    break  # what follows it comes first
        if self._deliver(load):
            succeeded = [tail.forget(file) for tail, file in done]
            if any(succeeded):
                replaced = True
                self._save()
        if self._clock.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self._save()
        self._behind = replaced or load.full()
        if not self._behind and not self._gave_up:
            self._abreast_at = began
        return load.busy or replaced

    def _new_load(self) -> Load:
        """Where there is a share, one read that fills one request: an entry
        is larger than its line, about twice for Rubin's.
        """
        share = self._delivery.pace.share_bytes
        read = int(min(self._settings.read_bytes, share / 2))
        return Load(read, min(self._settings.load_bytes, share / 4))

    def _gather(self, tail: Tail, file: TailedFile, load: Load, *, ending: bool) -> bool:
        """Read a file's news into the load; True if nothing will ever follow."""
        if load.full():
            return False
        if file.maker is None:
            file.maker = self._maker_for(file.source)
        now = self._clock.monotonic()
        if file.grew(now):
            while not load.full():
                chunk = file.read(load.read_bytes)
                if chunk is None:
                    break
                load.size += sum(map(len, chunk.lines))
                load.take(file, file.maker, file.maker.feed(chunk))
            else:
                return False
        over = tail.over(file)
        if over or ending:
            self._close_open(file, load)
        elif now - file.grown_at >= self._settings.idle_flush_s:
            idle = file.maker.flush()
            if idle:
                load.take(file, file.maker, idle)
        return over

    @staticmethod
    def _close_open(file: TailedFile, load: Load) -> None:
        assert file.maker is not None
        rest = file.rest()
        if rest is not None:
            load.take(file, file.maker, file.maker.feed(rest))
        last = file.maker.flush()
        if last:
            load.take(file, file.maker, last)

    def _deliver(self, load: Load) -> bool:
        """Deliver and move the positions; False if the time was over first."""
        load.reach(0)
        settled = 0
        for settled in self._delivery.deliver(load.entries):
            load.reach(settled)
        self._gave_up = settled < len(load.entries)
        return not self._gave_up

    def _drain(self) -> None:
        # The payload's last records wait for nothing that was before.
        self._wake.clear()
        self._delivery.at_once()
        # What was given up stays in its file: nothing behind it may move the
        # position.
        # Without time, too: what is there is to be counted.
        self._look()
        while not self._gave_up and self._time_left() > 0.0 and self.ship_once(ending=True):
            pass

    def _look(self, *, added: bool = False) -> None:
        # All of them find their old files before one looks for new ones.
        resumed = [tail.resume() for tail in self._tails]
        looked = [tail.look() for tail in self._tails]
        if added or any(resumed) or any(looked):
            self._save()

    def _time_left(self) -> float:
        if self._budget is not None:
            return self._budget.left
        return 0.0 if self._stop.is_set() else float("inf")

    def _sleep(self) -> None:
        """Until it is worth while to look, or the end has come.

        Looking again at once would find the few records written during the
        request, and send them in a request of their own. Where the service is
        full, rarer and larger requests are what helps everybody; names are
        looked at all the same, since a file may be rotated twice meanwhile.
        """
        now, interval = self._clock.monotonic(), self._settings.interval_s
        pause = self._delivery.backlog_s() if self._behind else max(interval, self._delivery.idle_s())
        end, look_at = now + pause, now + interval
        while (left := end - self._clock.monotonic()) > 0.0 and self._time_left() == math.inf:
            self._clock.wait(self._wake, min(_SLICE_S, left))
            if look_at <= self._clock.monotonic() < end:
                look_at += interval
                self._look()

    def _tail(self, path: Path, places: list[Place]) -> Tail:
        return Tail(
            path,
            [place for place in places if place.path == str(path)],
            disk=self._disk,
            clock=self._clock,
            line_bytes=self._settings.line_bytes,
            rotate_wait_s=self._settings.rotate_wait_s,
        )

    def _save(self) -> None:
        self._saved_at = self._clock.monotonic()
        self._checkpoint.save([place for tail in self._tails for place in tail.places])

    def _say_counts(self) -> None:
        counts = self.counts()
        level = logging.WARNING if counts.left_bytes or counts.rejected else logging.INFO
        log.log(
            level,
            "log records to %s: %d sent, %d repeated, %d rejected, %d bytes left%s",
            self._sink_name,
            counts.sent,
            counts.repeated,
            counts.rejected,
            counts.left_bytes,
            f" (last error: {counts.last_error})" if counts.last_error else "",
        )
