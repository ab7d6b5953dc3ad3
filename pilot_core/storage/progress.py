"""How far a series of transfers is: lines for the log, rare enough to read, and
a bar where somebody looks on.
"""

import logging
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from pilot_core.base.clock import Clock

__all__ = ["Telling"]

log = logging.getLogger(__name__)

# Seconds between two lines of the log, and two looks of the bar.
_EVERY_S = 10.0
_DRAW_S = 0.2
_BAR = 24
_MB = 1e6


class Telling:
    """Adds up the progress of several files; called from the transfers'
    threads.

    Parameters
    ----------
    tell
        Told of each file instead of log and terminal; None for these.
    what
        First word of each line: `stage-in`.
    files, total
        How many files there are, and their bytes (0 if unknown).
    terminal
        Gets a bar if it is one.
    """

    def __init__(
        self,
        tell: Callable[[str, int, int], None] | None,
        what: str,
        *,
        files: int,
        total: int,
        clock: Clock,
        terminal: TextIO | None = None,
    ) -> None:
        terminal = sys.stderr if terminal is None else terminal
        self._tell = tell
        self._what = what
        self._files = files
        self._total = total
        self._clock = clock
        self._terminal = terminal if tell is None and terminal.isatty() else None
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._started = clock.monotonic()
        self._told = self._drawn = self._started

    def __call__(self, name: str, done: int, total: int) -> None:
        """`done` of the `total` bytes of file `name` are there."""
        with self._lock:
            self._done[name] = done
            now = self._clock.monotonic()
            if self._terminal is not None and now - self._drawn >= _DRAW_S:
                self._drawn = now
                self._draw(self._terminal, f"{self._bar()}{self.line(now)}")
            line = ""
            if self._tell is None and now - self._told >= _EVERY_S:
                self._told = now
                line = self.line(now)
        if self._tell is not None:
            self._tell(name, done, total)
        elif line:
            log.info("%s", line)

    def over(self, files: int) -> None:
        """So many files are there, and no more will come: the last line."""
        with self._lock:
            took = self._clock.monotonic() - self._started
            done = sum(self._done.values())
            if self._terminal is not None:
                self._draw(self._terminal, "")
                self._terminal = None
        rate = done / max(took, 0.001)
        log.info(
            "%s: %d of %d files, %.1f MB in %.1f s, %.1f MB/s",
            self._what,
            files,
            self._files,
            done / _MB,
            took,
            rate / _MB,
        )

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

    def _bar(self) -> str:
        """`[#######.................]  30 % `; empty where no total is known."""
        if not self._total:
            return ""
        part = min(1.0, sum(self._done.values()) / self._total)
        full = round(part * _BAR)
        return f"[{'#' * full}{'.' * (_BAR - full)}] {part:4.0%} "

    @staticmethod
    def _draw(terminal: TextIO, line: str) -> None:
        """Write over the line before, in the manner of ECMA-48."""
        terminal.write(f"\r\x1b[2K{line}")
        terminal.flush()
