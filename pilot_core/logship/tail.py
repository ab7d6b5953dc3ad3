"""One name, and the files that stand behind it in the course of time.

A `Tail` stands for a name; behind the name there may be several files at a
time (rotation), each a `TailedFile` with a position of its own. A file that is
cut and written anew is another one under the same inode. A file with two names
that are both looked at is read once, by the tail that found it first, for as
long as it has one of the names.
"""

import logging
import stat
from collections.abc import Sequence
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.logship.checkpoint import Place, fingerprint
from pilot_core.logship.disk import Disk, FileFacts
from pilot_core.logship.tailed import BEFORE, TailedFile

__all__ = ["Tail"]

log = logging.getLogger(__name__)


class Tail:
    """A name, and the files behind it in the order in which they came.

    Parameters
    ----------
    path
        May not exist yet; may be a symlink that appears late or is pointed
        elsewhere.
    places
        What is remembered of an earlier life, for this path.
    rotate_wait_s
        A file that lost its name is read on until it has been quiet for so
        long:
        a writer that had it open may not have noticed yet.
    disk, clock
        The file system and the source of time.

    Attributes
    ----------
    named
        Device and inode that the name stands for, as of the last look.
    others
        The tails of the other names.
    """

    def __init__(
        self,
        path: Path,
        places: list[Place],
        *,
        disk: Disk,
        clock: Clock,
        line_bytes: int,
        rotate_wait_s: float,
    ) -> None:
        self.path = path
        self.files: list[TailedFile] = []
        self.named = (-1, -1)
        self.others: Sequence[Tail] = ()
        self._disk = disk
        self._clock = clock
        self._line_bytes = line_bytes
        self._rotate_wait_s = rotate_wait_s
        self._said = ""
        self._generation = max((p.generation for p in places), default=-1)
        self._places = places

    def look(self) -> bool:
        """Find out what became of the name; True if a file was added.

        The caller then writes the position file before anything of the new
        file is sent: generation and `since` are part of every insert id and
        of the times of lines that have none.
        """
        before = len(self.files)
        found = self._open_current()
        if found is not None:
            self.files.append(found)
        newest = {file.ident: file for file in self.files}
        for file in newest.values():
            if file.replaced:
                self._generation += 1
                self.files.append(file.successor(self._generation, self._clock.time()))
        return len(self.files) > before

    def over(self, file: TailedFile) -> bool:
        """True if nothing more will come: replaced, or nameless and quiet."""
        if file.replaced:
            return True
        quiet = self._clock.monotonic() - file.grown_at >= self._rotate_wait_s
        return quiet and all(file.ident != tail.named for tail in (self, *self.others))

    def forget(self, file: TailedFile) -> None:
        """Everything of this file is delivered."""
        file.close()
        self.files.remove(file)

    def close(self) -> None:
        """Let go of all files."""
        for file in self.files:
            file.close()

    def _open(self, path: Path) -> tuple[int, FileFacts] | None:
        try:
            # Looked at first: to open a device may already do something.
            if not stat.S_ISREG(self._disk.stat(path).st_mode):
                self._say("is not a regular file")
                return None
            fd = self._disk.open(path)
        except FileNotFoundError:
            return None
        except OSError as err:
            self._say(f"cannot be opened: {err.strerror}")
            return None
        info = self._disk.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            self._disk.close(fd)
            self._say("is not a regular file")
            return None
        return fd, info

    def _open_current(self) -> TailedFile | None:
        """The file that the name stands for now, unless it is the one we have."""
        try:
            info = self._disk.stat(self.path)
        except FileNotFoundError:
            return None
        except OSError as err:
            self._say(f"cannot be looked at: {err.strerror}")
            return None
        self.named = (info.st_dev, info.st_ino)
        if any(file.ident == self.named for tail in (self, *self.others) for file in tail.files):
            return None
        opened = self._open(self.path)
        if opened is None:
            return None
        fd, info = opened
        self.named = (info.st_dev, info.st_ino)
        self._generation += 1
        place = Place(
            str(self.path), info.st_dev, info.st_ino, generation=self._generation, since=self._clock.time()
        )
        return self._tailed(fd, place, b"")

    def resume(self) -> None:
        """Open the files of an earlier life, in the order in which they came.

        All tails do so before any of them looks.
        """
        places, self._places = self._places, []
        here: dict[tuple[int, int], Path] = {}
        if not places:
            return
        for other in (*self._disk.namesakes(self.path), *(tail.path for tail in self.others)):
            try:
                info = self._disk.stat(other)
            except OSError:
                continue
            here.setdefault((info.st_dev, info.st_ino), other)
        for place in sorted(places, key=lambda p: p.generation):
            found = here.get((place.device, place.inode))
            opened = self._open(found) if found is not None else None
            if opened is None:
                log.warning("%s: the file read so far is gone, at byte %d", self.path, place.offset)
                continue
            fd, info = opened
            before = self._disk.pread(fd, min(BEFORE, place.seen_to), max(0, place.seen_to - BEFORE))
            same = (info.st_dev, info.st_ino) == (place.device, place.inode)
            if not same or info.st_size < place.seen_to or fingerprint(before) != place.seen_print:
                log.warning("%s: another file has taken the place of the one read so far", self.path)
                self._disk.close(fd)
                continue
            start = self._disk.pread(fd, min(BEFORE, place.offset), max(0, place.offset - BEFORE))
            self.files.append(self._tailed(fd, place, start))

    def _tailed(self, fd: int, place: Place, before: bytes) -> TailedFile:
        file = TailedFile(fd, place, disk=self._disk, before=before, line_bytes=self._line_bytes)
        file.grown_at = self._clock.monotonic()
        return file

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.warning("%s %s; looked at again from time to time", self.path, what)
