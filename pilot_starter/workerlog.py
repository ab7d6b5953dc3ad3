"""PURE: lines of the worker's log -> log entries for `Panda-WorkerLog`.

Starter, wrapper and pilot share one log. A line that begins with a time is a
record; what follows without one belongs to it (a traceback, the end of the
payload's stderr) or is passed over. Which job a record is about stands in the
lines before it. The rules are those of Rubin's starter of 2022, whose entries
people search: fields `hostname`, `message`, `PandaJobID`, `jobName`, severity
from the pilot's level, raised to ERROR where the pilot explains a failed
payload.
"""

import ast
import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pilot_core import loglines
from pilot_core.base.redact import Redactor
from pilot_core.logship.contract import Chunk, Entry, Mark, Source
from pilot_core.logship.stamp import Stamps

__all__ = ["WorkerRecords"]

# `2026-11-21 08:51:00,123` and what follows, in the pilot's own form
# (`| INFO     | ...`), the wrapper's (`[wrapper] ...`) or any other.
_DATED = re.compile(r"(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})(?P<rest>\b.*)", re.DOTALL)
_LEVEL = re.compile(r"\s*\|\s*(?P<level>[A-Z]+)\s*\|")
# What stands before a message: the level, and with -d logger and function.
_FIELDS = re.compile(r"\s*\|\s*[A-Z]+\s*\|(?:(?:\s[^\s|]+\s*\|){2})?\s")
_WRAPPER = re.compile(r"\s*\[wrapper\]\s*(?P<level>FATAL|ERROR|WARNING)?")
_FINISHED = re.compile(
    r"\b" + loglines.PAYLOAD_FINISHED.replace("%d", r"-?\d+").replace("%s", r"(?P<state>\w+)")
)
_PANDA_ID = re.compile(r"""['"]PandaID['"]: ['"]?(\d+)""")
_JOB_NAME = re.compile(r"""['"]jobName['"]: ['"]([^'"]*)['"]""")

_SEVERITY = {
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
    "FATAL": "CRITICAL",
    "CRITICAL": "CRITICAL",
}
# By these the pilot explains a failed payload. The function's name is part of
# the line with -d only; the words after it always are.
_EXPLANATIONS = (
    "add_error_codes",
    "perform_initial_payload_error_analysis",
    loglines.ERROR_CODES,
    loglines.ERROR_DIAGS,
    loglines.ANALYSIS,
)
_DUMP_LINES = 10
# Of a head, and of the lines below it: an entry may have 256 KiB, a character up
# to 4 bytes. People read the beginning.
_MOST_CHARS = 30_000


class _Mode(StrEnum):
    """What lines without a time are to the record before them."""

    DROP = "drop"
    KEEP = "keep"
    STDERR = "stderr"
    STDOUT = "stdout"


@dataclass(frozen=True, slots=True)
class _Story:
    """What the lines so far tell about those to come; survives as
    `Mark.state`.
    """

    panda_id: str = ""
    job_name: str = ""
    failed: bool = False
    mode: str = _Mode.DROP
    severity: str = "INFO"
    time: str = ""


@dataclass(slots=True)
class _Open:
    """A record whose end has not been seen."""

    start: int
    end: int
    head: str
    story: _Story
    before: _Story
    lines: deque[str] = field(default_factory=deque)
    chars: int = 0
    cut: int = 0

    def add(self, text: str, end: int) -> None:
        self.end = end
        if self.story.mode == _Mode.STDERR:
            if text.strip():
                self.lines.append(text[:2_000])
                if len(self.lines) > _DUMP_LINES:
                    self.lines.popleft()
        elif self.chars + len(text) > _MOST_CHARS:
            self.cut += 1
        else:
            self.chars += len(text)
            self.lines.append(text)

    @property
    def message(self) -> str:
        lines = [self.head, *self.lines] if self.head else list(self.lines)
        if self.cut:
            lines.append(f"... ({self.cut} lines left out)")
        return "\n".join(lines)


class WorkerRecords:
    """A `RecordMaker` for the worker's log: this pilot's lines, and pilot3's.

    Parameters
    ----------
    source
        The file and where to go on.
    hostname
        Field of each record.
    redactor
        Masks what must not leave.
    """

    def __init__(self, source: Source, *, hostname: str, redactor: Redactor) -> None:
        self._source = source
        self._hostname = hostname
        self._redactor = redactor
        self._position = source.offset
        self._open: _Open | None = None
        self._story = _load(source.state)

    def feed(self, chunk: Chunk) -> Sequence[Entry]:
        """Take lines; see `RecordMaker`."""
        entries: list[Entry] = []
        offset = chunk.offset
        for line in chunk.lines:
            end = offset + len(line)
            # Of an overlong line the first piece tells all that matters here.
            if chunk.part <= 1:
                self._line(line.decode("utf-8", "replace").rstrip("\r\n"), offset, end, entries)
            offset = end
        self._position = offset
        return entries

    def flush(self) -> Sequence[Entry]:
        """Close the open record; what still belongs to it makes another one."""
        entries: list[Entry] = []
        self._close(entries)
        return entries

    def mark(self) -> Mark:
        """Where to start again: the open record's first byte, or the end."""
        if self._open is not None:
            return Mark(self._open.start, _dump(self._open.before))
        return Mark(self._position, _dump(self._story))

    def _line(self, text: str, start: int, end: int, entries: list[Entry]) -> None:
        dated = _parse(text)
        in_dump = self._story.mode in (_Mode.STDERR, _Mode.STDOUT)
        # A payload's own lines may begin with a time, too: a dump ends only
        # where starter, wrapper or pilot speak.
        if dated is None or (in_dump and not dated.ours):
            self._undated(text, start, end)
            return
        self._close(entries)
        before = self._story
        self._learn(dated.rest)
        severity = dated.severity
        if self._story.failed and (
            dated.mode == _Mode.STDERR or any(words in text for words in _EXPLANATIONS)
        ):
            severity = "ERROR"
        mode = dated.mode
        if mode == _Mode.DROP and severity in ("ERROR", "CRITICAL"):
            mode = _Mode.KEEP
        self._story = replace(self._story, mode=mode, severity=severity, time=dated.time)
        head = self._redactor.text(dated.message)[:_MOST_CHARS]
        self._open = _Open(start, end, head, self._story, before)
        if mode in (_Mode.DROP, _Mode.STDOUT):
            self._close(entries)

    def _undated(self, text: str, start: int, end: int) -> None:
        found = _FINISHED.search(text)
        if found and self._story.mode not in (_Mode.STDERR, _Mode.STDOUT):
            self._story = replace(self._story, failed=found["state"] == "failed")
        if self._story.mode not in (_Mode.KEEP, _Mode.STDERR):
            return
        if self._open is None:
            if not text.strip():
                return
            # The record was flushed, or read and delivered by an earlier life.
            head = f"{loglines.STDERR_DUMP} (continued)" if self._story.mode == _Mode.STDERR else ""
            self._open = _Open(start, end, head, self._story, self._story)
        # Before it is cut: half a secret is not known as one.
        self._open.add(self._redactor.text(text), end)

    def _learn(self, rest: str) -> None:
        fields = _FIELDS.match(rest)
        message = rest[fields.end() :] if fields else ""
        if message.startswith(loglines.JOB_DEFINITION + "{"):
            panda_id, job_name = _job(message.removeprefix(loglines.JOB_DEFINITION))
            self._story = replace(self._story, panda_id=panda_id, job_name=job_name, failed=False)
        elif message == loglines.READY:
            self._story = replace(self._story, panda_id="", job_name="", failed=False)
        elif found := _FINISHED.search(rest):
            self._story = replace(self._story, failed=found["state"] == "failed")

    def _close(self, entries: list[Entry]) -> None:
        record, self._open = self._open, None
        if record is None:
            return
        story = record.story
        body = {"hostname": self._hostname, "message": self._redactor.text(record.message)}
        if story.panda_id:
            body["PandaJobID"] = story.panda_id
        if story.job_name:
            body["jobName"] = story.job_name
        # Each on its own: the same after a restart.
        stamps = Stamps("", self._source.since)
        entries.append(
            Entry(
                payload=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
                severity=story.severity,
                timestamp=stamps.of(f"{story.time[:10]}T{story.time[11:19]}.{story.time[20:23]}Z"),
                insert_id=f"{self._source.file_id}-{record.start:012d}-{record.end:012d}",
            )
        )


@dataclass(frozen=True, slots=True)
class _Dated:
    """A line that begins with a time."""

    time: str
    rest: str
    severity: str
    ours: bool
    mode: _Mode

    @property
    def message(self) -> str:
        return self.rest.strip().removeprefix("| ")


def _parse(text: str) -> _Dated | None:
    found = _DATED.match(text)
    if found is None:
        return None
    time, rest = found[1], found["rest"].rstrip()
    try:
        datetime.fromisoformat(time.replace(",", "."))
    except ValueError:
        return None
    level = _LEVEL.match(rest)
    wrapper = _WRAPPER.match(rest)
    word = (level or wrapper or {"level": None})["level"] or ""
    return _Dated(
        time=time,
        rest=rest,
        severity=_SEVERITY.get(word, "INFO"),
        ours=wrapper is not None or word in _SEVERITY,
        mode=_mode(rest),
    )


def _load(state: str) -> _Story:
    """The story a position file tells; an empty one if it tells none."""
    try:
        story = _Story(**json.loads(state or "{}"))
    except (ValueError, TypeError, RecursionError):
        return _Story()
    kinds = {name: bool if isinstance(value, bool) else str for name, value in asdict(_Story()).items()}
    sound = all(isinstance(value, kinds[name]) for name, value in asdict(story).items())
    return story if sound else _Story()


def _mode(rest: str) -> _Mode:
    if rest.endswith(loglines.STDERR_DUMP):
        return _Mode.STDERR
    if rest.endswith("payload stdout dump"):
        return _Mode.STDOUT
    # A message that begins with a newline: the block with the payload's end.
    return _Mode.KEEP if rest.endswith("|") else _Mode.DROP


def _job(text: str) -> tuple[str, str]:
    """PandaID and job name from the definition: a Python literal, or a piece
    of one.
    """
    try:
        definition = ast.literal_eval(text.strip())
        return str(definition["PandaID"]), str(definition.get("jobName") or "")
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, MemoryError, RecursionError):
        panda_id, name = _PANDA_ID.search(text), _JOB_NAME.search(text)
        return panda_id[1] if panda_id else "", name[1] if name else ""


def _dump(story: _Story) -> str:
    return json.dumps(asdict(story), separators=(",", ":"))
