"""PURE. Entries -> requests of the size that a sink takes."""

from collections.abc import Sequence
from operator import attrgetter

from pilot_core.logship.contract import Entry

__all__ = ["request", "weight"]

# What a sink writes around a payload: severity, time, id, field names.
_AROUND = 256
_PAYLOAD = attrgetter("payload")


def request(entries: Sequence[Entry], start: int, *, most: int, size: float) -> Sequence[Entry]:
    """As many of the entries from `start` on, in order, as fit into one
    request.

    Parameters
    ----------
    most
        How many at most; more than 0.
    size
        Bytes at most; an entry that is larger stands alone.
    """
    some = entries[start : start + most]
    # Nearly always they fit; one sum is cheaper than a look at each.
    if weight(some) <= size:
        return some
    held = 0
    for index, entry in enumerate(some):
        held += len(entry.payload) + _AROUND
        if held > size:
            return some[: max(1, index)]
    return some


def weight(entries: Sequence[Entry]) -> int:
    """Bytes of a request with these entries, roughly."""
    return sum(map(len, map(_PAYLOAD, entries))) + _AROUND * len(entries)
