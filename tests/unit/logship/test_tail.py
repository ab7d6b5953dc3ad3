"""A file read by bytes."""

import os
from pathlib import Path

import pytest

from pilot_core.logship.contract import Chunk
from pilot_core.logship.disk import OsDisk
from pilot_core.logship.tail import Tail
from tests.fakes.clock import FakeClock


def tail(path: Path, line_bytes: int = 1000) -> Tail:
    return Tail(path, [], disk=OsDisk(), clock=FakeClock(), line_bytes=line_bytes, rotate_wait_s=60.0)


def lines_of(made: Tail, size: int = 100) -> list[bytes]:
    """Everything there is now."""
    made.look()
    found: list[bytes] = []
    for file in made.files:
        if file.grew(0.0):
            while (chunk := file.read(size)) is not None:
                found += chunk.lines
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000])
def test_lines_are_the_same_however_the_reads_fall(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    data = b"one\ntwo \r still two\n\n\xe2\x80\xa8three\x00\n" + b"x" * 300 + b"\nlast"
    path.write_bytes(data)
    made = tail(path)
    assert lines_of(made, size) == [x + b"\n" for x in data.split(b"\n")[:-1]]
    rest = made.files[0].rest()
    assert rest is not None
    assert (list(rest.lines), rest.offset) == ([b"last"], len(data) - 4)
    assert made.files[0].rest() is None
    made.close()


@pytest.mark.parametrize("size", [1, 7, 64, 999, 1000])
def test_an_overlong_line_comes_in_numbered_pieces(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    text = "é€😀".encode() * 400
    path.write_bytes(b"before\n" + text + b"\nafter\n")
    made = tail(path, line_bytes=1000)
    made.look()
    (file,) = made.files
    assert file.grew(0.0)
    pieces: list[Chunk] = []
    others: list[bytes] = []
    expected = 0
    while (chunk := file.read(size)) is not None:
        assert chunk.offset == expected
        expected += sum(map(len, chunk.lines))
        if chunk.part:
            pieces.append(chunk)
        else:
            others += chunk.lines
    assert others == [b"before\n", b"after\n"]
    assert b"".join(c.lines[0] for c in pieces) == text + b"\n"
    assert [c.part for c in pieces] == list(range(1, len(pieces) + 1))
    assert [len(c.lines[0]) for c in pieces] == [999, 999, 999, 604]
    for chunk in pieces:
        chunk.lines[0].decode()  # cut between characters
    made.close()


def test_nothing_is_read_where_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n")
    made = tail(path)
    assert lines_of(made) == [b"a\n"]
    assert not made.files[0].grew(0.0)
    made.close()


def test_the_same_size_with_another_content_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"aaa\n")
    made = tail(path)
    assert lines_of(made) == [b"aaa\n"]
    path.write_bytes(b"bbb\n")
    os.utime(path, ns=(1, 1))  # whatever the clock of the file system does
    lines_of(made)
    assert lines_of(made) == [b"bbb\n"]
    made.close()


def test_a_file_that_cannot_be_read_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n")
    made = tail(path)
    made.look()
    (file,) = made.files
    file.close()  # stands for a handle that the file system has lost
    assert not file.grew(0.0)
    assert not file.grew(0.0)
    assert caplog.text.count("cannot be read") == 1


def test_a_name_that_cannot_be_looked_at_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    path.symlink_to(path)
    made = tail(path)
    made.look()
    made.look()
    assert caplog.text.count("cannot be looked at") == 1
    path.unlink()
    path.write_bytes(b"a\n")
    assert lines_of(made) == [b"a\n"]
    made.close()
