"""What the tail and the position file want of a file system, as an argument."""

import contextlib
import errno
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pilot_core.base.files import write_atomic

__all__ = ["ConfinedDisk", "Disk", "FileFacts", "OsDisk", "folders_outside"]

# A renamed file is looked for among so many names.
_MOST_NAMES = 500


class FileFacts(Protocol):
    """The part of `os.stat_result` that is looked at."""

    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_mode(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...


class Disk(Protocol):
    """Files by name and by descriptor; every method raises OSError as `os`
    does.
    """

    def open(self, path: Path) -> int:
        """A descriptor for reading. Waits for nobody: the name may be a
        pipe's.
        """
        ...

    def stat(self, path: Path) -> FileFacts:
        """What the name stands for, links followed."""
        ...

    def fstat(self, fd: int) -> FileFacts:
        """What is open."""
        ...

    def pread(self, fd: int, size: int, at: int) -> bytes:
        """At most `size` bytes from the position `at`."""
        ...

    def dup(self, fd: int) -> int:
        """Another descriptor of the same file."""
        ...

    def close(self, fd: int) -> None:
        """Let go of a descriptor."""
        ...

    def namesakes(self, path: Path) -> Sequence[Path]:
        """Names in the same folder that begin like this one, sorted:
        rotation's.
        """
        ...

    def real(self, path: Path) -> Path:
        """Where the name leads to, links resolved; also if nothing is there."""
        ...

    def entries(self, folder: Path) -> Sequence[Path]:
        """Some hundred names in the folder and the folders in it, at most."""
        ...

    def load(self, path: Path) -> str:
        """The whole of a small text file."""
        ...

    def save(self, path: Path, text: str) -> None:
        """Replace a small text file, whole or not at all, durably; mode 0600."""
        ...


class OsDisk:
    """The machine's file systems."""

    stat = staticmethod(os.stat)
    fstat = staticmethod(os.fstat)
    pread = staticmethod(os.pread)
    dup = staticmethod(os.dup)
    close = staticmethod(os.close)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)

    def namesakes(self, path: Path) -> Sequence[Path]:
        try:
            names = os.listdir(path.parent)
        except OSError:  # no folder yet, or one that may be entered and not listed
            return (path,)
        return [path.parent / name for name in sorted(names) if name.startswith(path.name)]

    def real(self, path: Path) -> Path:
        return Path(os.path.realpath(path))

    def entries(self, folder: Path) -> Sequence[Path]:
        found: list[Path] = []
        for at in (folder, *map(Path, _folders(folder))):
            with contextlib.suppress(OSError), os.scandir(at) as names:
                found += (Path(name.path) for name in itertools.islice(names, _MOST_NAMES - len(found)))
        return found

    def load(self, path: Path) -> str:
        return path.read_text()

    def save(self, path: Path, text: str) -> None:
        write_atomic(path, text, mode=0o600)


def _folders(folder: Path) -> Sequence[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as names:
        some = itertools.islice(names, _MOST_NAMES)
        return sorted(name.path for name in some if name.is_dir(follow_symlinks=False))
    return ()


class ConfinedDisk(OsDisk):
    """The machine's file systems, of which only some folders may be read.

    A payload writes where its log lies, and may leave a link there to a file
    that the pilot can read and its user may not: a key, a proxy. What was
    opened is judged, not its name, so nobody can swap the two.

    Parameters
    ----------
    roots
        Folders; what a link leads to must be below one of them.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    def open(self, path: Path) -> int:
        fd = super().open(path)
        found = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if any(found.is_relative_to(os.path.realpath(root)) for root in self._roots):
            return fd
        os.close(fd)
        raise PermissionError(errno.EACCES, "leads out of the job's folders", str(path))


def folders_outside(work: Path, files: Sequence[Path]) -> list[Path]:
    """The folders of files that are named outside of a job's own: the
    operator's word. A folder inside may be a link that the payload has made.
    """
    named = (Path(os.path.normpath(path)) for path in files)
    return [path.parent for path in named if not path.is_relative_to(work)]
