"""Time as an argument: the only module that may sleep."""

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock", "rfc3339", "server_time"]


class Clock(Protocol):
    """What the rest of the code knows of time."""

    def time(self) -> float:
        """Seconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep until `event` is set or `seconds` are over; True if it was
        set.

        The only way to sleep: whoever sleeps can be woken.
        """
        ...

    def join(self, thread: threading.Thread, seconds: float) -> None:
        """Sleep until `thread` has ended or `seconds` are over."""
        ...


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))


def rfc3339(epoch_s: float) -> str:
    """Epoch seconds as RFC 3339 in UTC with microseconds and `Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def server_time(epoch_s: float) -> str:
    """Epoch seconds the way PanDA wants start and end times: UTC `YYYY-MM-DD
    HH:MM:SS`.

    The server ignores every other spelling in silence (seen on panda-server
    1.0.3 and 0.8.1, both dialects).
    """
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
