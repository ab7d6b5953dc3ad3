"""A file on its way to a storage: the bytes it had when it was opened, no
others.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from pilot_core.base.budget import Budget
from pilot_core.base.files import NotRegular, OutOfBounds, real_below, regular_fd
from pilot_core.base.secretnames import SECRET_FILES, secret_file
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.checksum import BLOCK, Checksums
from pilot_core.storage.contract import Progress

__all__ = ["FileSource", "SourceChanged", "resolve_below", "secret_link", "summed"]


class SourceChanged(StorageError):
    """The file became shorter while it was read; another attempt takes its new
    size.
    """


class FileSource:
    """A regular file as a readable stream of fixed size that sums what it
    reads.

    A log that still grows is taken at the size it had at the start. Reading is
    over when the budget is: each `read` looks at it, so that a library that
    pulls piece after piece cannot run on.

    A symbolic link is refused: whoever names the file decides first where it
    may lead (`resolve_below`).

    Parameters
    ----------
    path
        The file.
    crc32c
        Sum with crc32c beside adler32.

    Raises
    ------
    StorageError
        MISSINGOUTPUTFILE if there is no such file, FILEHANDLINGFAILURE if it
        is
        no regular file or may not be read.
    """

    def __init__(
        self, path: Path, *, budget: Budget, crc32c: bool = False, progress: Progress | None = None
    ) -> None:
        self.path = path
        self._budget = budget
        self._progress = progress
        self._sums = Checksums(crc32c=crc32c)
        self._position = 0
        self._told = 0
        self._fd = _open_regular(path)
        self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> "FileSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def sums(self) -> Checksums:
        """Checksums of what was read; of the whole file once `sums.size ==
        size`.
        """
        return self._sums

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere else; an upload that is resumed does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = min(max(0, base + offset), self.size)
        return self._position

    def read(self, count: int = -1) -> bytes:
        """Next bytes; as many as asked for, unless the end comes first.

        Raises
        ------
        BudgetSpent
            If the time is over.
        SourceChanged
            If the file has become shorter.
        """
        self._budget.timeout(1.0)
        left = self.size - self._position
        wanted = left if count < 0 else min(count, left)
        data = self._read_all(wanted)
        self._sum(data)
        self._position += len(data)
        self._tell_progress()
        return data

    def __iter__(self) -> Iterator[bytes]:
        """Piece by piece; without it requests rewinds no body after a
        redirect.
        """
        while data := self.read(BLOCK):
            yield data

    def _tell_progress(self) -> None:
        """Say how far it is, once a MiB and at the end."""
        if self._progress is None or self._position <= self._told:
            return
        if self._position - self._told >= BLOCK or self._position == self.size:
            self._told = self._position
            self._progress(self._position, self.size)

    def _read_all(self, wanted: int) -> bytes:
        """`wanted` bytes from the position: one `pread` may give fewer."""
        data = os.pread(self._fd, wanted, self._position)
        while len(data) < wanted:
            more = os.pread(self._fd, wanted - len(data), self._position + len(data))
            if not more:
                raise SourceChanged(
                    f"{self.path.name} became shorter than {self.size} bytes while it was read"
                )
            data += more
        return data

    def _sum(self, data: bytes) -> None:
        """Sum what was not summed before: a resumed upload reads some bytes
        twice.
        """
        done = self._sums.size
        if self._position <= done < self._position + len(data):
            self._sums.update(data[done - self._position :])


def summed(path: Path, budget: Budget) -> tuple[int, str]:
    """Size and adler32 of a regular file; raises as `FileSource` does."""
    with FileSource(path, budget=budget) as src:
        for _ in src:
            pass
        return src.size, src.sums.adler32


def _open_regular(path: Path) -> int:
    """Open a regular file, following no link and waiting for no FIFO."""
    try:
        return regular_fd(path)
    except FileNotFoundError as err:
        raise StorageError(f"{path} does not exist", ErrorCode.MISSINGOUTPUTFILE) from err
    except NotRegular as err:
        raise StorageError(str(err), ErrorCode.FILEHANDLINGFAILURE) from err
    except OSError as err:
        raise StorageError(f"{path}: {err.strerror}", ErrorCode.FILEHANDLINGFAILURE) from err


def resolve_below(path: Path, roots: tuple[Path, ...]) -> Path:
    """Where `path` really is, if that is a regular file below one of `roots`.

    A payload can put a link called `payload.stdout` to the pilot's proxy or to
    `/etc/shadow` into the folder it shares with us; such a link is not
    followed.

    Raises
    ------
    StorageError
        MISSINGOUTPUTFILE if nothing is there, FILEHANDLINGFAILURE if it leads
        out of `roots`, is no regular file, or the job's secrets.
    """
    try:
        return real_below(path, [root.resolve() for root in roots])
    except FileNotFoundError as err:
        raise StorageError(f"{path} does not exist", ErrorCode.MISSINGOUTPUTFILE) from err
    except (NotRegular, OutOfBounds) as err:
        raise StorageError(str(err), ErrorCode.FILEHANDLINGFAILURE) from err
    except (OSError, RuntimeError) as err:  # a root that is a loop of links: RuntimeError up to Python 3.12
        raise StorageError(f"{path}: {err}", ErrorCode.FILEHANDLINGFAILURE) from err


def secret_link(
    path: Path, real: Path, roots: Sequence[Path], patterns: Sequence[str] = SECRET_FILES
) -> bool:
    """Whether `path` is a link, and the name of what it leads to, or of a
    folder on the way there from one of `roots`, is a secret's.
    """
    if not path.is_symlink():
        return False
    below = (real.relative_to(top) for top in map(Path.resolve, roots) if real.is_relative_to(top))
    return any(secret_file(name, patterns) for parts in below for name in parts.parts)
