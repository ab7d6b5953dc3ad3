"""The folder as storage, and the files on their way."""

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.checksum import Checksums, adler32, matches
from pilot_core.storage.local import LocalTool
from pilot_core.storage.source import FileSource, SourceChanged

CLOCK = SystemClock()
TOOL = LocalTool(clock=CLOCK, name="mv")


def budget(seconds: float = 10.0) -> Budget:
    return Budget(CLOCK, seconds, "copy")


@given(st.lists(st.binary(max_size=50)))
def test_running_sums_equal_the_whole(pieces: list[bytes]) -> None:
    sums = Checksums(crc32c=True)
    for piece in pieces:
        sums.update(piece)
    whole = b"".join(pieces)
    assert sums.adler32 == f"{zlib.adler32(whole):08x}"
    assert len(sums.adler32) == 8
    assert sums.size == len(whole)
    once = Checksums(crc32c=True)
    once.update(whole)
    assert once.crc32c == sums.crc32c != ""


def test_known_sums(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    assert adler32(path) == "00000001"
    sums = Checksums(crc32c=True)
    sums.update(b"123456789")
    assert sums.crc32c == "4waSgw=="  # 0xe3069283, the check value of CRC-32C


def test_spellings_of_one_sum() -> None:
    assert matches("ad:0A1B2C3D", "a1b2c3d")
    assert not matches("ad:0a1b2c3d", "0a1b2c3e")


def test_a_resumed_read_is_summed_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(os.urandom(1000))
    with FileSource(path, budget=budget()) as src:
        src.read(600)
        src.seek(300)
        src.read(100)
        src.seek(500)
        src.read()
        assert src.sums.adler32 == adler32(path)
        assert src.tell() == 1000


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1000)
    with FileSource(path, budget=budget()) as src:
        os.truncate(path, 10)
        with pytest.raises(SourceChanged, match="shorter"):
            src.read()


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_only_regular_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(StorageError) as caught:
        FileSource(path, budget=budget())
    assert caught.value.code is ErrorCode.FILEHANDLINGFAILURE


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    stored = TOOL.put(tmp_path / "a", f"{tmp_path}/d/e/a", budget=budget())
    assert stored.public_url == f"file://{tmp_path}/d/e/a"
    assert [path.name for path in (tmp_path / "d/e").iterdir()] == ["a"]
    assert (tmp_path / "a").exists()


def test_a_failed_copy_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("old")
    time = budget(5.0)

    def cut(done: int, total: int) -> None:
        time.shorten(0.0)

    with pytest.raises(StorageError) as caught:
        TOOL.put(tmp_path / "a", f"{tmp_path}/d/a", budget=time, progress=cut)
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]
    assert (tmp_path / "d" / "a").read_text() == "old"


def test_a_target_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(StorageError, match=f"copy of a to {tmp_path}/a/b") as caught:
        TOOL.put(tmp_path / "a", f"{tmp_path}/a/b", budget=budget())
    assert caught.value.code is ErrorCode.STAGEOUTFAILED


@pytest.mark.parametrize(
    "url", ["relative/x", "gs://b/x", "file://host/x", "/a/../b", "file:///a/../b", "file:relative"]
)
def test_other_places_are_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(StorageError) as caught:
        TOOL.put(tmp_path / "a", url, budget=budget())
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL


@pytest.mark.parametrize("start", ["", "file:", "file://", "file://localhost", "file:///"])
def test_a_place_in_each_spelling(tmp_path: Path, start: str) -> None:
    (tmp_path / "a").write_text("content")
    TOOL.put(tmp_path / "a", f"{start}{tmp_path}/d/a?b%20", budget=budget())
    assert (tmp_path / "d" / "a?b%20").read_text() == "content"
