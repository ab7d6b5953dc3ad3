"""Space: what the work directory takes, what is free, and the youngest file.

One walk serves all three questions about the job's files (`looping.py` says
which files count as the payload's activity). Links are not followed, hard
links count once, other file systems mounted below are left out. The walk is
cut into slices, so that neither a huge tree nor a slow file system holds up
the other monitors for more than `SLICE_S`, and it rests after each round for
`REST` times the CPU time it took: a walk never costs more than a quarter of a
per cent of one core, however many files there are. The price is that numbers
of a large tree are older; half-way figures are used where they are higher.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pilot_core.monitor.looping import counts_as_activity

__all__ = ["DiskMonitor", "TreeMonitor", "free_bytes"]

#: Longest time and most entries of one slice.
SLICE_S = 0.5
SLICE_ENTRIES = 20_000

#: Rest after a round, in units of the CPU time it took.
REST = 400

#: Hard links remembered in one round; beyond that they count each time.
_MOST_LINKS = 100_000

# st_blocks counts units of 512 bytes on every Linux file system (stat(2)).
_BLOCK = 512


def free_bytes(path: Path) -> int | None:
    """Bytes an ordinary user may still write beside `path`; None if unknown."""
    try:
        info = os.statvfs(path)
    except OSError:
        return None
    return info.f_bavail * info.f_frsize


class DiskMonitor:
    """Free space where the job writes: one system call a folder and look.

    Parameters
    ----------
    folders
        Work directory and shared folder, which may lie on two file systems;
        the fuller one counts.
    """

    name = "disk"

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    def measure(self, now: float) -> Mapping[str, float | int | str]:  # noqa: ARG002 - the contract's
        known = [free for free in map(free_bytes, self._folders) if free is not None]
        return {"free_bytes": min(known)} if known else {}


class _Round:
    """Sums of one walk through the tree."""

    def __init__(self) -> None:
        self.bytes = 0
        self.newest = 0.0
        self.links: set[tuple[int, int]] = set()
        self.cpu_s = 0.0

    def add(self, name: str, info: os.stat_result) -> None:
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            link = (info.st_dev, info.st_ino)
            if link in self.links:
                return
            if len(self.links) < _MOST_LINKS:
                self.links.add(link)
        # Blocks, not the length: what a sparse file does not occupy fills no
        # disk.
        self.bytes += info.st_blocks * _BLOCK
        if info.st_mtime > self.newest and stat.S_ISREG(info.st_mode) and counts_as_activity(name):
            self.newest = info.st_mtime


class TreeMonitor:
    """Size of the job's folders and the youngest file in them.

    Parameters
    ----------
    folders
        Work directory and shared folder; one inside another counts once.
    period_s
        Time between the starts of two rounds, at least.
    clock
        Monotonic seconds; for slices and rests.
    """

    name = "tree"

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        period_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._folders = folders
        self._period_s = period_s
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._round = _Round()
        self._walk: Iterator[None] | None = None
        self._next = -float("inf")
        self._started = 0.0
        self._last: _Round | None = None

    def measure(self, now: float) -> Mapping[str, float | int | str]:
        if self._walk is None and self._clock() >= self._next:
            self._round, self._started = _Round(), self._clock()
            self._walk = _walk(_outermost(self._folders), self._round)
        if self._walk is not None and self._slice(self._walk):
            self._walk, self._last = None, self._round
            self._next = max(self._started + self._period_s, self._clock() + REST * self._round.cpu_s)
        found: dict[str, float | int | str] = {}
        if self._last is not None:
            found["workdir_bytes"] = max(self._last.bytes, self._round.bytes)
            newest = max(self._last.newest, self._round.newest)
            if newest:
                # A file from the future (another clock, a tar file) means now.
                found["newest_mtime"] = min(now, newest)
        elif self._round.bytes:
            found["workdir_bytes"] = self._round.bytes
        return found

    def _slice(self, walk: Iterator[None]) -> bool:
        """Go on with the round; True when it is complete."""
        end, cpu = self._clock() + SLICE_S, self._cpu_clock()
        try:
            for count, _ in enumerate(walk, start=1):
                if count >= SLICE_ENTRIES or (count % 256 == 0 and self._clock() >= end):
                    return False
            return True
        finally:
            self._round.cpu_s += self._cpu_clock() - cpu


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """The folders that lie in no other one of them, by their real paths."""
    real = sorted({Path(os.path.realpath(folder)) for folder in folders})
    return [path for path in real if not any(other in path.parents for other in real)]


def _walk(folders: Sequence[Path], found: _Round) -> Iterator[None]:
    """Visit every entry once, yielding after each; what vanished is passed
    over.
    """
    for root in folders:
        with contextlib.suppress(OSError):
            info = root.stat()
            found.add(root.name, info)
            device = info.st_dev
            pending = [str(root)]
            while pending:
                # A removed or forbidden directory ends neither the walk nor
                # the round.
                with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        try:
                            info = entry.stat(follow_symlinks=False)
                        except OSError:
                            continue
                        if stat.S_ISDIR(info.st_mode):
                            if info.st_dev != device:
                                continue
                            pending.append(entry.path)
                        found.add(entry.name, info)
                        yield
