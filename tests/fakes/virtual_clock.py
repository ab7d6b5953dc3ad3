"""Time for many threads: it stands still while one works, and jumps when all
wait.

A wait of half an hour then costs a millisecond, whatever the number of
threads, and no allowance of time runs out because the machine is busy: real
time does not count at all.
"""

import threading
import time
from collections.abc import Callable

from pilot_core.base.inbox import E, Inbox

__all__ = ["ClockInbox", "VirtualClock"]

#: Real seconds between two looks of a waiting thread.
POLL_S = 0.0005

#: Real seconds without a step of the clock after which something is stuck:
#: a thread that blocks on anything else than this clock stops time for all.
STUCK_S = 30.0


class VirtualClock:
    """A `Clock` shared by its maker's thread and all threads started after it.

    When all of them are inside `wait` or `join`, and none has what it waits
    for, the time is set to the earliest end of these waits.

    Parameters
    ----------
    start
        First epoch second; now, if None: files that are written meanwhile
        should not seem to come from the future.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()
        self._waits: dict[threading.Thread, tuple[Callable[[], bool], float]] = {}
        self._strangers = set(threading.enumerate()) - {threading.current_thread()}
        self._moved = time.monotonic()

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self._rest(event.is_set, lambda: event.wait(POLL_S), seconds)
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        self._rest(lambda: not thread.is_alive(), lambda: thread.join(POLL_S), seconds)

    def _rest(self, over: Callable[[], bool], look: Callable[[], object], seconds: float) -> None:
        me, end = threading.current_thread(), self._now + max(0.0, seconds)
        with self._lock:
            self._waits[me] = (over, end)
            self._moved = time.monotonic()
        try:
            while self._now < end and not over():
                look()
                self._step()
        finally:
            with self._lock:
                del self._waits[me]

    def _step(self) -> None:
        """Set the time forward if nobody has anything to do now."""
        with self._lock:
            busy = [thread.name for thread in threading.enumerate() if self._works(thread)]
            if not busy:
                self._now = min(end for _, end in self._waits.values())
                self._moved = time.monotonic()
            elif time.monotonic() - self._moved > STUCK_S:
                raise AssertionError(f"time stands still: {busy} wait for something else")

    def _works(self, thread: threading.Thread) -> bool:
        if thread in self._strangers:
            return False
        if thread not in self._waits:
            return True
        over, end = self._waits[thread]
        return end <= self._now or over()


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
