"""Requests to a WebDAV server, for `https.py`: what is asked, what an answer
means.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pilot_core.base.budget import Budget
from pilot_core.base.download import content_length
from pilot_core.base.httptime import retry_after
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import TransferFailed, direction, one_line, skew
from pilot_core.storage.checksum import Checksums, matches

if TYPE_CHECKING:
    import requests

__all__ = ["GOOD", "Asker", "Place", "compare", "digest", "move", "pieces", "split"]

_URL = re.compile(r"(?P<scheme>https?|davs?)://(?P<host>[^/@\x00-\x20]+)(?P<path>/[^\x00-\x1f\x7f]+)")
_SCHEMES = {"davs": "https", "dav": "http"}

_PIECE = 1024 * 1024
# An answer that is no file is read no further. Bytes.
_MOST_WORDS = 4096

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
GOOD = range(200, 300)
_NO_SUCH_METHOD = (405, 501)


@dataclass(frozen=True, slots=True)
class Place:
    """A file on a server; `path` is not quoted."""

    host: str
    path: str

    @property
    def url(self) -> str:
        return self.host + quote(self.path, safe="/~")

    def beside(self, name: str) -> "Place":
        """Another name in the same folder."""
        return Place(self.host, f"{self.path.rpartition('/')[0]}/{name}")

    def folders(self) -> "Iterator[Place]":
        """The folders it is in, the outermost first."""
        for end in re.finditer("/", self.path):
            if end.start() > 0:
                yield Place(self.host, self.path[: end.end()])


@dataclass(frozen=True, slots=True)
class Asker:
    """Requests of one transfer; their failures are `TransferFailed`s."""

    session: "requests.Session"
    verify: str | bool
    what: str
    put: bool
    budget: Budget

    def __call__(
        self, method: str, place: Place, *, allowed: "Any" = GOOD, stream: bool = False, **options: Any
    ) -> "requests.Response":
        """The answer with an allowed status; its body is there for the taking
        with `stream`, else thrown away.
        """
        send = functools.partial(
            self.session.request, method, place.url, stream=True, verify=self.verify, **options
        )
        answer: requests.Response = self.told(send)
        status = answer.status_code
        if stream and status in allowed:
            return answer
        with answer:
            text = self._words(answer)
        if status in allowed:
            return answer
        kind = _KINDS.get(status, "failed")
        why = skew(answer.headers.get("Date", ""), self.budget.clock) if kind == "refused" else ""
        raise TransferFailed(
            one_line(f"{self.what}: {method}: HTTP {status} {answer.reason}: {text}") + why,
            direction(kind, put=self.put),
            again_s=(retry_after(answer.headers) or 0.0) if status in _AGAIN else None,
            status=status,
        )

    def size(self, answer: "requests.Response") -> int:
        """Bytes that an answer promises; -1 if it does not say."""
        found: int | None = self.told(lambda: content_length(answer.headers))
        return -1 if found is None else found

    def _words(self, answer: "requests.Response") -> str:
        """How an answer begins; of a short one all, after which its connection
        is free for the next request.
        """
        said = bytearray()
        # Byte by byte: a larger piece is waited for until it is whole, however
        # slowly it comes.
        pieces = answer.iter_content(1)
        while len(said) < _MOST_WORDS and (byte := self.told(lambda: next(pieces, b""))):
            said += byte
            self.budget.timeout(1.0)
        return said.decode("utf-8", "replace")

    def told(self, call: Callable[[], Any]) -> Any:
        """Foreign exceptions as ours."""
        import requests

        try:
            return call()
        except requests.exceptions.SSLError as err:
            # A certificate that is not trusted will not be trusted in a
            # minute.
            final = "certificate" in str(err).lower()
            raise self._failed(err, "refused" if final else "failed", None if final else 0.0) from err
        except requests.Timeout as err:
            raise self._failed(err, "timeout", 0.0) from err
        except (requests.RequestException, ValueError) as err:
            # ValueError: what the libraries say to much that makes no sense.
            raise self._failed(err, "failed", 0.0) from err

    def _failed(self, err: Exception, kind: str, again_s: float | None) -> TransferFailed:
        """The innermost reason says more than the three libraries around it."""
        reason = getattr(err.args[0], "reason", err) if err.args else err
        said = one_line(f"{self.what}: {type(err).__name__}: {reason}")
        return TransferFailed(said, direction(kind, put=self.put), again_s=again_s)


def pieces(ask: Asker, answer: "requests.Response") -> Iterator[bytes]:
    """The body; what breaks on the way is a `TransferFailed`."""
    pieces = answer.iter_content(_PIECE)
    while (data := ask.told(lambda: next(pieces, None))) is not None:
        yield data


def move(ask: Asker, temporary: Place, place: Place) -> None:
    """Give the whole file its name: for a reader it appears in one step."""
    headers = {"Destination": place.url, "Overwrite": "T"}
    answer = ask("MOVE", temporary, headers=headers, allowed=[*GOOD, *_NO_SUCH_METHOD])
    if answer.status_code in _NO_SUCH_METHOD:
        raise StorageError(
            f"{ask.what}: the server knows no MOVE, without which a broken upload would show",
            ErrorCode.STAGEOUTFAILED,
        )


def compare(ask: Asker, headers: Mapping[str, str], sums: Checksums, size: int) -> None:
    """Compare what the server says it holds with what went over the wire."""
    found = digest(headers)
    if size not in (-1, sums.size) or (found and not matches(found, sums.adler32)):
        said = f"the server has {size} bytes with adler32 {found or 'unknown'}"
        mine = f"{sums.size} with {sums.adler32} were {'sent' if ask.put else 'received'}"
        raise StorageError(f"{ask.what}: {said}, {mine}", direction("mismatch", put=ask.put))


def digest(headers: Mapping[str, str]) -> str:
    """The adler32 of a `Digest: adler32=<hex>,md5=<base64>` header; or
    nothing.
    """
    found = re.search(r"(?i)\badler32=([0-9a-f]{1,8})\b", headers.get("Digest", ""))
    return found[1] if found else ""


def split(url: str) -> Place:
    """Host and path of a URL."""
    found = _URL.fullmatch(url)
    if found is None or any(part in (".", "..") for part in found["path"].split("/")):
        raise StorageError(f"{url!r} is no https:// or davs:// URL", ErrorCode.NOSTORAGEPROTOCOL)
    scheme = _SCHEMES.get(found["scheme"], found["scheme"])
    return Place(f"{scheme}://{found['host']}", found["path"])
