"""PURE. Records of one shape, looked at column by column: the common case, and the fast one.

A payload's records nearly all have the same fields. What has to be found out
about each (level, time, no secret inside) is then found out for a hundred at
a time, most of it in C. Whatever is not plain makes the whole lot `None`, and
the records are taken one by one.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from pilot_core.logship import jsontext
from pilot_core.logship.contract import Entry
from pilot_core.logship.level import LEVELS
from pilot_core.logship.stamp import Stamps

__all__ = ["ID_BASE", "plain_entries", "records_of", "same_shape"]

# Offsets in insert ids all have 14 digits, so that they sort; cheaper than padding.
ID_BASE = 10**13

_BRACE = ord("{")
_NO_TEXT = frozenset((int, float, bool, type(None)))


def records_of(lines: Sequence[bytes], most: int) -> list[dict[str, Any]] | None:
    """The records, if every line is one object from the first to the last byte.

    Parameters
    ----------
    lines
        With their newlines.
    most
        Longest line that needs no look at its size.
    """
    if {line[0] for line in lines} != {_BRACE} or {line[-2:] for line in lines} != {b"}\n"}:
        return None
    if max(map(len, lines)) > most:
        return None
    try:
        return list(map(jsontext.loads, lines))
    except ValueError:
        return None


def same_shape(records: Sequence[dict[str, Any]]) -> tuple[str, ...] | None:
    """The field names of all of them, if they have the same."""
    shapes = set(map(tuple, records))
    return shapes.pop() if len(shapes) == 1 else None


def plain_entries(
    lines: Sequence[bytes],
    records: Sequence[dict[str, Any]],
    *,
    scan: Sequence[str],
    dirty: Callable[[Any], bool],
    stamps: Stamps,
    head: bytes,
    prefix: str,
    offset: int,
) -> list[Entry] | None:
    """Entries that are the lines' own bytes behind `head`; None if one needs more care.

    Parameters
    ----------
    lines, records
        As `records_of` has them, all of one shape.
    scan
        Fields that may hold a secret.
    dirty
        Whether a value may hold one.
    head
        JSON of the pilot's own fields, open at its end.
    prefix, offset
        Of the insert ids; position of the first line.
    """
    first = records[0]
    if "levelname" not in first or "asctime" not in first:
        return None
    levels = list(map(LEVELS.get, [record["levelname"] for record in records]))
    if None in levels:
        return None
    for name in scan:
        if not _clean([record[name] for record in records], dirty):
            return None
    times = stamps.all_of([record["asctime"] for record in records])
    if times is None:
        return None
    starts = accumulate(map(len, lines), initial=offset + ID_BASE)
    payloads = [head + line[1:-1] for line in lines]
    ids = [f"{prefix}{start}" for _, start in zip(lines, starts, strict=False)]
    return list(map(Entry._make, zip(payloads, levels, times, ids, strict=True)))


def _clean(values: list[Any], dirty: Callable[[Any], bool]) -> bool:
    """No secret in one column: sure if True."""
    kinds = set(map(type, values))
    if kinds == {str}:
        # A secret in one text is in the joined one.
        return not dirty("\n".join(values))
    if kinds == {dict}:
        # The diagnostic context stays the same for hundreds of records.
        last: Any = None
        for value in values:
            if value != last:
                if dirty(value):
                    return False
                last = value
        return True
    return kinds <= _NO_TEXT
