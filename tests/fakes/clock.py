"""Time that passes only when somebody waits."""

import threading


class FakeClock:
    """A clock for one thread: each wait jumps to its end at once."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start
        self.waits: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        self.waits.append(seconds)
        self.now += max(0.0, seconds)
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        # A thread works in the machine's time, whatever its clock says.
        thread.join(max(0.0, seconds))
