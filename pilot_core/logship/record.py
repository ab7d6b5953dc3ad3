"""PURE. Lines of the payload's log -> entries with the job's ids.

A line that is a JSON object is spliced: its own bytes, with the pilot's fields
put in front. It is parsed for its level and time, to be sure that it is JSON
and to look for secrets, and rebuilt only where it must be: a field of the
pilot's name inside, a secret, or more than one entry may hold.

Everything else is text: it becomes the `message` of an entry, with what cannot
stand in JSON (bytes that are not UTF-8) written as `\\xff`. Blank lines are
passed over.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pilot_core.base.redact import Redactor
from pilot_core.logship import jsontext
from pilot_core.logship.contract import Chunk, Entry, Mark, Source
from pilot_core.logship.familiar import Familiar
from pilot_core.logship.level import line_level, severity
from pilot_core.logship.split import GROWTH, parts, struct_size
from pilot_core.logship.stamp import Stamps

__all__ = ["OURS", "JobContext", "PayloadRecords"]

#: The pilot's own fields.
OURS = frozenset(
    ("TaskID", "PandaJobID", "Harvester_WorkerID", "Harvester_ID", "RequestID", "PilotTimeStamp")
)
# lsst.daf.butler.logging.ButlerLogRecords: one JSON document follows on the
# next line.
_EXTRA = b"###EXTRA###"
# Offsets in insert ids all have 14 digits, so that they sort; cheaper than
# padding.
ID_BASE = 10**13
# For the job's own fields, bytes.
_ROOM = 1024
# Above a megabyte, a line of very many values or objects is text: as Python
# objects it would take fifty times its size, and the GIL for seconds.
_LARGE = 1 << 20
_MOST_OPEN, _MOST_VALUES = 50_000, 500_000
_PLAIN = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True, slots=True)
class JobContext:
    """The ids in every record, under the names that users' queries know.

    The ids are strings, as pilot3 sends them: jsonPayload holds numbers as
    doubles, and a query finds `"1234"` with and without quotes. RequestID is
    an integer there, and here. Empty or None: the field is left out.
    """

    task_id: str = ""
    panda_job_id: str = ""
    harvester_worker_id: str = ""
    harvester_id: str = ""
    request_id: int | None = None

    def fields(self) -> dict[str, str | int]:
        """Field names and values in pilot3's order."""
        named: dict[str, str | int | None] = {
            "TaskID": self.task_id,
            "PandaJobID": self.panda_job_id,
            "Harvester_WorkerID": self.harvester_worker_id,
            "Harvester_ID": self.harvester_id,
            "RequestID": self.request_id,
        }
        return {name: value for name, value in named.items() if value is not None and value != ""}


class PayloadRecords:
    """The record maker of the payload's log.

    Parameters
    ----------
    context
        The job.
    source
        The file.
    entry_bytes
        Most bytes a payload may have; more is split. 0 for no limit.
    redactor
        What must not leave.
    now
        Wall clock, epoch seconds: `PilotTimeStamp`.
    """

    def __init__(
        self,
        context: JobContext,
        source: Source,
        *,
        entry_bytes: int,
        redactor: Redactor,
        now: Callable[[], float],
    ) -> None:
        self._fields = context.fields()
        job = _PLAIN.sub("-", context.panda_job_id) or "0"
        self._prefix = f"{job}-{source.file_id}-"
        self._limit = entry_bytes or 1 << 62
        self._redactor = redactor
        self._now = now
        self._stamps = Stamps(source.state, source.since)
        self._small = self._limit // GROWTH - _ROOM
        self._head = b""
        self._familiar = Familiar(redactor, self._stamps, self._small)
        self._stamp_s = 0.0
        self._end = source.offset
        self._held: tuple[int, bytes] | None = None

    def feed(self, chunk: Chunk) -> Sequence[Entry]:
        """Take the next lines; see `RecordMaker.feed`."""
        self._stamp_s = self._now()
        if chunk.part:
            return self._piece(chunk)
        self._head = jsontext.dumps({**self._fields, "PilotTimeStamp": self._stamp_s})[:-1] + b","
        # Local names and `tuple.__new__`: see `Familiar.looks`.
        head, prefix, new, entry = self._head, self._prefix, tuple.__new__, Entry
        entries: list[Entry] = []
        end = chunk.offset
        for line, (level, when) in zip(chunk.lines, self._familiar.looks(chunk.lines), strict=True):
            start = end
            end += len(line)
            if level is None or self._held is not None:
                entries += self._careful(line, start)
                continue
            self._stamps.last = when
            uid = f"{prefix}{start + ID_BASE}"
            entries.append(new(entry, (head + line[1:-1], level, when, uid)))
        self._end = end
        return entries

    def flush(self) -> Sequence[Entry]:
        """Nothing follows the trailer's marker: it goes as text."""
        held, self._held = self._held, None
        return self._text(held[1], held[0]) if held is not None else ()

    def mark(self) -> Mark:
        """End of the last line, or the start of a trailer whose document is to
        come.
        """
        return Mark(self._end if self._held is None else self._held[0], self._stamps.last)

    # ---- the careful way: another shape, anything odd, large or secret

    def _careful(self, line: bytes, start: int) -> Iterable[Entry]:
        stripped = line.strip()
        if self._held is not None:
            return self._trailer(line, start)
        if not stripped:
            return ()
        if stripped == _EXTRA:
            self._held = (start, line)
            return ()
        record = self._object(stripped)
        if record is not None:
            return self._record(stripped, record, start)
        small = len(stripped) <= _LARGE
        together = jsontext.objects(stripped) if small and b"}" in stripped[:-1] else None
        if together is None:
            return self._text(line, start)
        lead = len(line) - len(line.lstrip())
        found: list[Entry] = []
        for offset, raw in together:
            record = self._object(raw)
            at = start + lead + offset
            found += self._record(raw, record, at) if record is not None else self._text(raw, at)
        return found

    @staticmethod
    def _object(raw: bytes) -> dict[str, Any] | None:
        if raw[:1] != b"{" or (len(raw) > _LARGE and _crowded(raw)):
            return None
        try:
            value = jsontext.loads(raw)
        except ValueError:
            return None
        if not isinstance(value, dict):
            return None
        deep = raw.count(b"{") + raw.count(b"[") > jsontext.MAX_DEPTH and jsontext.too_deep(value)
        return None if deep else value

    def _trailer(self, line: bytes, start: int) -> Iterable[Entry]:
        """The document after `###EXTRA###`: one entry, with the marker's
        offset.
        """
        marker, self._held = self._held, None
        record = self._object(line.strip())
        if marker is None or record is None:
            lone = self._text(marker[1], marker[0]) if marker else ()
            return [*lone, *self._careful(line, start)]
        wrapped = {"message": _EXTRA.decode(), "extra": jsontext.exact(line.strip())}
        start, raw = marker[0], marker[1] + line.removesuffix(b"\n")
        return self._record(jsontext.dumps(wrapped), wrapped, start, f"-{zlib.crc32(raw):08x}")

    def _record(self, raw: bytes, record: dict[str, Any], start: int, mark: str = "") -> list[Entry]:
        level, when = severity(record), self._stamps.of(record.get("asctime"))
        uid = f"{self._prefix}{start + ID_BASE}{mark}"
        large = len(raw) > self._small
        clean = self._cleaned(raw, record)
        if record and clean is None and not large and OURS.isdisjoint(record):
            return [Entry(self._head + raw[1:], level, when, uid)]
        fields: dict[str, Any] = {**self._fields, "PilotTimeStamp": self._stamp_s}
        own = jsontext.exact(raw) if clean is None else clean
        fields |= {k: v for k, v in own.items() if k not in OURS}
        payload = jsontext.dumps(fields)
        if not large or max(len(payload), struct_size(fields)) <= self._limit:
            return [Entry(payload, level, when, uid)]
        cut = parts(fields, uid, self._limit)
        if cut is None:
            return self._messages(jsontext.dumps(own).decode(), uid, level, when)
        return [Entry(part, level, when, f"{uid}-{n:05d}") for n, part in enumerate(cut, 1)]

    def _cleaned(self, raw: bytes, record: dict[str, Any]) -> dict[str, Any] | None:
        """The record without its secrets; None if it holds none."""
        # Without an escape every text stands in the line as it is.
        if not self._redactor.suspects(raw.decode()) and (
            b"\\" not in raw or not self._redactor.suspects_in(record)
        ):
            return None
        own = jsontext.exact(raw)
        clean: dict[str, Any] = self._redacted(own)
        # Of a name that stands twice only the second value is in the object.
        return None if clean == own and self._redactor.data(raw) == raw else clean

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redactor.text(value)
        if isinstance(value, dict):
            return {self._redactor.text(k): self._redacted(v) for k, v in value.items()}
        return [self._redacted(v) for v in value] if isinstance(value, list) else value

    def _text(self, line: bytes, start: int) -> list[Entry]:
        raw = line.removesuffix(b"\n")
        text = raw.decode("utf-8", "backslashreplace")
        level, asctime = line_level(text)
        when = self._stamps.of(asctime)
        # A record's time tells it from another at the same place; this does.
        uid = f"{self._prefix}{start + ID_BASE}-{zlib.crc32(raw):08x}"
        return self._messages(self._redactor.text(text), uid, level, when)

    def _messages(self, text: str, uid: str, level: str, when: str, **said: str) -> list[Entry]:
        fields = {**self._fields, "PilotTimeStamp": self._stamp_s, "message": text, **said}
        payload = jsontext.dumps(fields)
        if len(payload) <= self._limit:
            return [Entry(payload, level, when, uid)]
        cut = parts(fields, uid, self._limit)
        if cut is None:
            raise ValueError(
                f"a limit of {self._limit} bytes an entry leaves no room for the job's own fields"
            )
        return [Entry(part, level, when, f"{uid}-{n:05d}") for n, part in enumerate(cut, 1)]

    def _piece(self, chunk: Chunk) -> list[Entry]:
        """One piece of a line longer than the reader's cap: text that says so."""
        entries: list[Entry] = []
        at = chunk.offset
        for piece in chunk.lines:
            text = piece.removesuffix(b"\n").decode("utf-8", "backslashreplace")
            uid = f"{self._prefix}{at + ID_BASE}"
            said = f"piece {chunk.part} of a line too long to be read whole"
            entries += self._messages(self._redactor.text(text), uid, "INFO", self._stamps.last, Piece=said)
            at += len(piece)
        self._end = at
        return entries


def _crowded(raw: bytes) -> bool:
    return raw.count(b"{") + raw.count(b"[") > _MOST_OPEN or raw.count(b",") > _MOST_VALUES
