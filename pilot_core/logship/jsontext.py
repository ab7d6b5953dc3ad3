"""PURE. Strict JSON, the same with orjson and without it.

orjson reads a Rubin record in 1.8 us, the standard library in 6 us; the pilot
runs with either. Only what both of them and Cloud Logging take counts as JSON:
no NaN, no infinity, no lone surrogate, no number beyond a double, no nesting
deeper than the service allows.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

try:
    import orjson
except ImportError:  # the field's images need not have it
    _fast: Callable[[bytes], Any] | None = None
else:
    _fast = orjson.loads

__all__ = ["MAX_DEPTH", "dumps", "exact", "joined", "loads", "loads_plain", "objects", "too_deep"]

# protobuf stops at 100 levels, on the wire too, where each object of a Struct
# takes three of them and jsonPayload itself some.
MAX_DEPTH = 30

_SPACE = re.compile(r"[ \t\r\n]*")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:20]} is beyond a double")
    return value


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 20 else _finite(text)


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


_decoder = json.JSONDecoder(parse_float=_finite, parse_int=_integer, parse_constant=_refuse)
# Keeps integers of any length: what is rebuilt must not lose digits.
_exact = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)


def _without_surrogates(value: Any, text: str) -> Any:
    if "\\ud" in text or "\\uD" in text:
        dumps(value)
    return value


def loads_plain(data: bytes) -> Any:
    """`loads` with the standard library alone.

    Raises
    ------
    ValueError
        If `data` is not strict JSON in UTF-8.
    """
    text = data.decode("utf-8")
    try:
        return _without_surrogates(_decoder.decode(text), text)
    except RecursionError as err:
        raise ValueError("JSON is nested too deeply") from err


# The value of one JSON document in UTF-8; ValueError if it is none.
loads: Callable[[bytes], Any] = _fast or loads_plain


def exact(data: bytes) -> Any:
    """A document that `loads` has accepted, with every digit of its integers."""
    return _exact.decode(data.decode("utf-8"))


def dumps(value: Any) -> bytes:
    """A value as compact JSON in UTF-8.

    Raises
    ------
    UnicodeEncodeError
        If a string holds a lone surrogate.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    """True if the value is nested deeper than `limit` levels."""
    layer = [value]
    for _ in range(limit):
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, dict | list))
        if not below:
            return False
        layer = below
    return True


def joined(document: bytes) -> bytes:
    """An object's text without its end: for a member more."""
    begun = document.rstrip()[:-1].rstrip()
    return begun if begun == b"{" else begun + b","


def objects(line: bytes) -> list[tuple[int, bytes]] | None:
    """JSON objects written one after the other without a newline, each with
    its offset.

    pilot3's event service copies records so (esprocessfinegrainedproc.py).
    None if the line is anything else than two or more whole objects.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    found: list[tuple[int, bytes]] = []
    at = _space_end(text, 0)
    offset = at  # in bytes; `at` counts characters
    while at < len(text):
        try:
            value, end = _decoder.raw_decode(text, at)
            raw = text[at:end].encode()
            _without_surrogates(value, text[at:end])
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        found.append((offset, raw))
        at = _space_end(text, end)
        offset += len(raw) + at - end
    return found if len(found) > 1 else None


def _space_end(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
