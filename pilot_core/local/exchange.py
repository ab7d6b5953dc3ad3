"""One HTTP exchange as plain data, and the bodies that pilots send."""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, parse_qsl

__all__ = [
    "Answer",
    "Call",
    "Exchange",
    "Identity",
    "Refusal",
    "Upload",
    "form_fields",
    "plain",
    "query_lists",
    "uploads",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks.

    Attributes
    ----------
    name
        From the certificate or the token; empty for nobody.
    production
        May do what pilots and operators do.
    """

    name: str = ""
    production: bool = False

    @property
    def secure(self) -> bool:
        """There are credentials at all."""
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as it arrived; header names in lower case, body as sent."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    who: Identity

    @property
    def wants_json(self) -> bool:
        """The client asked for JSON."""
        return "application/json" in self.headers.get("accept", "")

    @property
    def content_type(self) -> str:
        """Content-Type, whole: the server compares it with `application/json`."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """The request goes no further; this is the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body[:200].decode(errors="replace"))
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a multipart form."""

    name: str
    filename: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was understood.

    Attributes
    ----------
    name
        What is asked for, by its v1 name whatever the dialect.
    method
        The dialect's own name.
    args
        Checked parameters under v1 names, defaults left out.
    native
        Parameters as the dialect names them.
    """

    name: str
    dialect: str
    method: str
    args: Mapping[str, object]
    native: Mapping[str, object]
    who: Identity
    wants_json: bool
    files: tuple[Upload, ...] = ()


def plain(status: int, text: str) -> Answer:
    """A text answer."""
    return Answer(status, text.encode())


def form_fields(body: bytes) -> dict[str, str]:
    """Parameters of a form; the last of a name wins, blanks are kept."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def query_lists(query: str) -> dict[str, list[str]]:
    """Parameters of a query string; a repeated name has several values."""
    return parse_qs(query, keep_blank_values=True)


def json_object(body: bytes) -> dict[str, object]:
    """A JSON object; `ValueError` with the parser's words for anything else."""
    loaded = json.loads(body)
    if not isinstance(loaded, dict):
        raise ValueError(f"not an object but {type(loaded).__name__}")
    return loaded


def gunzip(body: bytes) -> bytes:
    """Decompress; `OSError`, `EOFError` or `ValueError` carry the server's
    words.
    """
    try:
        return gzip.decompress(body)
    except zlib.error as err:
        raise ValueError(str(err)) from err


def uploads(content_type: str, body: bytes) -> tuple[Upload, ...]:
    """Files of a multipart form, byte for byte."""
    _, _, tail = content_type.partition("boundary=")
    boundary = tail.split(";", 1)[0].strip().strip('"')
    if not boundary:
        return ()
    found = []
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        head, separator, data = part.partition(b"\r\n\r\n")
        if not separator:
            continue
        words = _disposition(head.decode("utf-8", "replace"))
        if "filename" in words:
            found.append(Upload(words.get("name", ""), words["filename"], data))
    return tuple(found)


def _disposition(head: str) -> dict[str, str]:
    for line in head.split("\r\n"):
        if line.lower().startswith("content-disposition:"):
            words = (word.strip().partition("=") for word in line.split(";")[1:])
            return {key.lower(): value.strip('"') for key, _, value in words}
    return {}
