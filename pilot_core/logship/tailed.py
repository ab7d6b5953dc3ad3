"""One open file, read by bytes: whole lines, each once, and what is confirmed."""

import contextlib
import dataclasses
import io
import logging
import threading
import zlib
from pathlib import Path

from pilot_core.logship.checkpoint import Place, fingerprint
from pilot_core.logship.contract import Chunk, Mark, RecordMaker, Source
from pilot_core.logship.disk import Disk, FileFacts

__all__ = ["BEFORE", "GRAIN", "Commit", "TailedFile"]

log = logging.getLogger(__name__)

# So many bytes before the position are compared at each read: a file that was
# truncated and has grown past the position looks longer, not different.
BEFORE = 256
#: Bytes of a read where nothing asks for less.
GRAIN = 128 * 1024

Commit = tuple[Mark, int, int, str]
"""A mark, the piece of an overlong line, end and print of the bytes read so
far.
"""


class TailedFile:
    """An open file and how far it has been read and confirmed.

    Parameters
    ----------
    fd
        Open for reading; owned by this object.
    place
        Identity, and where to start.
    disk
        Where it is open.
    before
        The bytes before that place.
    line_bytes
        A longer line is handed out in pieces.
    unclear_to
        An earlier life may have sent so much of it without hearing a yes.
    """

    def __init__(
        self, fd: int, place: Place, *, disk: Disk, before: bytes, line_bytes: int, unclear_to: int = 0
    ) -> None:
        self.place = place
        self.maker: RecordMaker | None = None
        self.replaced = False
        self.size = place.offset
        self.grown_at = 0.0
        self._fd = fd
        self._closing = threading.Lock()
        self._disk = disk
        self._cap = line_bytes
        self._at = place.offset
        self._before = before
        self._part = place.part
        self._partial = bytearray()
        self._unread = b""  # what stood behind a piece of an overlong line
        self._seen = (-1, -1)
        self._failed = False
        self._unclear_to = unclear_to

    @property
    def ident(self) -> tuple[int, int]:
        """Device and inode."""
        return self.place.ident

    @property
    def settled(self) -> bool:
        """True if nothing was sent, in this life or before, without a yes."""
        at = self.place.offset
        whole = at == self._at - len(self._partial) and not self._unread and not self._part
        return whole and at >= self._unclear_to and not self.replaced

    @property
    def source(self) -> Source:
        """What a record maker is told about this file."""
        place = self.place
        name = f"{zlib.crc32(place.path.encode('utf-8', 'surrogateescape')):08x}"
        file_id = f"{name}.{place.generation:04d}.{place.inode:x}"
        return Source(Path(place.path), file_id, place.since, place.offset, place.state)

    @property
    def left_bytes(self) -> int:
        """Bytes the sink has not confirmed; from any thread.

        While the sink refuses what is in memory nobody looks at the file, so
        it is measured here.
        """
        with self._closing:
            self._measure()
        return max(0, self.size - self.place.offset)

    def _measure(self) -> None:
        if self._fd >= 0 and not self.replaced:
            with contextlib.suppress(OSError):
                self.size = max(self._at, self._disk.fstat(self._fd).st_size)

    def grew(self, now: float) -> bool:
        """Look at size and time; False if there is nothing new to read."""
        try:
            info = self._disk.fstat(self._fd)
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
            # What was read and not confirmed is still in memory; the rest is
            # gone.
            self.size = self._at
        return not self.replaced

    def read(self, size: int) -> Chunk | None:
        """The next lines; None at the end, or if replaced.

        Parameters
        ----------
        size
            Bytes of one read; at most `line_bytes`.
        """
        # A line that is longer than a read is looked through anew with each.
        size = max(size, min(len(self._partial), GRAIN))
        fresh, self._unread = self._unread, b""
        chunk = self._lines(fresh) if fresh else None
        while chunk is None and not self.replaced:
            start = self._at - len(self._before)
            try:
                data = self._disk.pread(self._fd, len(self._before) + size, start)
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
            self._before = data[-BEFORE:]
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
            # Not inside a character: UTF-8 continues with 10xxxxxx, up to
            # three times.
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
        old = self.place
        place = Place(old.path, device, inode, generation=generation, since=now, real=old.real)
        fd = self._disk.dup(self._fd)
        file = TailedFile(fd, place, disk=self._disk, before=b"", line_bytes=self._cap)
        file.grown_at = self.grown_at
        return file

    def renew(self, generation: int, now: float) -> None:
        """The rest of a settled file as if it were another: its records are
        judged by a later `since`.
        """
        self.place = dataclasses.replace(self.place, generation=generation, since=now)
        self.maker = None

    def facts(self) -> FileFacts | None:
        """What is open; None where it cannot be said."""
        with contextlib.suppress(OSError):
            return self._disk.fstat(self._fd)
        return None

    def begins_like(self, fd: int, size: int) -> bool:
        """Does this file begin with (the first bytes of) another one's bytes?"""
        with contextlib.suppress(OSError):
            head = min(BEFORE, size)
            return self._disk.pread(self._fd, head, 0) == self._disk.pread(fd, head, 0)
        return False

    def close(self) -> None:
        """Let go of the file; a second call is harmless."""
        with self._closing:
            self._measure()
            if self._fd >= 0:
                self._disk.close(self._fd)
                self._fd = -1
