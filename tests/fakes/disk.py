"""A file system in memory and the real one, each with the writer's side as
well.
"""

import errno
import itertools
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pilot_core.logship.disk import Disk, OsDisk


class WriterDisk(Disk, Protocol):
    """What a payload does to its log."""

    def append(self, path: Path, data: bytes) -> None:
        """Make the file if it is not there, and write at its end."""
        ...

    def rename(self, path: Path, new: Path) -> None:
        """As `os.rename`."""
        ...

    def truncate(self, path: Path, size: int = 0) -> None:
        """As `os.truncate`."""
        ...

    def exists(self, path: Path) -> bool:
        """Is there such a name?"""
        ...


class RealDisk(OsDisk):
    """The machine's."""

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as out:
            out.write(data)

    def rename(self, path: Path, new: Path) -> None:
        os.rename(path, new)

    def truncate(self, path: Path, size: int = 0) -> None:
        os.truncate(path, size)

    def exists(self, path: Path) -> bool:
        return path.exists()


@dataclass(eq=False)
class _File:
    """An inode; it is its own `stat` result."""

    st_ino: int
    data: bytearray = field(default_factory=bytearray)
    st_mtime_ns: int = 0
    st_dev: int = 1
    st_mode: int = stat.S_IFREG | 0o644
    st_nlink: int = 1

    @property
    def st_size(self) -> int:
        return len(self.data)


class MemoryDisk:
    """Regular files in one folder; their times are a counter, far ahead of the
    clock.
    """

    def __init__(self) -> None:
        self._times = itertools.count(2 * 10**18)
        self._names: dict[Path, _File] = {}
        self._open: dict[int, _File] = {}
        self._count = itertools.count(3)

    def open(self, path: Path) -> int:
        fd = next(self._count)
        self._open[fd] = self.stat(path)
        return fd

    def stat(self, path: Path) -> _File:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def fstat(self, fd: int) -> _File:
        return self._open[fd]

    def pread(self, fd: int, size: int, at: int) -> bytes:
        return bytes(self._open[fd].data[at : at + size])

    def dup(self, fd: int) -> int:
        other = next(self._count)
        self._open[other] = self._open[fd]
        return other

    def close(self, fd: int) -> None:
        del self._open[fd]

    def namesakes(self, path: Path) -> Sequence[Path]:
        return sorted(other for other in self._names if other.name.startswith(path.name))

    def real(self, path: Path) -> Path:
        return path

    def entries(self, folder: Path) -> Sequence[Path]:
        return sorted(self._names)

    def load(self, path: Path) -> str:
        return self.stat(path).data.decode()

    def save(self, path: Path, text: str) -> None:
        self._names[path] = _File(next(self._count), bytearray(text.encode()))

    def append(self, path: Path, data: bytes) -> None:
        file = self._names.get(path)
        if file is None:
            file = self._names[path] = _File(next(self._count))
        file.data += data
        file.st_mtime_ns = next(self._times)

    def rename(self, path: Path, new: Path) -> None:
        self._names[new] = self._names.pop(path)

    def truncate(self, path: Path, size: int = 0) -> None:
        file = self.stat(path)
        del file.data[size:]
        file.st_mtime_ns = next(self._times)

    def exists(self, path: Path) -> bool:
        return path in self._names
