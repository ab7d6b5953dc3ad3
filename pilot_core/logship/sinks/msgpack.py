"""PURE. MessagePack, as much of it as the Fluent forward protocol needs.

Written out because the field's images have no `msgpack`, and a hundred bytes
of framing around payloads are no reason to ask for it.
"""

import struct
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

__all__ = ["event_time", "pack", "unpack"]

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


def pack(value: Any) -> bytes:
    """A value of JSON's kinds, or `bytes` that stand for themselves packed
    already.

    Raises
    ------
    TypeError
        For a value of another kind.
    """
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        raw = value.encode()
        return _head(len(raw), (0xA0, 32), (0xD9, 0xDA, 0xDB)) + raw
    if isinstance(value, Mapping):
        body = b"".join([pack(part) for pair in value.items() for part in pair])
        return _head(len(value), (0x80, 16), (None, 0xDE, 0xDF)) + body
    if isinstance(value, Sequence):
        return _head(len(value), (0x90, 16), (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes((value,))
    if -(2**63) <= value < 2**63:
        return struct.pack(">Bq", 0xD3, value)
    if 0 <= value < 2**64:
        return struct.pack(">BQ", 0xCF, value)
    return pack(float(value))


def _head(count: int, small: tuple[int, int], codes: tuple[int | None, int, int]) -> bytes:
    if count < small[1]:
        return bytes((small[0] | count,))
    for code, letter, below in zip(codes, "BHI", (1 << 8, 1 << 16, 1 << 32), strict=True):
        if code is not None and count < below:
            return struct.pack(f">B{letter}", code, count)
    raise TypeError(f"{count} is beyond MessagePack")


def event_time(timestamp: str) -> bytes:
    """An RFC 3339 time as Fluentd's EventTime (extension type 0), packed."""
    microseconds = (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    return struct.pack(">BBII", 0xD7, 0, seconds, rest * 1000)


# First byte: struct format of what follows, and what that is.
_FIXED = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_FIXED |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_CONSTANTS: Mapping[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}
_SIZED = {
    0xC4: (">B", "bin"), 0xC5: (">H", "bin"), 0xC6: (">I", "bin"),
    0xD9: (">B", "str"), 0xDA: (">H", "str"), 0xDB: (">I", "str"),
    0xDC: (">H", "list"), 0xDD: (">I", "list"), 0xDE: (">H", "dict"), 0xDF: (">I", "dict"),
}  # fmt: skip


def unpack(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The value at a position, and the position behind it; extensions come as
    bytes.

    Raises
    ------
    IndexError, struct.error
        If the value is not there to its end.
    ValueError
        If it is no MessagePack.
    """
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0:
        return (first if first < 0x80 else first - 256), at
    if first in _CONSTANTS:
        return _CONSTANTS[first], at
    if first in _FIXED:
        form = _FIXED[first]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if first == 0xD7:
        return _slice(data, at, 9)
    if first in _SIZED:
        form, kind = _SIZED[first]
        count = struct.unpack_from(form, data, at)[0]
        return _sized(kind, count, data, at + struct.calcsize(form))
    if first < 0xC0:
        kind, mask = ("str", 31) if first >= 0xA0 else ("list", 15) if first >= 0x90 else ("dict", 15)
        return _sized(kind, first & mask, data, at)
    raise ValueError(f"byte {first:#x} is not expected here")


def _slice(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    if at + count > len(data):
        raise IndexError("the value is cut off")
    return data[at : at + count], at + count


def _sized(kind: str, count: int, data: bytes, at: int) -> tuple[Any, int]:
    if kind in ("str", "bin"):
        raw, at = _slice(data, at, count)
        return (raw.decode() if kind == "str" else raw), at
    parts = []
    for _ in range(count * (2 if kind == "dict" else 1)):
        part, at = unpack(data, at)
        parts.append(part)
    return (parts if kind == "list" else dict(zip(parts[::2], parts[1::2], strict=True))), at
