"""A file on its way in: a temporary name until it is whole."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pilot_core.base.budget import Budget
from pilot_core.storage.checksum import Checksums
from pilot_core.storage.contract import Progress

__all__ = ["FileSink", "beside"]


class FileSink:
    """Writes beside `target` and takes its name only at `commit`.

    Parameters
    ----------
    target
        The name the whole file gets; its folder must exist.
    total
        Bytes expected, 0 if unknown; for `progress`.
    mode
        Permissions of the whole file.

    Raises
    ------
    OSError
        From the file system; nothing stays behind.
    BudgetSpent
        From `write`, when the time is over.
    """

    def __init__(
        self,
        target: Path,
        *,
        budget: Budget,
        total: int = 0,
        progress: Progress | None = None,
        mode: int = 0o644,
    ) -> None:
        self.target = target
        self.sums = Checksums()
        self._budget = budget
        self._total = total
        self._progress = progress
        fd, name = _open_beside(target, mode)
        self._out = os.fdopen(fd, "wb")
        self.temporary: Path | None = Path(name)

    def __enter__(self) -> "FileSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk shows again when the buffer is flushed
            self._out.close()
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)

    def write(self, data: bytes) -> int:
        """Add bytes."""
        self._budget.timeout(1.0)
        self._out.write(data)
        self.sums.update(data)
        if self._progress is not None:
            self._progress(self.sums.size, self._total)
        return len(data)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._out.flush()

    def settle(self) -> Path:
        """Force the bytes to disk; the temporary file, for a look before
        `commit`.
        """
        self._out.flush()
        os.fsync(self._out.fileno())
        assert self.temporary is not None, "settle after commit"
        return self.temporary

    def commit(self) -> None:
        """Give the whole file its name: for a reader it appears in one step."""
        temporary = self.settle()
        self._out.close()
        os.replace(temporary, self.target)
        self.temporary = None
        _sync_folder(self.target.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a crash of the machine; some file systems
    cannot.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def beside(target: Path, size: int = 0) -> Iterator[Path]:
    """An empty temporary file in the target's folder, for a program to fill;
    removed unless it was renamed.

    Parameters
    ----------
    size
        Bytes to come: room for them is asked for first. 0 if unknown.
    """
    fd, name = _open_beside(target, 0o644)
    try:
        with os.fdopen(fd, "wb") as out:
            if size:
                os.posix_fallocate(fd, 0, size)
            out.truncate(0)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _open_beside(target: Path, mode: int) -> tuple[int, str]:
    """Open a new file in the target's folder, under a name of its own."""
    # A name of 255 bytes has no room for an addition.
    fd, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.absolute().parent)
    os.fchmod(fd, mode)
    return fd, name
