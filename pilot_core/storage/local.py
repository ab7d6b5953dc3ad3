"""A folder as storage: CRIC's copytools `mv`, `cp` and `local`; `file://` and
paths.
"""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import FULL
from pilot_core.storage.checksum import BLOCK, adler32
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource, SourceChanged

__all__ = ["LocalTool"]

# Shared file systems hiccup; at most 1 + 2 = 3 s of waiting in all.
POLICY = RetryPolicy(attempts=3, first_s=1.0, cap_s=5.0)

_PASSING = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR}
_MISMATCH = (ErrorCode.PUTADMISMATCH, ErrorCode.GETADMISMATCH)


class LocalTool:
    """Copies files between folders of this machine.

    Parameters
    ----------
    name
        The name under which CRIC knows it: `mv`, `cp` or `local`. Each of them
        copies: the job's own file is still needed for its report.
    policy
        Attempts at one file.
    """

    def __init__(self, *, clock: Clock, name: str = "local", policy: RetryPolicy = POLICY) -> None:
        self.name = name
        self._clock = clock
        self._policy = policy

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",  # noqa: ARG002 - a file system knows no content types
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`; missing folders are made."""
        path = _path(target)

        def once() -> Stored:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._copy(source, path, budget, progress, ErrorCode.PUTADMISMATCH)

        return self._insist(once, f"copy of {source.name} to {path}", budget, put=True)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        path = _path(source)
        if not path.is_file():
            raise StorageError(f"{path} does not exist or is no file", ErrorCode.MISSINGINPUTFILE)

        def once() -> Stored:
            return self._copy(path.resolve(), target, budget, progress, ErrorCode.GETADMISMATCH)

        stored = self._insist(once, f"copy of {path} to {target.name}", budget, put=False)
        return Stored(source, self.public_url(source), stored.size, stored.adler32)

    def public_url(self, target: str) -> str:
        """`file://` URL: readable here and wherever the folder is mounted."""
        return f"file://{quote(str(_path(target)))}"

    def _copy(
        self, source: Path, target: Path, budget: Budget, progress: Progress | None, mismatch: ErrorCode
    ) -> Stored:
        """Copy, read back, rename."""
        with (
            FileSource(source, budget=budget, progress=progress) as src,
            FileSink(target, budget=budget, total=src.size) as sink,
        ):
            while data := src.read(BLOCK):
                sink.write(data)
            found = adler32(sink.settle(), budget=budget)
            if found != src.sums.adler32:
                wrong = f"{target} has adler32 {found}, {source.name} has {src.sums.adler32}"
                raise StorageError(wrong, mismatch)
            sink.commit()
        return Stored(str(target), self.public_url(str(target)), src.size, src.sums.adler32)

    def _insist(self, once: Callable[[], Stored], what: str, budget: Budget, *, put: bool) -> Stored:
        """Call `once` until it works; its failures become `StorageError`s."""
        try:
            return retry(
                once,
                policy=self._policy,
                again=_again,
                clock=self._clock,
                budget=budget,
                stop=threading.Event(),
                what=what,
            )
        except BudgetSpent as err:
            code = ErrorCode.STAGEOUTTIMEOUT if put else ErrorCode.STAGEINTIMEOUT
            raise StorageError(f"{what}: {err}", code) from err
        except OSError as err:
            raise StorageError(f"{what}: {err.strerror or err}", _code(err, put=put)) from err


def _again(err: Exception) -> float | None:
    """Which failures of a copy may pass by themselves."""
    if isinstance(err, StorageError):
        return 0.0 if isinstance(err, SourceChanged) or err.code in _MISMATCH else None
    return 0.0 if isinstance(err, OSError) and err.errno in _PASSING else None


def _code(err: OSError, *, put: bool) -> ErrorCode:
    if err.errno in FULL:
        return ErrorCode.NOREMOTESPACE if put else ErrorCode.NOLOCALSPACE
    return ErrorCode.STAGEOUTFAILED if put else ErrorCode.STAGEINFAILED


def _path(url: str) -> Path:
    """Absolute path of a `file://` URL or of a plain path.

    Raises
    ------
    StorageError
        NOSTORAGEPROTOCOL for anything else, and for a path that climbs (`..`).
    """
    parts = urlsplit(url)
    if url.startswith("/"):
        path = Path(url)
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        path = Path(unquote(parts.path))
    else:
        raise StorageError(f"{url!r} is no file:// URL and no absolute path", ErrorCode.NOSTORAGEPROTOCOL)
    if ".." in path.parts or "\0" in str(path):
        raise StorageError(f"{url!r} climbs out of its folder", ErrorCode.NOSTORAGEPROTOCOL)
    return path
