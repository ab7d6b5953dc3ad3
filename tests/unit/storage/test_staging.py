"""Stage-in and stage-out of a job's files."""

import hashlib
import zlib
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import Stored
from pilot_core.storage.inputs import get_inputs
from pilot_core.storage.outputs import OutputUpload, put_outputs
from pilot_core.storage.parallel import Outcomes
from tests.fakes.storage import PREFIX, FakeTool

CLOCK = SystemClock()


def put(tool: FakeTool, work: Path, *names: str, max_bytes: int = 0) -> OutputUpload:
    files = [OutputFile(name, guid="g") for name in names]
    return put_outputs(
        files,
        work,
        tool=tool,
        prefixes=dict.fromkeys(files, PREFIX),
        endpoint="RSE",
        budget=Budget(CLOCK, 20, "stage-out"),
        clock=CLOCK,
        max_bytes=max_bytes,
    )


def get(
    tool: FakeTool, work: Path, *files: InputFile, keep_free_bytes: int = 0
) -> Outcomes[InputFile, Stored]:
    return get_inputs(
        files,
        work,
        tool=tool,
        urls={file: f"{PREFIX}{file.lfn}" for file in files},
        budget=Budget(CLOCK, 20, "stage-in"),
        clock=CLOCK,
        keep_free_bytes=keep_free_bytes,
    )


def test_200_outputs_are_stored_and_reported(tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(200)]
    for name in names:
        (tmp_path / name).write_text(name)
    tool = FakeTool()
    result = put(tool, tmp_path, *names)
    assert result.failed == {}
    assert [report.lfn for report in result.reports] == names
    assert result.reports[7] == FileReport(
        "f7", "g", 2, f"{zlib.adler32(b'f7'):08x}", surl=f"{PREFIX}f7", endpoint="RSE"
    )
    assert len(tool.objects) == 200


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gone", ErrorCode.MISSINGOUTPUTFILE),
        ("empty", ErrorCode.ZEROFILESIZE),
        ("large", ErrorCode.OUTPUTFILETOOLARGE),
        ("link", ErrorCode.FILEHANDLINGFAILURE),
        ("../up", ErrorCode.BADOUTPUTFILENAME),
    ],
)
def test_one_bad_output_and_nothing_is_stored(tmp_path: Path, name: str, code: ErrorCode) -> None:
    (tmp_path / "good").write_text("x")
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "link").symlink_to("/etc/passwd")
    tool = FakeTool()
    result = put(tool, tmp_path, "good", name, max_bytes=100)
    assert result.reports == ()
    assert [error.code for error in result.failed.values()] == [code]
    assert tool.objects == {}


def test_what_could_not_be_stored_is_not_reported(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    tool = FakeTool()
    tool.fail[f"{PREFIX}a"] = StorageError("told to", ErrorCode.NOREMOTESPACE)
    result = put(tool, tmp_path, "a", "b")
    assert [report.lfn for report in result.reports] == ["b"]
    assert [error.code for error in result.failed.values()] == [ErrorCode.NOREMOTESPACE]


DATA = b"0123456789"
AD = f"{zlib.adler32(DATA):08x}"
MD = hashlib.md5(DATA).hexdigest()


@pytest.mark.parametrize(
    "checksum", ["", AD, f"ad:{AD.upper()}", f"adler32:{AD.lstrip('0')}", MD, f"md5:{MD}"]
)
def test_an_input_is_fetched(tmp_path: Path, checksum: str) -> None:
    tool = FakeTool()
    tool.objects[f"{PREFIX}in"] = DATA
    result = get(tool, tmp_path, InputFile("in", size=10, checksum=checksum))
    assert result.failed == {}
    assert (tmp_path / "in").read_bytes() == DATA


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (InputFile("in", size=11), ErrorCode.STAGEINFAILED),
        (InputFile("in", checksum="ad:00000001"), ErrorCode.GETADMISMATCH),
        (InputFile("in", checksum=f"md5:{'0' * 32}"), ErrorCode.GETMD5MISMATCH),
        (InputFile("in", checksum="sha9:00"), ErrorCode.UNKNOWNCHECKSUMTYPE),
        (InputFile("gone"), ErrorCode.MISSINGINPUTFILE),
    ],
)
def test_a_wrong_input_is_not_left_behind(tmp_path: Path, file: InputFile, code: ErrorCode) -> None:
    tool = FakeTool()
    tool.objects[f"{PREFIX}in"] = DATA
    result = get(tool, tmp_path, file)
    assert [error.code for error in result.failed.values()] == [code]
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_do_not_fit_are_not_begun(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        get(FakeTool(), tmp_path, InputFile("in"), keep_free_bytes=10**18)
    assert caught.value.code is ErrorCode.NOLOCALSPACE


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", ""])
def test_an_input_never_leaves_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError) as caught:
        get(FakeTool(), tmp_path, InputFile(name))
    assert caught.value.code is ErrorCode.BADOUTPUTFILENAME
