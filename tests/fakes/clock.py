"""Time that passes only when somebody waits."""

import threading
from collections.abc import Callable


class FakeClock:
    """A clock for one thread: each wait jumps to its end at once, or to what
    was planned before it.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start
        self.waits: list[float] = []
        self._plans: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, do: Callable[[], object]) -> None:
        """Do this during a wait, so many seconds from now."""
        self._plans.append((self.now + seconds, do))
        self._plans.sort(key=lambda plan: plan[0])

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        self.waits.append(seconds)
        end = self.now + max(0.0, seconds)
        while self._plans and self._plans[0][0] <= end and not event.is_set():
            self.now, do = max(self.now, self._plans[0][0]), self._plans.pop(0)[1]
            do()
        if not event.is_set():
            self.now = max(self.now, end)
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        # A thread works in the machine's time, whatever its clock says.
        thread.join(max(0.0, seconds))
