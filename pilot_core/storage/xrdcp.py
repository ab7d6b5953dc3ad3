"""XRootD: CRIC's copytool `xrdcp`, with the programs xrdcp and xrdfs.

The bytes go through our own hands (`xrdcp - <url>`), so that they are summed
on the way and a log that still grows is stored as it was at the start. A file
goes up under a name of its own, is checked there, and then moved.
"""

import contextlib
import logging
import re
import uuid
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import Insistent, TransferFailed, direction
from pilot_core.storage.checksum import Checksums, matches
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.programs import Finished, Runner
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource

__all__ = ["XrdcpTool"]

log = logging.getLogger(__name__)

_URL = re.compile(r"(?P<server>x?roots?://[^/@\x00-\x20]+)/+(?P<path>[^\x00-\x1f\x7f]+)")

# Left to themselves the programs try to connect for eight minutes (xrootd
# 5.5): five times, each 120 s at most. We repeat ourselves, within the budget.
_ENVIRONMENT = ("env", "XRD_CONNECTIONRETRY=1", "XRD_CONNECTIONWINDOW=20", "XRD_STREAMERRORWINDOW=20")

# Error numbers of the protocol (XProtocol.hh, XErrorCode) by what they mean.
_KINDS = {
    "3009": "full",
    "3010": "refused",
    "3011": "missing",
    "3021": "full",
    "3030": "refused",
}


class XrdcpTool(Insistent):
    """Stores and fetches files of an XRootD server.

    Credentials are the programs' own: X509_USER_PROXY, BEARER_TOKEN_FILE...
    """

    name = "xrdcp"

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",  # noqa: ARG002 - XRootD knows no content types
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`. Missing folders are made."""
        server, path = _split(target)
        temporary = f"{path.rpartition('/')[0]}/.{uuid.uuid4().hex}.part"
        run = Runner(self.name, f"upload of {source.name} to {target}", budget, True, _kind, _ENVIRONMENT)

        def once() -> Stored:
            with FileSource(source, budget=budget, progress=progress) as src:
                try:
                    # --posc: the server itself removes what is not closed.
                    options = ("--nopbar", "--force", "--posc", "--path")
                    run("xrdcp", *options, "-", f"{server}/{temporary}", feed=src)
                    _verify(run, src, server, temporary)
                    run("xrdfs", server, "mv", temporary, path)
                except BaseException:
                    with contextlib.suppress(StorageError, BudgetSpent):
                        run("xrdfs", server, "rm", temporary)
                    raise
                return Stored(target, "", src.size, src.sums.adler32)

        return self._insist(once, what=run.what, put=True, budget=budget)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        server, path = _split(source)
        run = Runner(self.name, f"download of {source}", budget, False, _kind, _ENVIRONMENT)

        def once() -> Stored:
            size = _size(run, server, path)
            with FileSink(target, budget=budget, total=size, progress=progress) as sink:
                run("xrdcp", "--nopbar", f"{server}/{path}", "-", drain=sink.write)
                found = _checksum(run, server, path)
                if sink.sums.size != size or (found and not matches(found, sink.sums.adler32)):
                    said = f"{source} has {size} bytes with adler32 {found or 'unknown'}"
                    mine = f"{sink.sums.size} with {sink.sums.adler32} came"
                    raise StorageError(f"{said}, {mine}", ErrorCode.GETADMISMATCH)
                sink.commit()
            return Stored(source, "", size, sink.sums.adler32)

        return self._insist(once, what=run.what, put=False, budget=budget)

    def public_url(self, target: str) -> str:
        """Nowhere: browsers do not speak XRootD. Raises for what is no such
        URL.
        """
        _split(target)
        return ""


def _kind(done: Finished) -> str:
    """What a failure means, from the protocol's error number in what was said."""
    number = re.search(r"\[(3\d{3})\]", done.said)
    return _KINDS.get(number[1], "failed") if number else "failed"


def _verify(run: Runner, src: FileSource, server: str, path: str) -> None:
    """Compare with the server's checksum, or read back where it has none."""
    size, found = _size(run, server, path), _checksum(run, server, path)
    if size == src.size and not found:
        back = Checksums()
        run("xrdcp", "--nopbar", f"{server}/{path}", "-", drain=back.update)
        size, found = back.size, back.adler32
    if size != src.size or not matches(found, src.sums.adler32):
        said = f"{run.what}: the server has {size} bytes with adler32 {found}"
        raise StorageError(f"{said}, {src.size} with {src.sums.adler32} were sent", ErrorCode.PUTADMISMATCH)


def _size(run: Runner, server: str, path: str) -> int:
    found = re.search(r"^Size:\s+(\d+)", run("xrdfs", server, "stat", path), re.MULTILINE)
    if found is None:
        raise TransferFailed(f"{run.what}: xrdfs tells no size", direction("failed", put=run.put))
    return int(found[1])


def _checksum(run: Runner, server: str, path: str) -> str:
    """The server's adler32; empty if it is not set up to compute one."""
    try:
        said = run("xrdfs", server, "query", "checksum", path)
    except TransferFailed as err:
        log.debug("no checksum of %s: %s", path, err)
        return ""
    found = re.search(r"\badler32 ([0-9a-f]{1,8})\b", said)
    return found[1] if found else ""


def _split(url: str) -> tuple[str, str]:
    """Server and absolute path of a URL."""
    found = _URL.fullmatch(url)
    if found is None or any(part in (".", "..") for part in found["path"].split("/")):
        raise StorageError(f"{url!r} is no root://<host>//<path>", ErrorCode.NOSTORAGEPROTOCOL)
    return found["server"], f"/{found['path']}"
