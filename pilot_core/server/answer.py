"""PURE: what came back: HTTP status and bytes to plain data or a named error.

Recorded from panda-server 1.0.3 and 0.8.1: JSON labelled text/plain, Python
reprs where the Accept header got lost, urlencoded text, tracebacks with status
403, errors with status 200. From in-between: HTML pages with any status, half
an answer, nothing at all.
"""

import ast
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pilot_core.errors import NotAuthorised, ServerBusy, ServerError, ServerRefused, ServerUnreachable

__all__ = [
    "Answer",
    "FieldRefused",
    "MethodForbidden",
    "NoSuchPath",
    "NotStored",
    "decode",
    "judge_code",
    "judge_text",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes
    ----------
    retry_after_s
        What the Retry-After header asks for, seconds; None without one.
    """

    status: int
    content_type: str
    body: bytes
    retry_after_s: float | None = None

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace").strip()


class FieldRefused(ServerRefused):
    """This server does not take a field of ours.

    Parameters
    ----------
    field
        Its name in the dialect that was spoken.
    always
        False if only this message is concerned.
    """

    def __init__(self, diag: str, field: str, *, always: bool = True) -> None:
        super().__init__(diag)
        self.field = field
        self.always = always


class MethodForbidden(ServerRefused):
    """A PanDA server without this method (any more): the other dialect's turn."""


class NoSuchPath(ServerUnreachable):
    """404: a server without this dialect, or a front end that has lost its
    server.
    """


class NotStored(ServerUnreachable):
    """StatusCode 30: the database was away, or would not have a field of ours."""


def _line(text: str) -> str:
    """The first line of a text, short enough for a diagnosis."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= 300 else first[:297] + "..."


# What the server says in words, most specific first. The same words come with
# status 200 in a v1 envelope, as plain text, or with status 500 from legacy.
_FIELD = re.compile(r"unexpected keyword argument '(\w+)'|Type error: '(\w+)'")
_NOT_AUTHORISED = (
    "secure connection is required|role required|no production/pilot role|failed to retrieve DN|no HTTPS"
    "|Token authentication failed|not authorized|not in (the )?authorized|token key is invalid"
)
_REFUSED = (
    r"missing (a|\d+) required|invalid literal for int|could not convert string"
    "|Invalid (job status|worker state)|cannot overwrite file|[Ee]xceeded size limit"
)
_WORDS: tuple[tuple[re.Pattern[str], Callable[[str], ServerError]], ...] = (
    (re.compile(r"method \S+ is forbidden"), MethodForbidden),
    (re.compile(_NOT_AUTHORISED), NotAuthorised),
    (re.compile(r"timed out|database error", re.IGNORECASE), ServerUnreachable),
    (re.compile(_REFUSED), ServerRefused),
)


def judge_text(text: str) -> ServerError | None:
    """The error that a sentence of the server stands for; None if it is not
    known.
    """
    field = _FIELD.search(text)
    if field is not None:
        return FieldRefused(_line(text), field[1] or field[2])
    return next((make(_line(text)) for words, make in _WORDS if words.search(text)), None)


# Time-outs and mix-ups of what stands between us and the server: Request
# Timeout, Misdirected Request, Too Early, and nginx' Client Closed Request.
_NOT_ABOUT_US = (408, 421, 425, 499)

# StatusCode as panda-server defines it (Protocol.py).
_CODES: dict[int, tuple[str, Callable[[str], ServerError]]] = {
    10: ("timeout", ServerUnreachable),
    20: ("no jobs", ServerUnreachable),
    30: ("failed", NotStored),
    50: ("invalid", ServerRefused),
    60: ("wrong role", NotAuthorised),
    70: ("permission denied", NotAuthorised),
    80: ("key missing", ServerRefused),
    90: ("proxy error", ServerRefused),
}


def judge_code(code: object, said: str) -> ServerError | None:
    """The error that a StatusCode stands for; None for 0.

    Parameters
    ----------
    code
        An int, or a string of digits where the answer was urlencoded.
    said
        The server's own words, for the diagnosis.
    """
    try:
        number = int(code) if isinstance(code, int | str) else -1
    except ValueError:
        number = -1
    if number == 0:
        return None
    if number == -1:
        return ServerUnreachable(f"answer without a StatusCode: {_line(said) or repr(code)[:80]}")
    words, make = _CODES.get(number, ("unknown", _unclear))
    return make(f"StatusCode {number} ({words}){': ' if said else ''}{_line(said)}")


def _unclear(diag: str) -> ServerRefused:
    return ServerRefused(diag, unclear=True)


def decode(answer: Answer) -> object:
    """Plain data of an answer with status 200.

    Returns
    -------
    object
        What JSON or a Python repr held, or a `dict` of strings for urlencoded
        text.

    Raises
    ------
    ServerError
        For every other status, and for text that is none of these.
    """
    _check_status(answer)
    text = answer.text
    if not text:
        raise ServerUnreachable("empty answer")
    if _is_page(answer):
        raise ServerUnreachable(f"a web page instead of an answer: {_line(text)}")
    if text[0] in "{[":
        return _structure(text)
    if re.match(r"\w+=", text):
        try:
            return dict(parse_qsl(text, keep_blank_values=True))
        except ValueError as err:
            raise ServerUnreachable(f"unreadable answer ({err}): {_line(text)}") from err
    raise judge_text(text) or ServerUnreachable(f"unreadable answer: {_line(text)}")


def _is_page(answer: Answer) -> bool:
    return answer.body.lstrip()[:1] == b"<" or "html" in answer.content_type.lower()


def _structure(text: str) -> object:
    # A nesting deeper than the interpreter's stack is no answer of a PanDA
    # server.
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        broken = err
    try:
        # Without "Accept: application/json" the server answers str(dict). What
        # Python has to say about the style of other texts concerns nobody.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ServerUnreachable(f"half an answer or none ({broken}): {_line(text)}") from broken


def _check_status(answer: Answer) -> None:
    """Raise for every status but 200."""
    status = answer.status
    if status == 200:
        return
    said = f"HTTP {status}: {_line(answer.text) or 'no text'}"
    if status == 429 or (status == 503 and answer.retry_after_s is not None):
        raise ServerBusy(said, answer.retry_after_s or 0.0)
    if status in (401, 403):
        known = None if _is_page(answer) else judge_text(answer.text)
        raise known if isinstance(known, MethodForbidden) else NotAuthorised(said)
    if status == 404:
        raise NoSuchPath(said)
    if status >= 500 and not _is_page(answer):
        # A handler's exception; where we know the words, it will be raised
        # again.
        raise judge_text(answer.text) or ServerUnreachable(said)
    if 400 <= status < 500 and status not in _NOT_ABOUT_US and not _is_page(answer):
        # PanDA answers with 200, 403 or 500: who else this is we do not know.
        raise judge_text(answer.text) or ServerRefused(said, unclear=status != 413)
    # A page from something in between, or a redirect, which is never followed:
    # it would send the token to somebody else.
    raise ServerUnreachable(said)
