"""WebDAV: CRIC's copytool `https`; `davs://` is `https://` with another word.

A file goes up under a name of its own, is checked there, and then moved to the
right one: a connection that breaks leaves no truncated file under it.
"""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import POLICY, Insistent
from pilot_core.storage.checksum import Checksums
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource
from pilot_core.storage.webdav import GOOD, Asker, Place, compare, digest, move, pieces, split

if TYPE_CHECKING:
    import requests

__all__ = ["HttpsTool"]

# Answers to an upload into a folder that is not there: RFC 4918 9.7.1; some
# say 404.
_NO_FOLDER = (404, 409)
# MKCOL of a folder that exists: RFC 4918 9.3.1.
_EXISTS = 405


class HttpsTool(Insistent):
    """Stores and fetches files with PUT, MOVE, HEAD and GET.

    Parameters
    ----------
    token
        Returns the bearer token of this moment; None for none. It is sent to
        the host of the URL alone, not where that one redirects to.
    certificate
        PEM file with the proxy (certificate and key); None for none.
    ca
        File or folder with the certificates to trust; None for the system's.
    stall_s
        A request without any progress for so long is given up and repeated.
    """

    name = "https"

    def __init__(
        self,
        *,
        clock: Clock,
        token: Callable[[], str] | None = None,
        certificate: Path | None = None,
        ca: Path | None = None,
        policy: RetryPolicy = POLICY,
        stall_s: float = 60.0,
    ) -> None:
        super().__init__(clock=clock, policy=policy)
        self._token = token
        self._certificate = certificate
        self._ca = ca
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        # The budget of the transfer that runs in this thread, for the adapter
        # that cuts each request's timeout to it.
        self._running = threading.local()

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`. Missing folders are made."""
        place = split(target)
        ask = self._asker(f"upload of {source.name} to {target}", budget, put=True)
        headers = {"Content-Type": content_type or "application/octet-stream"}

        def once() -> Stored:
            with self._within(budget), FileSource(source, budget=budget, progress=progress) as src:
                temporary = place.beside(f".{uuid.uuid4().hex}.part")
                try:
                    self._send(ask, src, temporary, headers)
                    self._verify(ask, src, temporary, budget)
                    move(ask, temporary, place)
                except BaseException:
                    with contextlib.suppress(StorageError, BudgetSpent):
                        ask("DELETE", temporary, allowed=range(600))
                    raise
                return Stored(target, self.public_url(target), src.size, src.sums.adler32)

        return self._insist(once, what=ask.what, put=True, budget=budget)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        place = split(source)
        ask = self._asker(f"download of {source}", budget, put=False)

        def once() -> Stored:
            with self._within(budget), self._open(ask, place) as answer:
                size = ask.size(answer)
                with FileSink(target, budget=budget, total=max(size, 0), progress=progress) as sink:
                    for data in pieces(ask, answer):
                        sink.write(data)
                    compare(ask, answer.headers, sink.sums, size)
                    sink.commit()
                return Stored(source, self.public_url(source), sink.sums.size, sink.sums.adler32)

        return self._insist(once, what=ask.what, put=False, budget=budget)

    def public_url(self, target: str) -> str:
        """See `CopyTool.public_url`."""
        return split(target).url

    def _send(self, ask: Asker, src: FileSource, place: Place, headers: dict[str, str]) -> None:
        """Send the file; where its folder is missing, make that and send
        again.
        """
        # requests sends a length of 0 as a chunked body, which not every
        # server takes.
        body = src if src.size else b""
        answer = ask("PUT", place, headers=headers, data=body, allowed=[*GOOD, *_NO_FOLDER])
        if answer.status_code in _NO_FOLDER:
            for folder in place.folders():
                ask("MKCOL", folder, allowed=[*GOOD, _EXISTS])
            src.seek(0)
            ask("PUT", place, headers=headers, data=body)

    def _verify(self, ask: Asker, src: FileSource, place: Place, budget: Budget) -> None:
        """Ask for size and checksum (RFC 3230), or read back where there is
        none.
        """
        answer = ask("HEAD", place, headers={"Want-Digest": "adler32"})
        size = ask.size(answer)
        if digest(answer.headers):
            compare(ask, answer.headers, src.sums, size)
            return
        back = Checksums()
        with self._open(ask, place) as answer:
            for data in pieces(ask, answer):
                budget.timeout(1.0)
                back.update(data)
        if (back.size, back.adler32) != (src.size, src.sums.adler32):
            said = f"{ask.what}: {back.size} bytes with adler32 {back.adler32} came back"
            raise StorageError(said, ErrorCode.PUTADMISMATCH)

    @contextlib.contextmanager
    def _open(self, ask: Asker, place: Place) -> "Iterator[requests.Response]":
        """A download; bytes as they are stored, not as a server might pack
        them.
        """
        headers = {"Want-Digest": "adler32", "Accept-Encoding": "identity"}
        with contextlib.closing(ask("GET", place, headers=headers, stream=True)) as answer:
            yield answer

    def _asker(self, what: str, budget: Budget, *, put: bool) -> Asker:
        with self._lock:
            if self._session is None:
                self._session = self._connect()
            # With each request: REQUESTS_CA_BUNDLE would beat the session's
            # own.
            return Asker(self._session, str(self._ca) if self._ca else True, what, put, budget)

    def _connect(self) -> "requests.Session":
        try:
            from pilot_core.storage.http_session import make_session
        except ImportError as err:
            said = f"copytool https needs the package requests: {err}"
            raise StorageError(said, ErrorCode.MIDDLEWAREIMPORTFAILURE) from err
        session = make_session(self._left, self._stall_s)
        session.auth = self._sign
        session.cert = str(self._certificate) if self._certificate else None
        return session

    def _sign(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        """Also keeps requests from looking for a password in ~/.netrc."""
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token()}"
        return request

    def _left(self) -> float:
        """Seconds left to the transfer in this thread."""
        budget: Budget = self._running.budget
        return budget.timeout(budget.left)

    @contextlib.contextmanager
    def _within(self, budget: Budget) -> Iterator[None]:
        self._running.budget = budget
        try:
            yield
        finally:
            self._running.budget = None
