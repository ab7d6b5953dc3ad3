"""A folder as storage: CRIC's copytools `mv`, `cp` and `local`; `file://` and
paths.
"""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import FULL, Insistent, TransferFailed, direction
from pilot_core.storage.checksum import BLOCK, adler32
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource

__all__ = ["LocalTool"]

# Shared file systems hiccup; at most 1 + 2 = 3 s of waiting in all.
POLICY = RetryPolicy(attempts=3, first_s=1.0, cap_s=5.0)

# `file:/path` is one, too (RFC 8089).
_URL = re.compile(r"(?:file://(?:localhost)?(?=/)|file:(?!//))?(?P<path>/.*)", re.DOTALL)

_PASSING = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR}


class LocalTool(Insistent):
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
        super().__init__(clock=clock, policy=policy)
        self.name = name

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
        what = f"copy of {source.name} to {path}"

        def once() -> Stored:
            with _told(what, put=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                return self._copy(source, path, budget, progress, ErrorCode.PUTADMISMATCH)

        return self._insist(once, what=what, put=True, budget=budget)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        path = _path(source)
        if not path.is_file():
            raise StorageError(f"{path} does not exist or is no file", ErrorCode.MISSINGINPUTFILE)

        what = f"copy of {path} to {target.name}"

        def once() -> Stored:
            with _told(what, put=False):
                return self._copy(path.resolve(), target, budget, progress, ErrorCode.GETADMISMATCH)

        stored = self._insist(once, what=what, put=False, budget=budget)
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


@contextlib.contextmanager
def _told(what: str, *, put: bool) -> Iterator[None]:
    """What the file system says as a `TransferFailed`."""
    try:
        yield
    except OSError as err:
        kind = "full" if err.errno in FULL else "failed"
        raise TransferFailed(
            f"{what}: {err.strerror or err}",
            direction(kind, put=put),
            again_s=0.0 if err.errno in _PASSING else None,
        ) from err


def _path(url: str) -> Path:
    """Absolute path of a `file://` URL or of a plain path: what follows the
    host is the name, byte for byte.

    Raises
    ------
    StorageError
        NOSTORAGEPROTOCOL for anything else, and for a path that climbs (`..`).
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise StorageError(f"{url!r} is no file:// URL and no absolute path", ErrorCode.NOSTORAGEPROTOCOL)
    path = Path(found["path"])
    if ".." in path.parts or "\0" in str(path):
        raise StorageError(f"{url!r} climbs out of its folder", ErrorCode.NOSTORAGEPROTOCOL)
    return path
