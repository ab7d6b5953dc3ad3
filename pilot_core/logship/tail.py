"""One growing file, read by bytes: whole lines, each once, whatever happens to it.

A `Tail` stands for a name; behind the name there may be several files at a
time (rotation), each a `TailedFile` with a position of its own. A file that is
cut and written anew is another one under the same inode.
"""

import io
import logging
import os
import stat
import zlib
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.logship.checkpoint import Place, fingerprint
from pilot_core.logship.contract import Chunk, Mark, RecordMaker, Source

__all__ = ["Commit", "Tail", "TailedFile"]

log = logging.getLogger(__name__)

# So many bytes before the position are compared at each read: a file that was
# truncated and has grown past the position looks longer, not different.
_BEFORE = 256

Commit = tuple[Mark, int, int, str]
"""A mark, the piece of an overlong line, end and print of the bytes read so far."""


class TailedFile:
    """An open file and how far it has been read and confirmed.

    Parameters
    ----------
    fd
        Open for reading; owned by this object.
    place
        Identity, and where to start.
    before
        The bytes before that place.
    line_bytes
        A longer line is handed out in pieces.
    """

    def __init__(self, fd: int, place: Place, *, before: bytes, line_bytes: int) -> None:
        self.place = place
        self.maker: RecordMaker | None = None
        self.replaced = False
        self.size = place.offset
        self.grown_at = 0.0
        self._fd = fd
        self._cap = line_bytes
        self._at = place.offset
        self._before = before
        self._part = place.part
        self._partial = bytearray()
        self._unread = b""  # what stood behind a piece of an overlong line
        self._seen = (-1, -1)
        self._failed = False

    @property
    def ident(self) -> tuple[int, int]:
        """Device and inode."""
        return self.place.device, self.place.inode

    @property
    def source(self) -> Source:
        """What a record maker is told about this file."""
        place = self.place
        name = f"{zlib.crc32(place.path.encode('utf-8', 'surrogateescape')):08x}"
        file_id = f"{name}.{place.generation:04d}.{place.inode:x}"
        return Source(Path(place.path), file_id, place.since, place.offset, place.state)

    @property
    def left_bytes(self) -> int:
        """Bytes the sink has not confirmed, as of the last look."""
        return max(0, self.size - self.place.offset)

    def grew(self, now: float) -> bool:
        """Look at size and time; False if there is nothing new to read."""
        try:
            info = os.fstat(self._fd)
        except OSError as err:
            return self._unreadable(err)
        seen = (info.st_size, info.st_mtime_ns)
        if seen == self._seen and self._at >= info.st_size and not self._unread:
            return False
        self._seen = seen
        self.size = info.st_size
        self.grown_at = now
        if info.st_size < self._at:
            self.replaced = True
            # What was read and not confirmed is still in memory; the rest is gone.
            self.size = self._at
        return not self.replaced

    def read(self, size: int) -> Chunk | None:
        """The next lines; None at the end, or if replaced.

        Parameters
        ----------
        size
            Bytes of one read; at most `line_bytes`.
        """
        fresh, self._unread = self._unread, b""
        chunk = self._lines(fresh) if fresh else None
        while chunk is None and not self.replaced:
            start = self._at - len(self._before)
            try:
                data = os.pread(self._fd, len(self._before) + size, start)
            except OSError as err:
                self._unreadable(err)
                break
            if data[: len(self._before)] != self._before:
                self.replaced = True
                self.size = self._at
                break
            fresh = data[len(self._before) :]
            if not fresh:
                break
            self._at += len(fresh)
            self._before = data[-_BEFORE:]
            chunk = self._lines(fresh)
        return chunk

    def _unreadable(self, err: OSError) -> bool:
        """A file system in trouble: say it once, go on looking."""
        if not self._failed:
            log.error("%s cannot be read at byte %d: %s", self.place.path, self._at, err)
        self._failed = True
        return False

    def _lines(self, fresh: bytes) -> Chunk | None:
        first = fresh.find(b"\n") + 1
        if self._part or len(self._partial) + (first or len(fresh)) > self._cap:
            return self._piece(fresh)
        if not first:
            self._partial += fresh
            return None
        cut = fresh.rfind(b"\n") + 1
        offset = self._at - len(fresh) - len(self._partial)
        block = bytes(self._partial) + fresh[:cut] if self._partial else fresh[:cut]
        self._partial = bytearray(fresh[cut:])
        return Chunk(io.BytesIO(block).readlines(), offset)

    def _piece(self, fresh: bytes) -> Chunk | None:
        """A piece of an overlong line, cut at the cap and nowhere else.

        However the reads fell, the same line has the same pieces, so that one
        read again after a kill is not seen twice.
        """
        self._partial += fresh
        cut = self._partial.find(b"\n", 0, self._cap) + 1
        if not cut:
            if len(self._partial) <= self._cap:
                return None
            cut = self._cap
            # Not inside a character: UTF-8 continues with 10xxxxxx, up to three times.
            for back in range(1, 4):
                if self._partial[cut - back] & 0xC0 != 0x80:
                    cut -= back if self._partial[cut - back] >= 0xC0 else 0
                    break
        self._part += 1
        chunk = Chunk((bytes(self._partial[:cut]),), self._at - len(self._partial), self._part)
        self._unread, self._partial = bytes(self._partial[cut:]), bytearray()
        if chunk.lines[0].endswith(b"\n"):
            self._part = 0
        return chunk

    def rest(self) -> Chunk | None:
        """The last line, without a newline: nothing will follow it."""
        if not self._partial:
            return None
        offset = self._at - len(self._partial)
        part = self._part + 1 if self._part else 0
        chunk = Chunk((bytes(self._partial),), offset, part)
        self._partial = bytearray()
        return chunk

    def reached(self, mark: Mark) -> Commit:
        """What to remember once everything before `mark` is delivered."""
        return mark, self._part, self._at, fingerprint(self._before)

    def commit(self, commit: Commit) -> None:
        """The sink said yes."""
        mark, part, at, printed = commit
        self.place = self.place.moved(mark, part=part, seen_to=at, seen_print=printed)

    def successor(self, generation: int, now: float) -> "TailedFile":
        """The same inode from its start, after a truncation."""
        device, inode = self.ident
        place = Place(self.place.path, device, inode, generation=generation, since=now)
        return TailedFile(os.dup(self._fd), place, before=b"", line_bytes=self._cap)

    def close(self) -> None:
        """Let go of the file; a second call is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Tail:
    """A name, and the files behind it in the order in which they came.

    Parameters
    ----------
    path
        May not exist yet; may be a symlink that appears late or is pointed elsewhere.
    places
        What is remembered of an earlier life, for this path.
    rotate_wait_s
        A file that lost its name is read on until it has been quiet for so long:
        a writer that had it open may not have noticed yet.
    """

    def __init__(
        self, path: Path, places: list[Place], *, clock: Clock, line_bytes: int, rotate_wait_s: float
    ) -> None:
        self.path = path
        self.files: list[TailedFile] = []
        self._clock = clock
        self._line_bytes = line_bytes
        self._rotate_wait_s = rotate_wait_s
        self._said = ""
        self._named = (-1, -1)
        self._generation = max((p.generation for p in places), default=-1)
        self._places = places

    def look(self) -> bool:
        """Find out what became of the name; True if a file was added.

        The caller then writes the position file before anything of the new
        file is sent: generation and `since` are part of every insert id and
        of the times of lines that have none.
        """
        before = len(self.files)
        if self._places:
            self._resume()
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
        return file.ident != self._named and quiet

    def forget(self, file: TailedFile) -> None:
        """Everything of this file is delivered."""
        file.close()
        self.files.remove(file)

    def close(self) -> None:
        """Let go of all files."""
        for file in self.files:
            file.close()

    def _open(self, path: Path) -> tuple[int, os.stat_result] | None:
        try:
            # Not blocking: the name may be a pipe.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            return None
        except OSError as err:
            self._say(f"cannot be opened: {err.strerror}")
            return None
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            self._say("is not a regular file")
            return None
        return fd, info

    def _open_current(self) -> TailedFile | None:
        """The file that the name stands for now, unless it is the one we have."""
        try:
            info = os.stat(self.path)
        except FileNotFoundError:
            return None
        except OSError as err:
            self._say(f"cannot be looked at: {err.strerror}")
            return None
        self._named = (info.st_dev, info.st_ino)
        if any(file.ident == self._named for file in self.files):
            return None
        opened = self._open(self.path)
        if opened is None:
            return None
        fd, info = opened
        self._named = (info.st_dev, info.st_ino)
        self._generation += 1
        place = Place(
            str(self.path), info.st_dev, info.st_ino, generation=self._generation, since=self._clock.time()
        )
        return self._tailed(fd, place, b"")

    def _resume(self) -> None:
        """Open the files of an earlier life, in the order in which they came."""
        places, self._places = self._places, []
        folder = self.path.parent
        here: dict[tuple[int, int], Path] = {}
        for other in sorted(folder.glob(self.path.name.replace("[", "[[]") + "*")) if folder.is_dir() else ():
            try:
                info = other.stat()
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
            before = os.pread(fd, min(_BEFORE, place.seen_to), max(0, place.seen_to - _BEFORE))
            same = (info.st_dev, info.st_ino) == (place.device, place.inode)
            if not same or info.st_size < place.seen_to or fingerprint(before) != place.seen_print:
                log.warning("%s: another file has taken the place of the one read so far", self.path)
                os.close(fd)
                continue
            start = os.pread(fd, min(_BEFORE, place.offset), max(0, place.offset - _BEFORE))
            self.files.append(self._tailed(fd, place, start))

    def _tailed(self, fd: int, place: Place, before: bytes) -> TailedFile:
        file = TailedFile(fd, place, before=before, line_bytes=self._line_bytes)
        file.grown_at = self._clock.monotonic()
        return file

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.warning("%s %s; looked at again from time to time", self.path, what)
