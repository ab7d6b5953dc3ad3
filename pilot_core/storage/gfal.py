"""GFAL2: CRIC's copytool `gfal`, with the programs gfal-copy, gfal-sum,
gfal-rename...

For storages that speak what we do not (SRM, GridFTP). A file goes up under a
name of its own, is checked there, and then moved.
"""

import contextlib
import errno
import logging
import os
import re
import signal
import tempfile
import uuid
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import Insistent, TransferFailed, direction
from pilot_core.storage.checksum import adler32, matches
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.programs import Finished, Runner
from pilot_core.storage.sink import beside
from pilot_core.storage.source import summed

__all__ = ["GfalTool"]

log = logging.getLogger(__name__)

_URL = re.compile(r"(?P<folder>[a-z0-9+]+://[^\x00-\x20]*/)(?P<name>[^/\x00-\x1f\x7f]+)")

# The programs end with the errno of what went wrong.
_KINDS = {
    errno.ENOENT: "missing",
    errno.EACCES: "refused",
    errno.EPERM: "refused",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    -signal.SIGXFSZ: "full",
    errno.ETIMEDOUT: "timeout",
    errno.ETIME: "timeout",
}


class GfalTool(Insistent):
    """Stores and fetches files with the gfal2-util programs.

    Credentials are the programs' own: X509_USER_PROXY, BEARER_TOKEN...
    Progress is told at the end only.
    """

    name = "gfal"

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",  # noqa: ARG002 - GFAL2 knows no content types
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`. Missing folders are made."""
        folder, _ = _split(target)
        temporary = f"{folder}.{uuid.uuid4().hex}.part"
        run = Runner(self.name, f"upload of {source.name} to {target}", budget, True, _kind)

        def once() -> Stored:
            size, sums = summed(source, budget)
            try:
                run("gfal-copy", *_options(budget), "--parent", _local(source), temporary)
                _verify(run, temporary, size, sums)
                run("gfal-rename", temporary, target)
            except BaseException:
                with contextlib.suppress(StorageError, BudgetSpent):
                    run("gfal-rm", temporary)
                raise
            return Stored(target, "", size, sums)

        return self._insist(once, what=run.what, put=True, budget=budget, progress=progress)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        _split(source)
        run = Runner(self.name, f"download of {source}", budget, False, _kind)

        def once() -> Stored:
            size = _size(run, source)
            # The room first: on a full disk gfal-copy (gfal2-util 1.8) writes
            # what fits and ends with 0.
            with beside(target, size) as temporary:
                run("gfal-copy", *_options(budget), source, _local(temporary))
                sums = adler32(temporary, budget=budget)
                found, have = _checksum(run, source), temporary.stat().st_size
                if have != size or (found and not matches(found, sums)):
                    said = f"{source} has {size} bytes with adler32 {found or 'unknown'}"
                    raise StorageError(f"{said}, {have} with {sums} came", ErrorCode.GETADMISMATCH)
                os.replace(temporary, target)
            return Stored(source, "", size, sums)

        return self._insist(once, what=run.what, put=False, budget=budget, progress=progress)

    def public_url(self, target: str) -> str:
        """Nowhere that we know of. Raises for what is no URL."""
        _split(target)
        return ""


def _options(budget: Budget) -> tuple[str, ...]:
    """Overwrite our own temporary file; end with the budget."""
    seconds = max(1, int(budget.timeout(86_400.0)))
    return ("--force", "--timeout", str(seconds), "--transfer-timeout", str(seconds))


def _verify(run: Runner, url: str, size: int, sums: str) -> None:
    """Compare with the storage's size and checksum, or read back where it has
    none.
    """
    there, found = _size(run, url), _checksum(run, url)
    if there == size and not found:
        with tempfile.TemporaryDirectory(prefix="pilot-gfal-") as folder:
            back = Path(folder, "back")
            run("gfal-copy", *_options(run.budget), url, _local(back))
            there, found = back.stat().st_size, adler32(back, budget=run.budget)
    if there != size or not matches(found, sums):
        said = f"{run.what}: the storage has {there} bytes with adler32 {found}"
        raise StorageError(f"{said}, {size} with {sums} were sent", ErrorCode.PUTADMISMATCH)


def _size(run: Runner, url: str) -> int:
    found = re.search(r"^\s*Size:\s+(\d+)", run("gfal-stat", url), re.MULTILINE)
    if found is None:
        raise TransferFailed(f"{run.what}: gfal-stat tells no size", direction("failed", put=run.put))
    return int(found[1])


def _checksum(run: Runner, url: str) -> str:
    """The storage's adler32; empty if it has none."""
    try:
        said = run("gfal-sum", url, "ADLER32")
    except TransferFailed as err:
        log.debug("no checksum of %s: %s", url, err)
        return ""
    found = re.search(r"\s([0-9a-fA-F]{1,8})$", said)
    return found[1] if found else ""


def _local(path: Path) -> str:
    """As the programs want it: nothing is quoted."""
    return f"file://{path.absolute()}"


def _kind(done: Finished) -> str:
    return _KINDS.get(done.code, "failed")


def _split(url: str) -> tuple[str, str]:
    """Folder and name of a URL."""
    found = _URL.fullmatch(url)
    if found is None or any(part in (".", "..") for part in url.split("/")):
        raise StorageError(f"{url!r} is no URL of a file", ErrorCode.NOSTORAGEPROTOCOL)
    return found["folder"], found["name"]
