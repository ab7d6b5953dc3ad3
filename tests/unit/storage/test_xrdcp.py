"""The copytool xrdcp, and the programs it runs, when things go wrong."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.programs import run_program
from pilot_core.storage.source import FileSource
from pilot_core.storage.xrdcp import XrdcpTool
from tests.fakes.serve import free_port
from tests.fakes.xrootd import xrootd

CLOCK = SystemClock()
FAST = RetryPolicy(attempts=2, first_s=0.01, cap_s=0.02)
TOOL = XrdcpTool(clock=CLOCK, policy=FAST)


def budget(seconds: float = 20.0) -> Budget:
    return Budget(CLOCK, seconds, "transfer")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "payload.stderr"
    path.write_bytes(os.urandom(1_500_001))
    return path


@pytest.fixture
def _no_programs() -> Iterator[None]:
    path = os.environ["PATH"]
    os.environ["PATH"] = "/nonexistent"
    yield
    os.environ["PATH"] = path


@pytest.mark.xrootd
def test_a_server_without_checksums_is_read_back(source: Path) -> None:
    with xrootd(checksums=False) as server:
        TOOL.put(source, f"{server.url}//a/b", budget=budget())
        assert [path.name for path in (server.data / "a").iterdir()] == ["b"]
        assert (server.data / "a" / "b").read_bytes() == source.read_bytes()
        TOOL.get(f"{server.url}//a/b", source.with_name("back"), budget=budget())
    assert source.with_name("back").read_bytes() == source.read_bytes()


@pytest.mark.xrootd
def test_a_folder_that_may_not_be_written_is_a_refusal(source: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as somebody else")
    with xrootd() as server:
        closed = server.data / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(StorageError, match=r"xrdcp ended with \d+: .*\[3010\]") as caught:
            TOOL.put(source, f"{server.url}//closed/b", budget=budget())
        assert list(closed.iterdir()) == []
    assert caught.value.code is ErrorCode.STAGEOUTAUTHENTICATIONFAILURE


@pytest.mark.xrootd
def test_nobody_listens(source: Path) -> None:
    started = CLOCK.monotonic()
    with pytest.raises(StorageError) as caught:
        TOOL.put(source, f"root://127.0.0.1:{free_port()}//a/b", budget=budget(4.0))
    assert caught.value.code in (ErrorCode.STAGEOUTFAILED, ErrorCode.STAGEOUTTIMEOUT)
    assert CLOCK.monotonic() - started < 6.0


@pytest.mark.usefixtures("_no_programs")
def test_a_missing_program_is_named(source: Path) -> None:
    with pytest.raises(StorageError, match="copytool xrdcp needs the program xrdcp") as caught:
        TOOL.put(source, "root://host//a/b", budget=budget())
    assert caught.value.code is ErrorCode.MIDDLEWAREIMPORTFAILURE


@pytest.mark.parametrize("url", ["root://host", "root://h//a/../b", "https://h/a", "root://u@h//a", "/a"])
def test_what_is_no_file_on_a_server(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        TOOL.public_url(url)
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL


def test_a_program_is_fed_and_read(source: Path) -> None:
    back = bytearray()
    with FileSource(source, budget=budget()) as src:
        done = run_program(["cat"], budget=budget(), feed=src, drain=back.extend)
    assert (done.code, done.said) == (0, "")
    assert back == source.read_bytes()


def test_a_program_that_ends_early_tells_why(source: Path) -> None:
    with FileSource(source, budget=budget()) as src:
        done = run_program(["sh", "-c", "echo no space >&2; exit 3"], budget=budget(), feed=src)
    assert (done.code, done.said) == (3, "no space")


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & wait", "trap '' TERM; sleep 60"])
def test_a_program_that_hangs_is_over_with_the_budget(source: Path, script: str) -> None:
    started = CLOCK.monotonic()
    with FileSource(source, budget=budget()) as src, pytest.raises(BudgetSpent):
        run_program(["sh", "-c", script], budget=budget(0.3), feed=src)
    assert CLOCK.monotonic() - started < 3.0


def test_a_program_that_is_not_installed() -> None:
    assert shutil.which("no-such-program") is None
    with pytest.raises(StorageError, match="the program no-such-program is not installed"):
        run_program(["no-such-program"], budget=budget())
