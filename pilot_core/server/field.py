"""PURE: one field of a message: its names, when it travels, how it is made to
fit.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

from pilot_core.model.report import JobReport, JobState

__all__ = ["Dialect", "Field", "Kind", "Value", "When", "encode"]

Value = int | float | str


class Dialect(StrEnum):
    """The two languages a PanDA server may speak."""

    V1 = "v1"
    LEGACY = "legacy"


class Kind(StrEnum):
    """Type on the wire, and how a value that is too long is made to fit."""

    INT = "int"
    """left out if its size is beyond the limit: a cut number would be a wrong
    one
    """
    AMOUNT = "int above 0"
    """as `INT`; left out if it is rounded to 0, which would say that there is
    none
    """
    FLOAT = "float"
    TEXT = "text, end cut"
    TAIL = "text, beginning cut"
    WORDS = "words, cut at a blank"
    WHOLE = "text, never cut"


class When(StrEnum):
    """In which states a field may travel."""

    ALWAYS = "always"
    UNDERWAY = "not starting"
    FINAL = "final"
    FINISHED = "finished"

    def holds(self, state: JobState | None) -> bool:
        """True if the field goes into a message of this state."""
        if self is When.ALWAYS or state is None:
            return True
        if self is When.UNDERWAY:
            return state is not JobState.STARTING
        return state.final if self is When.FINAL else state is JobState.FINISHED


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes
    ----------
    source
        Attribute of the message's own class, or the words for what `get`
        takes.
    v1, legacy
        Its names; empty where the dialect has none.
    limit
        Largest length in bytes of UTF-8 (columns of an Oracle server count
        bytes, those of PostgreSQL characters), or largest number; 0 for none.
    essential
        Still sent when the server could not store a full message.
    required
        The server refuses a message without it, so it is never left out.
    get
        Takes the value from the message; None there means "do not send".
    """

    source: str
    v1: str
    legacy: str
    kind: Kind = Kind.TEXT
    limit: int = 0
    unit: str = ""
    when: When = When.ALWAYS
    essential: bool = False
    required: bool = False
    get: Callable[[Any], object] | None = None
    legacy_kind: Kind | None = None
    legacy_limit: int | None = None

    def name(self, dialect: Dialect) -> str:
        """Name in a dialect; empty if it has no such field."""
        return self.v1 if dialect is Dialect.V1 else self.legacy

    def value(self, message: object, dialect: Dialect) -> Value | None:
        """The value that fits the wire, or None if there is nothing to send."""
        raw = (self.get or attrgetter(self.source))(message)
        kind, limit = self.kind, self.limit
        if dialect is Dialect.LEGACY:
            kind = self.legacy_kind or kind
            limit = limit if self.legacy_limit is None else self.legacy_limit
        return None if raw is None or raw == "" else _FIT[kind](raw, limit)


def encode(
    table: Iterable[Field],
    message: object,
    dialect: Dialect,
    *,
    without: frozenset[str] = frozenset(),
    lean: bool = False,
) -> dict[str, Value]:
    """The body of a message.

    Parameters
    ----------
    table
        `UPDATE`, `ACQUIRE` or `WORKER`.
    message
        `JobReport`, `JobRequest` or `WorkerNote`.
    without
        Names that this server has refused before.
    lean
        Only what the job's fate depends on.
    """
    state = message.state if isinstance(message, JobReport) else None
    body: dict[str, Value] = {}
    for field in table:
        name = field.name(dialect)
        if not name or name in without or not field.when.holds(state):
            continue
        if lean and not (field.essential or field.required):
            continue
        value = field.value(message, dialect)
        if value is not None:
            body[name] = value
    return body


def _int(raw: Any, limit: int) -> int | None:
    try:
        number = round(raw)
    except (ValueError, OverflowError):  # NaN, infinity
        return None
    return None if limit and abs(number) > limit else int(number)


def _amount(raw: Any, limit: int) -> int | None:
    return _int(raw, limit) or None


def _float(raw: Any, limit: int) -> float | None:
    number = round(float(raw), 4)
    return None if not math.isfinite(number) or (limit and abs(number) > limit) else number


def _clean(raw: object) -> str:
    """Text a database takes: no NUL, no half of a surrogate pair."""
    return str(raw).replace("\0", "").encode("utf-8", "replace").decode()


def _text(raw: object, limit: int) -> str | None:
    text = _clean(raw)
    return (text.encode()[:limit].decode("utf-8", "ignore") if limit else text) or None


def _tail(raw: object, limit: int) -> str | None:
    text = _clean(raw)
    return (text.encode()[-limit:].decode("utf-8", "ignore") if limit else text) or None


def _words(raw: object, limit: int) -> str | None:
    """Half a `name=value` would be a wrong value: what does not fit goes as a
    whole.
    """
    text = _clean(raw)
    if limit and len(text.encode()) > limit:
        text = (_text(text, limit + 1) or "").rpartition(" ")[0]
    return text or None


def _whole(raw: object, limit: int) -> str | None:
    text = _clean(raw)
    return None if limit and len(text.encode()) > limit else text or None


_FIT: dict[Kind, Callable[[Any, int], Value | None]] = {
    Kind.INT: _int,
    Kind.AMOUNT: _amount,
    Kind.FLOAT: _float,
    Kind.TEXT: _text,
    Kind.TAIL: _tail,
    Kind.WORDS: _words,
    Kind.WHOLE: _whole,
}
