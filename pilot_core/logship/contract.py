"""Where log records go, and what is promised on the way.

::

    bytes -> lines -> entries -> requests -> outcome -> position remembered
    tail     tail     record     batch       sink       checkpoint

The file is the only buffer: a position moves on only after the sink said
yes, so nothing is lost by a crash and memory is bounded whatever the backlog.
The same bytes always make the same `insert_id` and timestamp, so what is sent
again after an unclear failure shows up once at a reader.

Two things are pluggable: a `RecordMaker` turns lines of one file into entries
(`record.PayloadRecords` for the payload's log, the starter's for the worker
log), a `Sink` stores them.

Threads: makers and sinks belong to one shipper thread; no method is called
from two threads at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = [
    "Chunk",
    "Entry",
    "MakerFactory",
    "Mark",
    "Outcome",
    "OutcomeKind",
    "RecordMaker",
    "ShipCounts",
    "Sink",
    "SinkLimits",
    "Source",
]


class Entry(NamedTuple):
    """One log entry, ready for any sink. A tuple, because millions of them are
    made.

    Attributes
    ----------
    payload
        The entry's JSON object as UTF-8 bytes, without a final newline. Bytes
        and not a dict: a line that is JSON already is spliced, never rebuilt.
    severity
        Cloud Logging's LogSeverity name: DEFAULT, DEBUG, INFO, NOTICE,
        WARNING, ERROR, CRITICAL...
    timestamp
        RFC 3339 UTC with `Z`; a property of the record, the same at every
        attempt.
    insert_id
        Identity of the bytes: job, file and offset, and a checksum where the
        entry's time says little (text, a document behind `###EXTRA###`);
        letters, digits, `.`, `_` and `-` only. Sorts in file order.
    """

    payload: bytes
    severity: str
    timestamp: str
    insert_id: str


class Chunk(NamedTuple):
    """Lines of one file, in order, as the tail reads them.

    Attributes
    ----------
    lines
        Each with its own final newline. Only two kinds come without one: the
        last line of a file whose writer has ended, and the pieces of an
        overlong line (`part`). Split on the byte LF and nothing else. Any
        byte may be inside.
    offset
        Position of the first byte of `lines[0]` in the file; the next line
        starts `len(lines[0])` further on.
    part
        0 for whole lines. Otherwise `lines` holds one piece of a line that is
        longer than the reader's cap: its number, counted from 1. The last
        piece ends in a newline, or the file ends.
    """

    lines: Sequence[bytes]
    offset: int
    part: int = 0


class Mark(NamedTuple):
    """Where a record maker could start again.

    Attributes
    ----------
    offset
        First byte that is not yet in an entry handed out: the end of the last
        line fed, or the start of a record that is still open.
    state
        What the maker must know to make the same entries from there on; kept
        in the position file and handed back in `Source.state`. Printable,
        short.
    """

    offset: int
    state: str


@dataclass(frozen=True, slots=True)
class Source:
    """The file a record maker works for; a new one after rotation or
    truncation.

    Attributes
    ----------
    path
        The name it was found under.
    file_id
        Path, inode and generation in a few characters fit for an insert id:
        `<file_id>-<offset>` is unique on this machine.
    since
        When this file was seen first, epoch seconds; survives a restart, so it
        may stand in for the time of a line that has none. Of a file that is
        read for long, the rest gets a later one and another `file_id`.
    offset, state
        Where reading starts, and `Mark.state` of that place; 0 and "" for a
        new file.
    """

    path: Path
    file_id: str
    since: float
    offset: int = 0
    state: str = ""


class RecordMaker(Protocol):
    """Lines of one file in, entries out.

    A maker for lines that stand alone returns an entry for each line and a
    mark at the end of the last one. One that joins lines keeps the open record
    to itself and leaves the mark at its first byte: what is open is read again
    after a restart. A line may be skipped: no entry, and the mark moves on.

    The same lines must make the same `insert_id` and timestamp however they
    are cut into chunks; where a flush can cut a record in two, its insert id
    holds the end as well as the start.
    """

    def feed(self, chunk: Chunk) -> Sequence[Entry]:
        """Take the next lines; the entries that are complete now, in file
        order.
        """
        ...

    def flush(self) -> Sequence[Entry]:
        """Close what is open: nothing came for a while, or the file has ended."""
        ...

    def mark(self) -> Mark:
        """Where to start again once everything handed out so far is delivered."""
        ...


MakerFactory = Callable[[Source], RecordMaker]


@dataclass(frozen=True, slots=True)
class SinkLimits:
    """What one request may hold; 0 for no limit. `entry_bytes` is of the
    payload.
    """

    entry_bytes: int = 0
    batch_bytes: int = 0
    batch_entries: int = 1000


class OutcomeKind(Enum):
    """What the sink said to a batch."""

    DELIVERED = auto()
    """Stored, except for `rejected`, which never will be."""
    RETRY = auto()
    """Not stored, or not surely: send the same again, after `retry_after_s`.
    """
    BUSY = auto()
    """Not stored, because there are too many requests: ask less often."""
    FULL = auto()
    """Not stored, because there are too many bytes: send less, so that those
    who have little to say are heard.
    """
    DENIED = auto()
    """Credentials, permission, a missing project: keep all, say so, probe
    slowly.
    """
    TOO_LARGE = auto()
    """Refused as a whole, for its size or for something in it: split it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sink's answer to one batch.

    Attributes
    ----------
    rejected
        Index in the batch and reason of each entry that the service refused
        for good while it took the others.
    detail
        The service's words, for the pilot's log.
    retry_after_s
        Seconds the service asked for; 0 if it did not.
    """

    kind: OutcomeKind
    rejected: Mapping[int, str] = field(default_factory=dict)
    detail: str = ""
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ShipCounts:
    """What became of the records so far: the closing line of every shipper.

    Attributes
    ----------
    sent
        Entries the sink has confirmed.
    repeated
        Entries sent once more after an attempt without a clear yes.
    rejected
        Entries the service refused for good.
    left_bytes
        Bytes of the files, read or not, that the sink has not confirmed.
    behind_s
        Age of the last look that found nothing more to deliver; 0 without
        bytes left.
    last_error
        The last failure in the service's words; empty if there was none.
    """

    sent: int = 0
    repeated: int = 0
    rejected: int = 0
    left_bytes: int = 0
    behind_s: float = 0.0
    last_error: str = ""


class Sink(Protocol):
    """A log service."""

    name: str
    limits: SinkLimits

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        """One attempt at storing a batch, over after `timeout_s` seconds.

        Never raises for what a network or a service can do: every such failure
        is an `Outcome`. Never retries: the shipper does.
        """
        ...

    def close(self) -> None:
        """Let go of connections; a second call is harmless."""
        ...
