"""PURE. Records that repeat, but for time and message, what was seen before.

A record of Python's logging is ten times as long as its message, and says the
rest again and again. It is cut where `_CUTS` say::

    front      {"name":"lsst.isr","asctime":"
    time       2026-11-21T05:02:42.844073                  then Z","message":"
    message    Amp C10: overscan median 1000.050"          then ,"levelno":
    statement  15,"levelname":"VERBOSE",...,"funcName":"run"
    place      ,"process":12348,"processName":"MainProcess","MDC":{...}}

Front, statement and place are each parsed once, alone: whole members of an
object, with these names and no others. So are the few bytes of a message,
those of many records together. Such parts in this order make a record, and
one without a secret if its message has none; there is no need to parse it
again as a whole, which is where nine tenths of the time go.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from pilot_core.base.redact import Redactor
from pilot_core.logship.jsontext import loads, too_deep
from pilot_core.logship.level import severity
from pilot_core.logship.stamp import Stamps

__all__ = ["Familiar", "Look", "Looks"]

Looks = tuple[str, str]
"""Severity and time of a record."""

Look = Callable[[bytes], Looks | None]
"""Of a line, if it is familiar."""

_FRONT = ("name", "asctime")
_STATEMENT = ("levelno", "levelname", "filename", "pathname", "lineno", "funcName")
_PLACE = ("", "process", "processName", "MDC")
# Parts remembered of each kind; a payload that never repeats itself must not
# fill the memory.
_MOST = 256


class _Cuts(NamedTuple):
    """The bytes before message, statement and place."""

    message: bytes
    statement: bytes
    place: bytes


# As pydantic 2 writes it, and pydantic 1 (until 2023-08, daf_butler
# 02b74628d).
_CUTS = (
    _Cuts(b'Z","message":"', b',"levelno":', b',"process":'),
    _Cuts(b'+00:00", "message": "', b', "levelno": ', b', "process": '),
)
# `2026-11-21T05:02:42.` and `844073`, from the end of what is before the
# message.
_TIME, _FRACTION = -26, -6
# No line ends so.
_NOWHERE = b"\n\n", -2


class Familiar:
    """Knows records by their parts.

    Parameters
    ----------
    redactor
        What must not leave.
    stamps
        What a new second means; `last` stays as it is.
    """

    def __init__(self, redactor: Redactor, stamps: Stamps) -> None:
        self._redactor = redactor
        self._stamps = stamps
        # Of the records looked at since the last `sound`.
        self._messages: list[bytes] = []
        self._cuts = _CUTS[0]
        self._fronts: set[bytes] = set()
        self._levels: dict[bytes, str] = {}
        self._places: set[bytes] = set()
        self._second = b""
        # The last record's; hundreds in a row have the same. Its length is
        # negative, as a slice wants it.
        self._place, self._length = _NOWHERE

    def look(self, line: bytes) -> Looks | None:
        """Severity and time of a record made of these parts; None for any other.

        Nothing is certain before `sound` has said so.
        """
        cuts = self._cuts
        head, _, rest = line.partition(cuts.message)
        message, _, rest = rest.partition(cuts.statement)
        if rest[self._length :] != self._place and not self._moved(rest):
            if not rest:
                self._cuts = next((c for c in _CUTS if c.statement in line), cuts)
            return None
        statement, front = rest[: self._length], head[:_TIME]
        level = self._levels.get(statement) or self._level(statement)
        if level is None or not (front in self._fronts or self._front(front)):
            return None
        if not head[_FRACTION:].isdigit():
            return None
        if head[_TIME:_FRACTION] != self._second and not self._ticked(head):
            return None
        self._messages.append(message)
        return level, f"{head[_TIME:].decode()}Z"

    def sound(self) -> bool:
        """Whether the messages since the last call are JSON, and no secret is in
        one of them.

        They are read as one list, each on a line of its own and between quotes.
        No string goes over the end of a line, so every line holds one at least.
        Where there are as many strings as lines, and nothing else in the list,
        each line is one string from end to end.
        """
        messages, self._messages = self._messages, []
        try:
            texts = loads(b'["' + b'\n,"'.join(messages) + b"]") if messages else []
            text = "\n".join(texts)
        except (ValueError, TypeError):
            return False
        if len(texts) != len(messages):
            return False
        return not self._redactor.suspects(text) or self._redactor.text(text) == text

    def forget(self) -> None:
        """There is a new secret: what was clean need not be."""
        self._fronts.clear()
        self._levels.clear()
        self._places.clear()
        self._place, self._length = _NOWHERE

    # ---- a part that is new

    def _moved(self, rest: bytes) -> bool:
        """The next task, or another process."""
        place = rest[rest.find(self._cuts.place) :]
        if place not in self._places:
            if place[-2:] != b"}\n" or self._members(b'{"":0' + place, _PLACE) is None:
                return False
            _keep_few(self._places)
            self._places.add(place)
        self._place, self._length = place, -len(place)
        return True

    def _level(self, statement: bytes) -> str | None:
        said = self._members(b'{"levelno":' + statement + b"}", _STATEMENT)
        if said is None:
            return None
        _keep_few(self._levels)
        self._levels[statement] = level = severity(said)
        return level

    def _front(self, front: bytes) -> bool:
        if front[:1] != b"{" or self._members(front + b'"}', _FRONT) is None:
            return False
        _keep_few(self._fronts)
        self._fronts.add(front)
        return True

    def _ticked(self, head: bytes) -> bool:
        """Another second, if it is one that the service takes."""
        when, last = head[_TIME:].decode("ascii", "replace") + "Z", self._stamps.last
        found = self._stamps.of(when)
        self._stamps.last = last
        if found != when:
            return False
        self._second = head[_TIME:_FRACTION]
        return True

    def _members(self, part: bytes, names: tuple[str, ...]) -> dict[str, Any] | None:
        """A part as an object; None if it is none, has other names, or needs
        care.
        """
        try:
            said: dict[str, Any] = loads(part)
        except ValueError:
            return None
        if tuple(said) != names or too_deep(said) or self._redactor.suspects_in(said):
            return None
        return said


def _keep_few(parts: set[bytes] | dict[bytes, str]) -> None:
    if len(parts) >= _MOST:
        parts.clear()
