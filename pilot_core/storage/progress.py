"""How far a series of transfers is: lines for the log, rare enough to read."""

import logging
import threading

from pilot_core.base.clock import Clock

__all__ = ["ProgressLog"]

log = logging.getLogger(__name__)

# Seconds between two lines.
_EVERY_S = 10.0
_MB = 1e6


class ProgressLog:
    """Adds up the progress of several files; called from the transfers'
    threads.

    Parameters
    ----------
    what
        First word of each line: `stage-in`.
    files, total
        How many files there are, and their bytes (0 if unknown).
    """

    def __init__(self, what: str, *, files: int, total: int, clock: Clock) -> None:
        self._what = what
        self._files = files
        self._total = total
        self._clock = clock
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._started = clock.monotonic()
        self._told = self._started

    def __call__(self, name: str, done: int, total: int) -> None:  # noqa: ARG002 - as every Progress
        """`done` of the `total` bytes of file `name` are there."""
        with self._lock:
            self._done[name] = done
            now = self._clock.monotonic()
            if now - self._told < _EVERY_S:
                return
            self._told = now
            line = self.line(now)
        log.info("%s", line)

    def line(self, now: float) -> str:
        """`stage-in: 12.3 of 45.6 MB, 3 of 10 files begun, 12.1 MB/s, 3 s
        left`.
        """
        done = sum(self._done.values())
        rate = done / max(now - self._started, 0.001)
        parts = [f"{done / _MB:.1f}" + (f" of {self._total / _MB:.1f} MB" if self._total else " MB")]
        parts.append(f"{len(self._done)} of {self._files} files begun")
        parts.append(f"{rate / _MB:.1f} MB/s")
        if self._total > done and rate > 0:
            parts.append(f"{(self._total - done) / rate:.0f} s left")
        return f"{self._what}: {', '.join(parts)}"
