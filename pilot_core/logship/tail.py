"""One name, and the files that stand behind it in the course of time.

A `Tail` stands for a name; behind the name there may be several files at a
time (rotation), each a `TailedFile` with a position of its own. A file that is
cut and written anew is another one under the same inode. A file with two names
that are both looked at is read once, by the tail that found it first, for as
long as it has one of the names.
"""

import contextlib
import dataclasses
import logging
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.logship.checkpoint import Place, fingerprint
from pilot_core.logship.disk import Disk, FileFacts
from pilot_core.logship.stamp import RENEW_S
from pilot_core.logship.tailed import BEFORE, TailedFile

__all__ = ["Tail"]

log = logging.getLogger(__name__)

NOBODY = (-1, -1)
# What rotation adds to a name: `.1`, `.2023-11-14_22`, `-20231114`.
_ROTATED = re.compile(r"[.-]\d[\d_.:-]*")
# Files that were missed, at most: each takes a descriptor.
_MOST_MISSED = 100
# Files whose place is kept after they are read, the last ones.
_REMEMBERED = 8


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
        self.named = NOBODY
        self.others: Sequence[Tail] = ()
        self._disk = disk
        self._clock = clock
        self._line_bytes = line_bytes
        self._rotate_wait_s = rotate_wait_s
        self._said = ""
        self._generation = max((p.generation for p in places), default=-1)
        self._places = places
        self._past: dict[tuple[int, int], Place] = {}
        self._barred = NOBODY
        # File systems round down, by some ms.
        self._born_ns = int((clock.time() - 1.0) * 1e9)

    def look(self) -> bool:
        """Find out what became of the name; True if a file was added.

        The caller then writes the position file before anything of the new
        file is sent: generation and `since` are part of every insert id and
        of the times of lines that have none.
        """
        added = [self._succeed(file) for file in tuple(self.files) if file.replaced]
        found = self._find_new()
        self.files += found
        return any(added) or bool(found)

    def renew(self) -> bool:
        """Give files that are read for long another generation and `since`;
        True if there is one.

        Only while nothing is on its way. The caller writes the position file.
        """
        now = self._clock.time()
        renewed = False
        for file in self.files:
            if now - file.place.since >= RENEW_S and file.settled:
                self._generation += 1
                file.renew(self._generation, now)
                renewed = True
        return renewed

    @property
    def places(self) -> list[Place]:
        """What is to be remembered."""
        return [file.place for file in self.files] + list(self._past.values())

    def unopened(self) -> tuple[tuple[int, int], int]:
        """Identity and bytes left of the file that has the name, opened or not;
        from any thread.
        """
        try:
            info = self._disk.stat(self.path)
        except OSError:
            return NOBODY, 0
        ident = (info.st_dev, info.st_ino)
        if ident == self._barred or not stat.S_ISREG(info.st_mode):
            return NOBODY, 0
        places = (*tuple(self._past.values()), *self._places)
        read = max((place.offset for place in places if place.ident == ident), default=0)
        return ident, max(0, info.st_size - read)

    def over(self, file: TailedFile) -> bool:
        """True if nothing more will come: replaced, or nameless and quiet."""
        if file.replaced:
            return True
        quiet = self._clock.monotonic() - file.grown_at >= self._rotate_wait_s
        return quiet and all(file.ident != tail.named for tail in (self, *self.others))

    def forget(self, file: TailedFile) -> bool:
        """Everything of this file is delivered; True if it has a successor that
        nobody knew of.

        A file that still has a name may get the old one back, and goes on from
        where it was.
        """
        added = file.replaced and self._succeed(file)
        info = file.facts()
        if not file.replaced and info is not None and info.st_nlink > 0:
            self._past[file.ident] = dataclasses.replace(file.place, over=True)
            for ident in list(self._past)[:-_REMEMBERED]:
                del self._past[ident]
        file.close()
        self.files.remove(file)
        return added

    def _succeed(self, file: TailedFile) -> bool:
        """The file under the inode of one that was cut, right behind it."""
        generation = file.place.generation
        if any(other.ident == file.ident and other.place.generation > generation for other in self.files):
            return False
        self._generation += 1
        successor = file.successor(self._generation, self._clock.time())
        self.files.insert(self.files.index(file) + 1, successor)
        return True

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

    def _find_new(self) -> list[TailedFile]:
        """The file that the name stands for now, unless it is one we have, and
        those that had it since the last look and lost it again.
        """
        info: FileFacts | None = None
        try:
            info = self._disk.stat(self.path)
            self.named = (info.st_dev, info.st_ino)
        except FileNotFoundError:
            pass
        except OSError as err:
            self._say(f"cannot be looked at: {err.strerror}")
            return []
        if info is not None and self.named in self._known():
            return []
        opened = self._open(self.path) if info is not None else None
        if info is not None and opened is None:
            self._barred = self.named
            return []
        if opened is not None:
            self.named = (opened[1].st_dev, opened[1].st_ino)
        real = self._disk.real(self.path)
        found = [self._begin(fd, facts, real) for fd, facts in self._missed(opened, real)]
        if opened is not None:
            fd, facts = opened
            found.append(self._go_on(fd, facts, real) or self._begin(fd, facts, real))
        return found

    def _known(self) -> set[tuple[int, int]]:
        return {file.ident for tail in (self, *self.others) for file in tail.files}

    def _begin(self, fd: int, facts: FileFacts, real: Path) -> TailedFile:
        self._generation += 1
        now = self._clock.time()
        generation = self._generation
        place = Place(str(self.path), facts.st_dev, facts.st_ino, generation, since=now, real=str(real))
        return self._tailed(fd, place, b"")

    def _go_on(self, fd: int, facts: FileFacts, real: Path) -> TailedFile | None:
        """A file that was read before, lost its name and has it again."""
        place = self._past.pop((facts.st_dev, facts.st_ino), None)
        if place is None or not self._same(fd, facts, place):
            return None
        place = dataclasses.replace(place, real=str(real), over=False)
        return self._tailed(fd, place, self._start(fd, place))

    def _missed(self, opened: tuple[int, FileFacts] | None, real: Path) -> list[tuple[int, FileFacts]]:
        """Files that came and were rotated away while nobody looked, the oldest
        first.

        Written to after the last one known, or since this tail began; with a
        rotation's name; and no copy: copytruncate leaves those.
        """
        rotated: dict[Path, FileFacts] = {}
        for path in self._rotated(real):
            with contextlib.suppress(OSError):
                rotated[path] = self._disk.stat(path)
        since_ns = self._last_written_ns(rotated.values(), real)
        if since_ns is None:
            return []
        known = {*self._known(), *(place for tail in (self, *self.others) for place in tail._past)}
        if opened is not None:
            known.add((opened[1].st_dev, opened[1].st_ino))
        taken = {tail.path for tail in self.others}
        young: list[tuple[int, str, Path]] = []
        for path, info in rotated.items():
            fresh = info.st_mtime_ns >= since_ns and (info.st_dev, info.st_ino) not in known
            if fresh and info.st_size and path not in taken:
                young.append((info.st_mtime_ns, path.name, path))
        # Of two with the same time the higher number is older.
        young.sort(key=lambda item: (-item[0], len(item[1]), item[1]), reverse=True)
        found = [pair for _, _, path in young[-_MOST_MISSED:] if (pair := self._open(path)) is not None]
        missed = []
        for fd, info in found:
            if self._is_copy(fd, info, opened):
                self._disk.close(fd)
            else:
                missed.append((fd, info))
        return missed

    def _last_written_ns(self, rotated: Iterable[FileFacts], real: Path) -> int | None:
        """When the newest file known was written last; None if nobody can say,
        or where the name is a link that leads elsewhere by now.
        """
        if not self.files and not self._past:
            return self._born_ns if self._generation < 0 else None
        places = [file.place for file in self.files[-1:]] or list(self._past.values())
        last = max(places, key=lambda place: place.generation)
        if last.real != str(real):
            return None
        facts = self.files[-1].facts() if self.files else None
        found = [facts] if facts is not None else rotated
        times = (f.st_mtime_ns for f in found if (f.st_dev, f.st_ino) == last.ident)
        return next(times, None)

    def _is_copy(self, fd: int, facts: FileFacts, opened: tuple[int, FileFacts] | None) -> bool:
        size = facts.st_size
        if any(file.size >= size and file.begins_like(fd, size) for file in self.files):
            return True
        if any(place.seen_to and self._holds(fd, size, place) for place in self._past.values()):
            return True
        if opened is None or opened[1].st_size < size:
            return False
        head = min(BEFORE, size)
        return self._disk.pread(fd, head, 0) == self._disk.pread(opened[0], head, 0)

    def _rotated(self, path: Path) -> list[Path]:
        names = self._disk.namesakes(path)
        return [name for name in names if _ROTATED.fullmatch(name.name.removeprefix(path.name))]

    def resume(self) -> bool:
        """Open the files of an earlier life, in the order in which they came;
        True if one of them was cut meanwhile, see `look`.

        All tails do so before any of them looks.
        """
        places, self._places = self._places, []
        self._past |= {place.ident: place for place in places if place.over}
        open_then = [place for place in places if not place.over]
        if not open_then:
            return False
        real = self._disk.real(self.path)
        own = self._by_ident([self.path, *self._rotated(self.path), *self._rotated(real)])
        here = self._by_ident([*self._disk.namesakes(self.path), *(tail.path for tail in self.others)])
        here |= self._by_ident([Path(p.real) for p in open_then if p.real])
        if any(place.ident not in here for place in open_then):
            folders = dict.fromkeys(Path(p.real or p.path).parent for p in open_then if p.ident not in here)
            here |= self._by_ident(path for folder in folders for path in self._disk.entries(folder))
        added = False
        newest = {place.ident: place for place in open_then}
        for place in open_then:
            found = own.get(place.ident) or here.get(place.ident)
            opened = self._open(found) if found is not None else None
            if opened is None:
                log.warning("%s: the file read so far is gone, at byte %d", self.path, place.offset)
                continue
            fd, info = opened
            if self._same(fd, info, place):
                self.files.append(self._tailed(fd, place, self._start(fd, place), info.st_size))
                continue
            log.warning("%s: another file has taken the place of the one read so far", self.path)
            cut = place.ident in own and (info.st_dev, info.st_ino) == place.ident
            if cut and newest[place.ident] is place:
                self.files.append(self._begin(fd, info, Path(place.real)))
                added = True
            else:
                self._disk.close(fd)
        return added

    def _by_ident(self, paths: Iterable[Path]) -> dict[tuple[int, int], Path]:
        found: dict[tuple[int, int], Path] = {}
        for path in paths:
            with contextlib.suppress(OSError):
                info = self._disk.stat(path)
                found.setdefault((info.st_dev, info.st_ino), path)
        return found

    def _same(self, fd: int, facts: FileFacts, place: Place) -> bool:
        """Is this the file of that place, as far as it was read?"""
        return (facts.st_dev, facts.st_ino) == place.ident and self._holds(fd, facts.st_size, place)

    def _holds(self, fd: int, size: int, place: Place) -> bool:
        if size < place.seen_to:
            return False
        size = min(BEFORE, place.seen_to)
        return fingerprint(self._disk.pread(fd, size, place.seen_to - size)) == place.seen_print

    def _start(self, fd: int, place: Place) -> bytes:
        size = min(BEFORE, place.offset)
        return self._disk.pread(fd, size, place.offset - size)

    def _tailed(self, fd: int, place: Place, before: bytes, unclear_to: int = 0) -> TailedFile:
        file = TailedFile(
            fd, place, disk=self._disk, before=before, line_bytes=self._line_bytes, unclear_to=unclear_to
        )
        file.grown_at = self._clock.monotonic()
        return file

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.warning("%s %s; looked at again from time to time", self.path, what)
