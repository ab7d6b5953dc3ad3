"""MessagePack: what is packed comes out again, and the bytes are the format's."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.logship.sinks.msgpack import event_time, pack, unpack

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)


@given(VALUES)
def test_there_and_back(value: Any) -> None:
    packed = pack(value)
    assert unpack(packed) == (value, len(packed))


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_sizes(size: int) -> None:
    for value in ("x" * size, [1] * size, dict.fromkeys(map(str, range(size)), None)):
        packed = pack(value)
        assert unpack(packed) == (value, len(packed))
        for cut in {0, 1, len(packed) // 2, len(packed) - 1}:
            if cut < len(packed):
                with pytest.raises((IndexError, struct.error)):
                    unpack(packed[:cut])


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        (None, "c0"), (True, "c3"), (7, "07"), (-1, "d3ffffffffffffffff"), ("a", "a161"), ([], "90"),
        ({"a": 1.5}, "81a161cb3ff8000000000000"), (2**64 - 1, "cfffffffffffffffff"),
    ],
)  # fmt: skip
def test_the_bytes_of_the_specification(value: Any, packed: str) -> None:
    assert pack(value).hex() == packed


def test_times() -> None:
    assert event_time("1970-01-01T00:00:01.500000Z").hex() == "d700000000011dcd6500"


def test_what_cannot_be_packed() -> None:
    with pytest.raises(TypeError):
        pack(object())
    assert unpack(pack(2**70))[0] == float(2**70)
