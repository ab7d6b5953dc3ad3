"""PURE. Entries -> requests of the size that a sink takes."""

from collections.abc import Iterator, Sequence
from operator import attrgetter

from pilot_core.logship.contract import Entry, SinkLimits

__all__ = ["requests"]

# What a sink writes around a payload: severity, time, id, field names.
_AROUND = 256
_PAYLOAD = attrgetter("payload")


def requests(entries: Sequence[Entry], limits: SinkLimits) -> Iterator[Sequence[Entry]]:
    """Cut into requests within the limits, in order.

    An entry that is too large for any request stands alone.
    """
    most = limits.batch_entries or len(entries) or 1
    for first in range(0, len(entries), most):
        yield from _of_size(entries[first : first + most], limits.batch_bytes or 1 << 62)


def _of_size(entries: Sequence[Entry], most: int) -> Iterator[Sequence[Entry]]:
    # Nearly always they fit; one sum is cheaper than a look at each.
    if sum(map(len, map(_PAYLOAD, entries))) + _AROUND * len(entries) <= most:
        yield entries
        return
    start = size = 0
    for index, entry in enumerate(entries):
        more = len(entry.payload) + _AROUND
        if index > start and size + more > most:
            yield entries[start:index]
            start, size = index, 0
        size += more
    yield entries[start:]
