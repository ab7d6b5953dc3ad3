"""Time for many threads: it stands still while one of them works, and jumps when all of them wait.

A wait of half an hour then costs a millisecond, whatever the number of
threads, and no allowance of time runs out because the machine is busy: real
time does not count at all.
"""

import math
import sys
import threading
import time

from pilot_core.base.inbox import E, Inbox

__all__ = ["ClockInbox", "VirtualClock"]

#: Real seconds between two looks of a waiting thread.
POLL_S = 0.0005

#: Real seconds without a step of the clock after which something is stuck:
#: a thread that blocks on anything else than this clock stops time for all.
STUCK_S = 30.0


class VirtualClock:
    """A `Clock` shared by its maker's thread and all threads started after it.

    A thread is at rest while it is inside `wait`, or joins another that has
    not ended. When all are, the time is set to the earliest end of these waits.

    Parameters
    ----------
    start
        First epoch second; now, if None: files that are written meanwhile
        should not seem to come from the future.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()
        self._waits: dict[threading.Thread, tuple[threading.Event, float]] = {}
        self._joins: dict[threading.Thread, tuple[object, float]] = {}
        self._strangers = set(threading.enumerate()) - {threading.current_thread()}
        self._moved = time.monotonic()

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        me, end = threading.current_thread(), self._now + max(0.0, seconds)
        with self._lock:
            self._waits[me] = (event, end)
            self._moved = time.monotonic()
        try:
            while self._now < end and not event.wait(POLL_S):
                self._step()
            return event.is_set()
        finally:
            with self._lock:
                del self._waits[me]

    def _step(self) -> None:
        """Set the time forward if nobody has anything to do now."""
        with self._lock:
            ends = {thread: self._rests_until(thread) for thread in self._threads()}
            busy = [thread.name for thread, end in ends.items() if end <= self._now]
            if not busy:
                self._now = min(ends.values())
                self._moved = time.monotonic()
            elif time.monotonic() - self._moved > STUCK_S:
                raise AssertionError(f"time stands still: {busy} wait for something else")

    def _threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in self._strangers]

    def _rests_until(self, thread: threading.Thread) -> float:
        """When the thread goes on by itself; the past if it has something to do."""
        if thread in self._waits:
            event, end = self._waits[thread]
            return -math.inf if event.is_set() else end
        frame = sys._current_frames().get(thread.ident or 0)
        for _ in range(3):
            if frame is not None and frame.f_code is threading.Thread.join.__code__:
                return self._joins_until(thread, frame.f_locals["self"], frame.f_locals["timeout"])
            frame = frame.f_back if frame is not None else None
        return -math.inf

    def _joins_until(
        self, thread: threading.Thread, other: threading.Thread, timeout: float | None
    ) -> float:
        """End of a join, which waits by the machine's clock: ours must not overtake it."""
        if not other.is_alive():
            return -math.inf
        call = (other, timeout)
        if self._joins.get(thread, (None, 0.0))[0] != call:
            self._joins[thread] = (call, math.inf if timeout is None else self._now + timeout)
        return self._joins[thread][1]


class ClockInbox(Inbox[E]):
    """The pilot's inbox, whose reader waits by the clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._arrived = threading.Event()

    def put(self, event: E) -> None:
        super().put(event)
        self._arrived.set()

    def get(self, timeout_s: float) -> E | None:
        # Cleared before the look: what comes after it is noticed by the wait.
        self._arrived.clear()
        found = super().get(0.0)
        if found is None and self._clock.wait(self._arrived, timeout_s):
            found = super().get(0.0)
        return found
