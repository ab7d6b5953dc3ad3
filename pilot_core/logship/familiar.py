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
each time. Such parts in this order make a record, and one without a secret if
its message has none; there is no need to parse it again as a whole, which is
where nine tenths of the time go.
"""

from collections.abc import Callable
from typing import NamedTuple

from pilot_core.logship.jsontext import loads
from pilot_core.logship.level import severity

__all__ = ["Familiar"]

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


class Familiar:
    """Knows records by their parts.

    Parameters
    ----------
    suspects
        Whether a message may hold a secret.
    """

    def __init__(self, suspects: Callable[[str], bool]) -> None:
        self._suspects = suspects
        self._cuts = _CUTS[0]
        self._fronts: set[bytes] = set()
        self._levels: dict[bytes, str] = {}
        self._places: set[bytes] = set()
        self._second = b""
        # The last record's; hundreds in a row have the same. Its length is
        # negative, as a slice wants it.
        self._place, self._length = b"", -1

    def look(self, line: bytes) -> tuple[str, str] | None:
        """Severity and time of a familiar record, of the second learned last.

        None if the line has to be looked at as a whole.
        """
        cuts = self._cuts
        head, _, rest = line.partition(cuts.message)
        message, _, rest = rest.partition(cuts.statement)
        if rest[self._length :] != self._place and not self._moved(rest):
            return None
        level = self._levels.get(rest[: self._length])
        if level is None or head[:_TIME] not in self._fronts:
            return None
        if head[_TIME:_FRACTION] != self._second or not head[_FRACTION:].isdigit():
            return None
        try:
            text = loads(b'"' + message)
        except ValueError:
            return None
        return None if self._suspects(text) else (level, f"{head[_TIME:].decode()}Z")

    def _moved(self, rest: bytes) -> bool:
        """The next task, or another process; False if it is not a known one."""
        place = rest[rest.find(self._cuts.place) :]
        if place in self._places:
            self._place, self._length = place, -len(place)
            return True
        return False

    def learn(self, line: bytes, when: str) -> None:
        """Remember the parts of a record that was looked at as a whole.

        Parameters
        ----------
        line
            A JSON object without secrets, nothing before and a newline behind
            it.
        when
            Its time as it was understood, RFC 3339 in UTC.
        """
        self._second = when[:20].encode()
        for cuts in _CUTS:
            head, found, rest = line.partition(cuts.message)
            _, also, rest = rest.partition(cuts.statement)
            split = rest.find(cuts.place)
            if found and also and split > 0:
                self._cuts = cuts
                self._keep(head[:_TIME], rest[:split], rest[split:])
                return

    def forget(self) -> None:
        """There is a new secret: what was clean need not be."""
        self._fronts.clear()
        self._levels.clear()
        self._places.clear()
        self._place, self._length = b"", -1

    def _keep(self, front: bytes, statement: bytes, place: bytes) -> None:
        if max(len(self._fronts), len(self._levels), len(self._places)) >= _MOST:
            self.forget()
        try:
            if front not in self._fronts and tuple(loads(front + b'"}')) == _FRONT:
                self._fronts.add(front)
            if statement not in self._levels:
                said = loads(b'{"levelno":' + statement + b"}")
                if tuple(said) == _STATEMENT:
                    self._levels[statement] = severity(said)
            if place not in self._places and tuple(loads(b'{"":0' + place)) == _PLACE:
                self._places.add(place)
        except ValueError:
            return  # a cut fell into a text: this record stays unfamiliar
