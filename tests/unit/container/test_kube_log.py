"""A kubelet's log over broken connections: each line once, whatever the cuts."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.kube_log import LogLines

#: Two lines often share a stamp, and some stand the wrong way round.
NOW = 1_790_000_000


class Written:
    """What a payload's file holds."""

    def __init__(self) -> None:
        self.data = b""
        self.lines = LogLines(self.write)

    def write(self, data: memoryview) -> None:
        self.data += bytes(data)


def stamp(ticks: int) -> bytes:
    """A tenth of a second each."""
    return b"2026-09-21T14:%02d:%02d.%d00000000Z" % (ticks // 600 % 60, ticks // 10 % 60, ticks % 10)


contents = st.binary(max_size=60).map(lambda data: data.replace(b"\n", b""))
logs = st.lists(st.tuples(st.integers(0, 3), contents), min_size=1, max_size=30)


def sent(entries: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Entries as lines of the kubelet: (second, line)."""
    ticks, lines = 0, []
    for step, content in entries:
        ticks += step
        lines.append((ticks // 10, stamp(ticks) + b" " + content + b"\n"))
    return lines


@given(logs, st.lists(st.tuples(st.integers(1, 400), st.integers(1, 50)), max_size=8), st.integers(0, 2))
def test_each_line_once_whatever_breaks(
    entries: list[tuple[int, bytes]], breaks: list[tuple[int, int]], overlap: int
) -> None:
    """Each connection sends from some seconds before the place, in pieces, and
    breaks after so many bytes; the last one sends the rest.
    """
    found = Written()
    lines = sent(entries)
    reached = 0
    for size, piece in [*breaks, (1 << 30, 1 << 20)]:
        start = max(0, reached - overlap)
        first = next(i for i, (second, _) in enumerate(lines) if second >= min(start, lines[-1][0]))
        log = b"".join(line for _, line in lines[first:])[:size]
        found.lines.begin()
        for at in range(0, len(log), piece):
            found.lines.feed(log[at : at + piece])
        begun, whole = 0, 0
        for second, line in lines[first:]:
            if begun + len(line.split(b" ", 1)[0]) < len(log):
                whole = second
            begun += len(line)
        reached = max(reached, whole)
    assert found.data == b"".join(content + b"\n" for _, content in entries)


def test_since_asks_a_little_further_back() -> None:
    found = Written()
    assert found.lines.since_s(0.0) is None
    found.lines.begin()
    found.lines.feed(b"2026-09-21T14:13:20.500000001Z a\n")
    assert found.lines.since_s(1_790_000_000.0) == 10
    assert found.lines.since_s(1_790_000_100.0) == 110
    # A clock that is behind the node's.
    assert found.lines.since_s(1_789_999_000.0) == 1


def test_other_zones_and_shorter_fractions() -> None:
    found = Written()
    found.lines.begin()
    found.lines.feed(b"2026-09-21T16:13:20.5+02:00 a\n2026-09-21T14:13:21Z b c\n")
    assert found.data == b"a\nb c\n"
    found.lines.begin()
    found.lines.feed(b"2026-09-21T16:13:20.5+02:00 a\n2026-09-21T14:13:21Z b c\n2026-09-21T14:13:21Z b c\n")
    assert found.data == b"a\nb c\nb c\n"


def test_lines_that_were_rotated_away_are_told(caplog: pytest.LogCaptureFixture) -> None:
    found = Written()
    found.lines.begin()
    found.lines.feed(stamp(0) + b" first\n" + stamp(1) + b" cut o")
    found.lines.begin()
    with caplog.at_level(logging.WARNING):
        found.lines.feed(stamp(50) + b" late\n")
    assert found.data == b"first\ncut o\nlate\n"
    assert "may be lost" in caplog.text


def test_the_kubelet_s_own_words_are_not_the_payload_s(caplog: pytest.LogCaptureFixture) -> None:
    found = Written()
    found.lines.begin()
    with caplog.at_level(logging.WARNING):
        found.lines.feed(b"unable to retrieve container logs for containerd://abc\n" + stamp(0) + b" out\n")
    assert found.data == b"out\n"
    assert "unable" in caplog.text


def test_lines_of_two_streams_in_disorder_are_not_doubled() -> None:
    found = Written()
    log = stamp(3) + b" b\n" + stamp(2) + b" a\n"
    found.lines.begin()
    found.lines.feed(log)
    found.lines.begin()
    found.lines.feed(log + stamp(4) + b" c\n")
    assert found.data == b"b\na\nc\n"
