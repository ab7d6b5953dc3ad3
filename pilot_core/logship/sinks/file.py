"""Entries appended to a file, one JSON line each: the sink without a service."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, SinkLimits
from pilot_core.logship.sinks.jsonline import log_entry

__all__ = ["FileSink"]


class FileSink:
    """JSON lines in the shape of Cloud Logging's LogEntry.

    A batch is one append, followed by an fsync: a reader sees whole lines, and
    what was confirmed survives a crash of the node. After a kill between the
    append and the position file a batch is appended again; its entries have
    the same `insertId`.

    Parameters
    ----------
    path
        Created at the first write, with its folders; mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"file {path}"
        self.limits = SinkLimits()
        self._path = path
        self._fd = -1

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:  # noqa: ARG002 - a disk has none
        """Append a batch; see `Sink.write`."""
        data = b"".join([log_entry(entry) + b"\n" for entry in entries])
        try:
            fd = self._open()
            start = os.fstat(fd).st_size
            try:
                _write_all(fd, data)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, start)  # no half line: the batch comes again
                raise
        except OSError as err:
            denied = err.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)
            return Outcome(OutcomeKind.DENIED if denied else OutcomeKind.RETRY, detail=str(err))
        return Outcome(OutcomeKind.DELIVERED)

    def close(self) -> None:
        """Close the file; a second call is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        if self._fd < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            _drop_torn_line(self._fd)
        return self._fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _drop_torn_line(fd: int) -> None:
    """Cut what a node's crash left behind the last newline; it was never
    confirmed.
    """
    size = end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 65536)
        at = os.pread(fd, end - start, start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
