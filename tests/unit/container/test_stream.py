"""Docker's frames, in whatever pieces they come."""

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from container.stream import Demultiplexer


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: memoryview) -> None:
        self.data += bytes(data)


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


def fed(pieces: list[bytes]) -> tuple[Demultiplexer, bytes, bytes]:
    out, err = Sink(), Sink()
    frames = Demultiplexer(out, err)
    for piece in pieces:
        frames.feed(piece)
    return frames, out.data, err.data


@given(
    contents=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_any_cut_gives_the_same(contents: list[tuple[int, bytes]], cuts: list[int]) -> None:
    whole = b"".join(frame(stream, content) for stream, content in contents)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    frames, out, err = fed([whole[a:b] for a, b in pairwise(places)])
    assert out == b"".join(content for stream, content in contents if stream == 1)
    assert err == b"".join(content for stream, content in contents if stream == 2)
    assert frames.complete


def test_other_streams_are_skipped() -> None:
    assert fed([frame(0, b"stdin") + frame(1, b"out") + frame(3, b"x" * 100)])[1:] == (b"out", b"")


def test_what_was_cut_off_is_known() -> None:
    assert not fed([frame(1, b"abc")[:-1]])[0].complete
    assert not fed([b"\1\0\0"])[0].complete
    assert fed([])[0].complete
