"""PURE. Records above the service's limit: how large they are, and how they
are cut.

Cloud Logging counts an entry's internal size, not its JSON: strings shrink
(no escapes), numbers and lists of them grow up to sixfold.
"""

import json
from typing import Any

from pilot_core.logship.jsontext import dumps

__all__ = ["GROWTH", "parts", "struct_size", "text_pieces"]

# `1,` in a JSON list is 2 bytes and a protobuf Value in a ListValue 11.
GROWTH = 6


def struct_size(value: Any) -> int:
    """Bytes of a JSON value as google.protobuf.Value, rounded up a little."""
    if isinstance(value, str):
        return 5 + len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return 5 + sum(
            12 + len(k.encode("utf-8", "surrogatepass")) + struct_size(v) for k, v in value.items()
        )
    if isinstance(value, list):
        return 5 + sum(4 + struct_size(v) for v in value)
    return 9


def _encoded(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def text_pieces(text: str, size: int) -> list[str]:
    """Cut a text so that each piece takes at most `size` bytes as a JSON
    string.
    """
    found = []
    at = 0
    while at < len(text):
        length = size
        while (length > 1) and (taken := _encoded(text[at : at + length])) > size:
            # In proportion, and a little less, so that it ends soon.
            length = max(1, min(length - 1, length * size // taken))
        found.append(text[at : at + length])
        at += length
    return found


def parts(fields: dict[str, Any], uid: str, limit: int) -> list[bytes] | None:
    """A record as several, its longest text cut; each says `Part` n of m and
    `PartOf`.

    The other fields stand in every part, so that a query for an id, a level
    or a task finds all of them. None if there is too much beside the longest
    text.

    Parameters
    ----------
    fields
        The record, with the pilot's own fields.
    uid
        Insert id of the record, the value of `PartOf`.
    limit
        Bytes one part may take.
    """
    longest = max(
        (k for k, v in fields.items() if isinstance(v, str)), key=lambda k: len(fields[k]), default=None
    )
    if longest is None:
        return None
    said = {"Part": "99999 of 99999", "PartOf": uid}
    rest = {**fields, longest: "", **said}
    room = limit - max(len(dumps(rest)), struct_size(rest))
    if room < limit // 4:
        return None
    pieces = text_pieces(fields[longest], room)
    count = len(pieces)
    return [
        dumps({**fields, longest: piece, "Part": f"{n} of {count}", "PartOf": uid})
        for n, piece in enumerate(pieces, 1)
    ]
