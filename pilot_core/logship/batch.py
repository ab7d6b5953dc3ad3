"""PURE. Entries -> requests of the size that a sink takes."""

from collections.abc import Iterator, Sequence

from pilot_core.logship.contract import Entry, SinkLimits

__all__ = ["requests"]

# What a sink writes around a payload: severity, time, id, field names.
_AROUND = 256


def requests(entries: Sequence[Entry], limits: SinkLimits) -> Iterator[Sequence[Entry]]:
    """Cut into requests within the limits, in order.

    An entry that is too large for any request stands alone.
    """
    most_entries = limits.batch_entries or len(entries) or 1
    most_bytes = limits.batch_bytes or 1 << 62
    start = size = 0
    for index, entry in enumerate(entries):
        more = len(entry.payload) + _AROUND
        if index > start and (size + more > most_bytes or index - start >= most_entries):
            yield entries[start:index]
            start, size = index, 0
        size += more
    if start < len(entries):
        yield entries[start:]
