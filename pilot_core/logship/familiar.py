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

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pilot_core.base.redact import Redactor
from pilot_core.logship.jsontext import MAX_DEPTH, loads
from pilot_core.logship.level import severity
from pilot_core.logship.stamp import Stamps

__all__ = ["Familiar", "Looks"]

Looks = tuple[str | None, str]
"""Severity and time of a record; no severity if the line has to be looked at
as a whole.
"""

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
_DIGITS, _BETWEEN = b"0123456789", b"--T::."
# In the place of one that is not familiar.
_NO_TIME, _NO_TEXT = b"0000-00-00T00:00:00.000000", b'"'
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
    line_bytes
        A longer line is never familiar.
    """

    def __init__(self, redactor: Redactor, stamps: Stamps, line_bytes: int) -> None:
        self._redactor = redactor
        self._secrets = redactor.known
        self._stamps = stamps
        self._line_bytes = line_bytes
        self._cuts = _CUTS[0]
        # Front and second, with a time that the service takes.
        self._heads: set[bytes] = set()
        self._fronts: set[bytes] = set()
        self._levels: dict[bytes, str] = {}
        self._places: set[bytes] = set()
        # The last record's; hundreds in a row have the same. Its length is
        # negative, as a slice wants it.
        self._place, self._length = _NOWHERE

    def looks(self, lines: Sequence[bytes]) -> Iterable[Looks]:
        """What is known of each line.

        This loop is where the CPU time goes: what can be found out for all of
        them at once is left to `_sound`.
        """
        if self._secrets != self._redactor.known:
            self._forget()
        if not lines or max(map(len, lines)) > self._line_bytes:
            return [(None, "")] * len(lines)
        before_message, before_statement, _ = cuts = self._spelled(lines[-1])
        levels: list[str | None] = []
        times: list[bytes] = []
        messages: list[bytes] = []
        for line in lines:
            head, _, rest = line.partition(before_message)
            message, _, rest = rest.partition(before_statement)
            level = None
            if rest[self._length :] == self._place or self._moved(rest, cuts.place):
                statement = rest[: self._length]
                if head[:_FRACTION] in self._heads or self._headed(head):
                    level = self._levels.get(statement) or self._level(statement)
            levels.append(level)
            times.append(head[_TIME:] if level else _NO_TIME)
            messages.append(message if level else _NO_TEXT)
        if not self._sound(times, messages):
            found = zip(levels, times, messages, strict=True)
            levels = [level if self._sound([time], [text]) else None for level, time, text in found]
        whens = (b"Z\n".join(times) + b"Z").decode(errors="replace")
        return zip(levels, whens.split("\n"), strict=True)

    def _sound(self, times: Sequence[bytes], messages: Sequence[bytes]) -> bool:
        """Whether fractions of a second are digits, and messages are JSON without
        a secret.

        The messages are read as one list, each on a line of its own and between
        quotes. No string goes over the end of a line, so every line holds one at
        least. Where there are as many strings as lines, and nothing else in the
        list, each line is one string from end to end.
        """
        if b"".join(times).translate(None, _DIGITS) != _BETWEEN * len(messages):
            return False
        try:
            texts = loads(b'["' + b'\n,"'.join(messages) + b"]")
            text = "\n".join(texts)
        except (ValueError, TypeError):
            return False
        return len(texts) == len(messages) and self._clean(text)

    def _clean(self, text: str) -> bool:
        return not self._redactor.suspects(text) or self._redactor.text(text) == text

    def _spelled(self, line: bytes) -> _Cuts:
        self._cuts = next((cuts for cuts in _CUTS if cuts.statement in line), self._cuts)
        return self._cuts

    def _forget(self) -> None:
        """There is a new secret: what was clean need not be."""
        self._secrets = self._redactor.known
        for parts in (self._heads, self._fronts, self._levels, self._places):
            parts.clear()
        self._place, self._length = _NOWHERE

    # ---- a part that is new

    def _moved(self, rest: bytes, before: bytes) -> bool:
        """The next task, or another process."""
        place = rest[rest.find(before) :]
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

    def _headed(self, head: bytes) -> bool:
        """Another logger, or another second."""
        front, time = head[:_TIME], head[_TIME:]
        if front not in self._fronts:
            if front[:1] != b"{" or self._members(front + b'"}', _FRONT) is None:
                return False
            _keep_few(self._fronts)
            self._fronts.add(front)
        when, last = time.decode("ascii", "replace") + "Z", self._stamps.last
        found = self._stamps.of(when)
        self._stamps.last = last
        if found != when:
            return False
        _keep_few(self._heads)
        self._heads.add(head[:_FRACTION])
        return True

    def _members(self, part: bytes, names: tuple[str, ...]) -> dict[str, Any] | None:
        """A part as an object; None if it is none, has other names, or needs
        care.
        """
        # Without an escape each text stands in it as it is.
        if b"\\" in part or part.count(b"{") + part.count(b"[") > MAX_DEPTH:
            return None
        try:
            said: dict[str, Any] = loads(part)
        except ValueError:
            return None
        return said if tuple(said) == names and self._clean(part.decode()) else None


def _keep_few(parts: set[bytes] | dict[bytes, str]) -> None:
    if len(parts) >= _MOST:
        parts.clear()
