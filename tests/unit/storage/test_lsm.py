"""The copytool lsm: what a site's programs are told, and what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.lsm import LsmTool
from tests.fakes.lsm import URL, lsm

CLOCK = SystemClock()
TOOL = LsmTool(clock=CLOCK, policy=RetryPolicy(attempts=1))


def budget(seconds: float = 20.0) -> Budget:
    return Budget(CLOCK, seconds, "transfer")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    with lsm(tmp_path) as store:
        yield store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "out.dat"
    path.write_bytes(b"content")
    return path


def test_the_programs_are_told_size_and_checksum(store: Path, source: Path, tmp_path: Path) -> None:
    TOOL.put(source, f"{URL}/d/out.dat", budget=budget())
    TOOL.get(f"{URL}/d/out.dat", tmp_path / "back", budget=budget())
    put, get = (store / "calls").read_text().splitlines()
    assert put == f"lsm-put --size 7 --checksum adler32:0bcb02fc {source} {URL}/d/out.dat"
    assert get.startswith(f"lsm-get {URL}/d/out.dat {tmp_path}/.back.")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("201 Copy command failed: cp: No space left on device", ErrorCode.NOREMOTESPACE),
        ("201 Copy command failed: Permission denied", ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
        ("201 Copy command failed: connection timed out", ErrorCode.STAGEOUTTIMEOUT),
        ("201 Copy command exited with status 54", ErrorCode.STAGEOUTFAILED),
        ("204 Size mismatch 1!=7", ErrorCode.PUTADMISMATCH),
        ("205 Checksum mismatch", ErrorCode.PUTADMISMATCH),
        ("211 File exists and is different", ErrorCode.FILEEXISTS),
    ],
)
def test_a_refusal_has_its_code(store: Path, source: Path, fault: str, code: ErrorCode) -> None:
    (store / "fault").write_text(fault)
    with pytest.raises(StorageError) as caught:
        TOOL.put(source, f"{URL}/d/out.dat", budget=budget())
    assert caught.value.code is code
    assert fault.partition(" ")[2] in caught.value.diag


def test_what_may_pass_is_tried_again(store: Path, source: Path) -> None:
    (store / "fault").write_text("201 Copy command exited with status 54")
    tool = LsmTool(clock=CLOCK, policy=RetryPolicy(attempts=2, first_s=0.01))
    assert tool.put(source, f"{URL}/d/out.dat", budget=budget()).size == 7


def test_another_checksum_than_ours_is_an_error(store: Path, source: Path) -> None:
    (store / "fault").write_text(f"0 {URL}/d/out.dat size 7 adler32 00000001")
    with pytest.raises(StorageError, match="7 bytes with adler32 00000001") as caught:
        TOOL.put(source, f"{URL}/d/out.dat", budget=budget())
    assert caught.value.code is ErrorCode.PUTADMISMATCH


def test_a_missing_program_is_named(source: Path) -> None:
    with pytest.raises(StorageError, match="copytool lsm needs the program lsm-put") as caught:
        TOOL.put(source, f"{URL}/d/out.dat", budget=budget())
    assert caught.value.code is ErrorCode.MIDDLEWAREIMPORTFAILURE


def test_a_storage_with_a_space_token_is_told_it(store: Path, source: Path, tmp_path: Path) -> None:
    tool = TOOL.at(setup="", token="ATLASDATADISK")
    tool.put(source, f"{URL}/d/out.dat", budget=budget())
    tool.get(f"{URL}/d/out.dat", tmp_path / "back", budget=budget())
    put, get = (store / "calls").read_text().splitlines()
    assert put.startswith("lsm-put -t ATLASDATADISK --size 7 ")
    assert get.startswith(f"lsm-get {URL}/d/out.dat ")


@pytest.mark.parametrize("quote", ["", "it's $(touch no) "])
def test_a_sites_script_brings_the_programs(source: Path, tmp_path: Path, quote: str) -> None:
    with lsm(tmp_path, on_path=False) as store:
        script = tmp_path / f"{quote}setup.sh"
        script.write_text(f'echo welcome to the site\nexport PATH="{tmp_path}/bin:$PATH"\n')
        tool = TOOL.at(setup=str(script), token="")
        assert tool.put(source, f"{URL}/d/out.dat", budget=budget()).size == 7
        tool.get(f"{URL}/d/out.dat", tmp_path / "back", budget=budget())
        assert (tmp_path / "back").read_bytes() == b"content"
        assert len((store / "calls").read_text().splitlines()) == 2


@pytest.mark.parametrize("text", ["export NOTHING=1\n", None])
def test_a_script_that_brings_nothing_is_named(source: Path, tmp_path: Path, text: str | None) -> None:
    script = tmp_path / "setup.sh"
    if text is not None:
        script.write_text(text)
    said = "needs the program lsm-put" if text is not None else f"setup script {script} is not here"
    with pytest.raises(StorageError, match=said) as caught:
        TOOL.at(setup=str(script), token="").put(source, f"{URL}/d/out.dat", budget=budget())
    assert caught.value.code is ErrorCode.MIDDLEWAREIMPORTFAILURE
