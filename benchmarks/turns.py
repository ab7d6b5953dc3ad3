"""Virtual time for many threads that take turns: hours pass in minutes, with
real sockets between them.

`tests.fakes.virtual_clock` looks at all threads to learn that they wait, which
is fine for ten of them. Here who waits passes the turn on, which costs the same
for a thousand.
"""

import heapq
import itertools
import threading
from collections.abc import Callable

from pilot_core.base.scope import Scope

__all__ = ["EPOCH", "AlarmClock", "World", "WorldOver"]

#: When a world begins, epoch seconds.
EPOCH = 1_800_000_000.0


class WorldOver(BaseException):
    """The simulation has ended: raised in each thread that still waits."""


class World:
    """Virtual time for many threads, of which one runs while the others wait.

    The clock jumps to the earliest end of all waits. Both ends of a connection
    share it: a request is answered within an instant, since who sends it keeps
    the turn until the answer is there, unless the server itself waits before
    it gives one.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, threading.Semaphore]] = []
        self._order = itertools.count()
        self._over = False

    def time(self) -> float:
        return EPOCH + self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.sleep_until(self.now + seconds)
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))

    def sleep_until(self, when: float) -> None:
        """Give the turn to whoever waits for the earliest moment."""
        gate = self._queue(when)
        self._next()
        self._pass(gate)

    def spawn(self, scope: Scope, function: Callable[[], None]) -> None:
        """Start a thread that has its first turn now, after those before it."""
        scope.spawn("pilot", self._body, self._queue(self.now), function)

    def end(self) -> None:
        """End all threads that wait."""
        self._over = True
        for _, _, gate in self._waiting:
            gate.release()

    def _body(self, gate: threading.Semaphore, function: Callable[[], None]) -> None:
        try:
            self._pass(gate)
            function()
        except WorldOver:
            return
        except BaseException:
            self.end()
            raise

    def _queue(self, when: float) -> threading.Semaphore:
        gate = threading.Semaphore(0)
        heapq.heappush(self._waiting, (max(when, self.now), next(self._order), gate))
        return gate

    def _next(self) -> None:
        self.now, _, gate = heapq.heappop(self._waiting)
        gate.release()

    def _pass(self, gate: threading.Semaphore) -> None:
        gate.acquire()
        if self._over:
            raise WorldOver


class AlarmClock:
    """One thread's view of the time, with an alarm that ends a wait early."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: When the alarm goes off, and what it does.
        self.alarm_s = float("inf")
        self.ring: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self._world.time()

    def monotonic(self) -> float:
        return self._world.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        end, alarm = self._world.now + max(0.0, seconds), self.alarm_s
        self._world.sleep_until(min(end, alarm))
        if end >= alarm:
            # `ring` may well set the event that is waited for.
            self.alarm_s = float("inf")
            self.ring()
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))
