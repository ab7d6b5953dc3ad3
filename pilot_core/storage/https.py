"""WebDAV: CRIC's copytool `https`; `davs://` is `https://` with another word.

A file goes up under a name of its own, is checked there, and then moved to the
right one: a connection that breaks leaves no truncated file under it.
"""

import contextlib
import functools
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import POLICY, TransferFailed, direction, insist, one_line, retry_after
from pilot_core.storage.checksum import Checksums, matches
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource

if TYPE_CHECKING:
    import requests

__all__ = ["HttpsTool"]

_URL = re.compile(r"(?P<scheme>https?|davs?)://(?P<host>[^/@\x00-\x20]+)(?P<path>/[^\x00-\x1f\x7f]+)")
_SCHEMES = {"davs": "https", "dav": "http"}

_PIECE = 1024 * 1024

# What a status means; everything else above 399 is `failed`.
_KINDS: Mapping[int, str] = {
    401: "refused",
    403: "refused",
    404: "missing",
    408: "timeout",
    410: "missing",
    413: "full",
    507: "full",
}
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_GOOD = range(200, 300)
# Answers to an upload into a folder that is not there: RFC 4918 9.7.1; some say 404.
_NO_FOLDER = (404, 409)
# MKCOL of a folder that exists: RFC 4918 9.3.1.
_EXISTS = 405
_NO_SUCH_METHOD = (405, 501)


class HttpsTool:
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
        self._clock = clock
        self._token = token
        self._certificate = certificate
        self._ca = ca
        self._policy = policy
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
        place = _split(target)
        ask = self._asker(f"upload of {source.name} to {target}", put=True)
        headers = {"Content-Type": content_type or "application/octet-stream"}

        def once() -> Stored:
            with self._within(budget), FileSource(source, budget=budget, progress=progress) as src:
                temporary = place.beside(f".{uuid.uuid4().hex}.part")
                try:
                    self._send(ask, src, temporary, headers)
                    self._verify(ask, src, temporary, budget)
                    _move(ask, temporary, place)
                except BaseException:
                    with contextlib.suppress(StorageError, TimeoutError):
                        ask("DELETE", temporary, allowed=range(600))
                    raise
                return Stored(target, self.public_url(target), src.size, src.sums.adler32)

        return insist(once, what=ask.what, put=True, policy=self._policy, clock=self._clock, budget=budget)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        place = _split(source)
        ask = self._asker(f"download of {source}", put=False)

        def once() -> Stored:
            with self._within(budget), self._open(ask, place) as answer:
                size = int(answer.headers.get("Content-Length", -1))
                with FileSink(target, budget=budget, total=max(size, 0), progress=progress) as sink:
                    for data in _pieces(ask, answer):
                        sink.write(data)
                    _compare(ask, answer.headers, sink.sums, size)
                    sink.commit()
                return Stored(source, self.public_url(source), sink.sums.size, sink.sums.adler32)

        return insist(once, what=ask.what, put=False, policy=self._policy, clock=self._clock, budget=budget)

    def public_url(self, target: str) -> str:
        """See `CopyTool.public_url`."""
        return _split(target).url

    def _send(self, ask: "_Asker", src: FileSource, place: "_Place", headers: dict[str, str]) -> None:
        """Send the file; where its folder is missing, make that and send again."""
        # requests sends a length of 0 as a chunked body, which not every server takes.
        body = src if src.size else b""
        answer = ask("PUT", place, headers=headers, data=body, allowed=[*_GOOD, *_NO_FOLDER])
        if answer.status_code in _NO_FOLDER:
            for folder in place.folders():
                ask("MKCOL", folder, allowed=[*_GOOD, _EXISTS])
            src.seek(0)
            ask("PUT", place, headers=headers, data=body)

    def _verify(self, ask: "_Asker", src: FileSource, place: "_Place", budget: Budget) -> None:
        """Ask for size and checksum (RFC 3230), or read back where there is none."""
        answer = ask("HEAD", place, headers={"Want-Digest": "adler32"})
        size = int(answer.headers.get("Content-Length", -1))
        if _digest(answer.headers):
            _compare(ask, answer.headers, src.sums, size)
            return
        back = Checksums()
        with self._open(ask, place) as answer:
            for data in _pieces(ask, answer):
                budget.timeout(1.0)
                back.update(data)
        if (back.size, back.adler32) != (src.size, src.sums.adler32):
            said = f"{ask.what}: {back.size} bytes with adler32 {back.adler32} came back"
            raise StorageError(said, ErrorCode.PUTADMISMATCH)

    @contextlib.contextmanager
    def _open(self, ask: "_Asker", place: "_Place") -> "Iterator[requests.Response]":
        """A download; bytes as they are stored, not as a server might pack them."""
        headers = {"Want-Digest": "adler32", "Accept-Encoding": "identity"}
        with contextlib.closing(ask("GET", place, headers=headers, stream=True)) as answer:
            yield answer

    def _asker(self, what: str, *, put: bool) -> "_Asker":
        with self._lock:
            if self._session is None:
                self._session = self._connect()
            # With each request: REQUESTS_CA_BUNDLE would beat the session's own.
            return _Asker(self._session, str(self._ca) if self._ca else True, what, put)

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


@dataclass(frozen=True, slots=True)
class _Place:
    """A file on a server; `path` is not quoted."""

    host: str
    path: str

    @property
    def url(self) -> str:
        return self.host + quote(self.path, safe="/~")

    def beside(self, name: str) -> "_Place":
        """Another name in the same folder."""
        return _Place(self.host, f"{self.path.rpartition('/')[0]}/{name}")

    def folders(self) -> "Iterator[_Place]":
        """The folders it is in, the outermost first."""
        for end in re.finditer("/", self.path):
            if end.start() > 0:
                yield _Place(self.host, self.path[: end.end()])


@dataclass(frozen=True, slots=True)
class _Asker:
    """Requests of one transfer; their failures are `TransferFailed`s."""

    session: "requests.Session"
    verify: str | bool
    what: str
    put: bool

    def __call__(
        self, method: str, place: _Place, *, allowed: "Any" = _GOOD, stream: bool = False, **options: Any
    ) -> "requests.Response":
        send = functools.partial(
            self.session.request, method, place.url, stream=stream, verify=self.verify, **options
        )
        answer: requests.Response = self.told(send)
        if answer.status_code in allowed:
            return answer
        status = answer.status_code
        text = "" if method == "HEAD" else self.told(lambda: answer.text)
        answer.close()
        raise TransferFailed(
            one_line(f"{self.what}: {method}: HTTP {status} {answer.reason}: {text}"),
            direction(_KINDS.get(status, "failed"), put=self.put),
            again_s=retry_after(answer.headers.get("Retry-After", "")) if status in _AGAIN else None,
            status=status,
        )

    def told(self, call: Callable[[], Any]) -> Any:
        """Foreign exceptions as ours."""
        import requests

        try:
            return call()
        except requests.exceptions.SSLError as err:
            # A certificate that is not trusted will not be trusted in a minute.
            final = "certificate" in str(err).lower()
            raise self._failed(err, "refused" if final else "failed", None if final else 0.0) from err
        except requests.Timeout as err:
            raise self._failed(err, "timeout", 0.0) from err
        except requests.RequestException as err:
            raise self._failed(err, "failed", 0.0) from err

    def _failed(self, err: Exception, kind: str, again_s: float | None) -> TransferFailed:
        """The innermost reason says more than the three libraries around it."""
        reason = getattr(err.args[0], "reason", err) if err.args else err
        said = one_line(f"{self.what}: {type(err).__name__}: {reason}")
        return TransferFailed(said, direction(kind, put=self.put), again_s=again_s)


def _pieces(ask: _Asker, answer: "requests.Response") -> Iterator[bytes]:
    """The body; what breaks on the way is a `TransferFailed`."""
    pieces = answer.iter_content(_PIECE)
    while (data := ask.told(lambda: next(pieces, None))) is not None:
        yield data


def _move(ask: _Asker, temporary: _Place, place: _Place) -> None:
    """Give the whole file its name: for a reader it appears in one step."""
    headers = {"Destination": place.url, "Overwrite": "T"}
    answer = ask("MOVE", temporary, headers=headers, allowed=[*_GOOD, *_NO_SUCH_METHOD])
    if answer.status_code in _NO_SUCH_METHOD:
        raise StorageError(
            f"{ask.what}: the server knows no MOVE, without which a broken upload would show",
            ErrorCode.STAGEOUTFAILED,
        )


def _compare(ask: _Asker, headers: Mapping[str, str], sums: Checksums, size: int) -> None:
    """Compare what the server says it holds with what went over the wire."""
    found = _digest(headers)
    if size not in (-1, sums.size) or (found and not matches(found, sums.adler32)):
        said = f"the server has {size} bytes with adler32 {found or 'unknown'}"
        mine = f"{sums.size} with {sums.adler32} were {'sent' if ask.put else 'received'}"
        raise StorageError(f"{ask.what}: {said}, {mine}", direction("mismatch", put=ask.put))


def _digest(headers: Mapping[str, str]) -> str:
    """The adler32 of a `Digest: adler32=<hex>,md5=<base64>` header; or nothing."""
    found = re.search(r"(?i)\badler32=([0-9a-f]{1,8})\b", headers.get("Digest", ""))
    return found[1] if found else ""


def _split(url: str) -> _Place:
    """Host and path of a URL."""
    found = _URL.fullmatch(url)
    if found is None or any(part in (".", "..") for part in found["path"].split("/")):
        raise StorageError(f"{url!r} is no https:// or davs:// URL", ErrorCode.NOSTORAGEPROTOCOL)
    scheme = _SCHEMES.get(found["scheme"], found["scheme"])
    return _Place(f"{scheme}://{found['host']}", found["path"])
