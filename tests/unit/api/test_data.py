"""The Data API, and the example in its documentation."""

import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from pilot_core.api.data import DataClient, FileIn, FileOut
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from tests.fakes.storage import FakeTool

ROOT = Path(__file__).resolve().parents[3]
FIRST = "fake://storage/first/"
SECOND = "fake://storage/second/"


@pytest.fixture
def tool() -> FakeTool:
    return FakeTool()


def client(tool: FakeTool) -> DataClient:
    return DataClient(tools={"fake": tool})


def test_files_go_out_and_come_back(tool: FakeTool, tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(20)]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "back").mkdir()
    seen: list[str] = []
    with client(tool) as data:
        out = data.stage_out([FileOut(name, (FIRST,)) for name in names], tmp_path, timeout_s=20)
        assert out.ok
        assert list(out.done) == names
        files = [FileIn(n, (s.url,), s.size, f"ad:{s.adler32}") for n, s in out.done.items()]
        back = data.stage_in(
            files, tmp_path / "back", timeout_s=20, progress=lambda name, done, total: seen.append(name)
        )
    assert back.ok
    assert {name: (tmp_path / "back" / name).read_text() for name in names} == {n: n for n in names}
    assert sorted(seen) == sorted(names)


def test_the_second_place_is_asked_for_what_the_first_one_has_not(tool: FakeTool, tmp_path: Path) -> None:
    tool.objects = {f"{FIRST}a": b"a", f"{FIRST}b": b"wrong", f"{SECOND}b": b"right"}
    checksum = f"ad:{zlib.adler32(b'right'):08x}"
    files = [
        FileIn("a", (f"{FIRST}a", f"{SECOND}a")),
        FileIn("b", (f"{FIRST}b", f"{SECOND}b"), checksum=checksum),
        FileIn("c", (f"{FIRST}c",)),
    ]
    with client(tool) as data:
        result = data.stage_in(files, tmp_path, timeout_s=20)
    assert {name: stored.url for name, stored in result.done.items()} == {"a": f"{FIRST}a", "b": f"{SECOND}b"}
    assert {name: error.code for name, error in result.failed.items()} == {"c": ErrorCode.MISSINGINPUTFILE}
    assert (tmp_path / "b").read_bytes() == b"right"


def test_a_full_storage_sends_an_output_to_the_next(tool: FakeTool, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    tool.fail[f"{FIRST}b"] = StorageError("full", ErrorCode.NOREMOTESPACE)
    with client(tool) as data:
        result = data.stage_out([FileOut(n, (FIRST, SECOND)) for n in ("a", "b")], tmp_path, timeout_s=20)
    assert {name: stored.url for name, stored in result.done.items()} == {"a": f"{FIRST}a", "b": f"{SECOND}b"}
    assert result.done["b"].public_url == "https://fake.invalid/storage/second/b"


def test_a_missing_output_keeps_the_others(tool: FakeTool, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with client(tool) as data:
        result = data.stage_out([FileOut("a", (FIRST,)), FileOut("gone", (FIRST,))], tmp_path, timeout_s=20)
    assert result.done == {}
    assert result.failed["gone"].code is ErrorCode.MISSINGOUTPUTFILE
    assert result.failed["a"].diag == "not sent because of gone"
    assert tool.objects == {}


def test_a_name_twice_and_a_name_that_climbs(tool: FakeTool, tmp_path: Path) -> None:
    with client(tool) as data:
        with pytest.raises(StorageError, match="more than one file is called a"):
            data.stage_in([FileIn("a", (f"{FIRST}1",)), FileIn("a", (f"{FIRST}2",))], tmp_path, timeout_s=9)
        with pytest.raises(StorageError) as caught:
            data.stage_in([FileIn("../a", (f"{FIRST}1",))], tmp_path, timeout_s=9)
    assert caught.value.code is ErrorCode.BADOUTPUTFILENAME


def test_a_scheme_that_nobody_knows(tool: FakeTool, tmp_path: Path) -> None:
    with client(tool) as data:
        result = data.stage_in([FileIn("a", ("gopher://a/b",))], tmp_path, timeout_s=9)
    assert result.failed["a"].code is ErrorCode.NOSTORAGEPROTOCOL


def test_a_background_transfer_has_a_handle(tool: FakeTool, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    begun = threading.Event()
    tool.hold = {f"{FIRST}a"}
    tool.on_put = lambda url: begun.set()
    with client(tool) as data:
        handle = data.start_stage_out([FileOut("a", (FIRST,))], tmp_path, timeout_s=20)
        assert begun.wait(5)
        assert not handle.done
        with pytest.raises(TimeoutError, match="still running"):
            handle.result(timeout_s=0.01)
        tool.release.set()
        assert handle.result(timeout_s=5).ok
        assert handle.done


def test_a_cancelled_transfer_says_what_it_did_not_do(tool: FakeTool, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    begun = threading.Event()
    tool.hold = {f"{FIRST}a"}
    tool.on_put = lambda url: begun.set()
    with client(tool) as data:
        handle = data.start_stage_out([FileOut("a", (FIRST,))], tmp_path, timeout_s=20)
        assert begun.wait(5)
        handle.cancel()
        result = handle.result(timeout_s=5)
        tool.release.set()
    assert {name: error.code for name, error in result.failed.items()} == {"a": ErrorCode.STAGEOUTTIMEOUT}


def test_what_a_background_transfer_raises_comes_with_its_result(tool: FakeTool, tmp_path: Path) -> None:
    with client(tool) as data:
        handle = data.start_stage_in([FileIn("a/b", (f"{FIRST}1",))], tmp_path, timeout_s=9)
        with pytest.raises(StorageError, match="slash"):
            handle.result(timeout_s=5)


def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "data_api.py")],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("every byte came back\n")
