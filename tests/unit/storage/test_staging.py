"""Stage-in and stage-out of a job's files."""

import hashlib
import io
import os
import zlib
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import Place, Stored
from pilot_core.storage.inputs import get_inputs
from pilot_core.storage.outputs import OutputUpload, put_outputs
from pilot_core.storage.parallel import Outcomes
from pilot_core.storage.progress import Telling
from tests.fakes.clock import FakeClock
from tests.fakes.storage import PREFIX, FakeTool

CLOCK = SystemClock()


def put(tool: FakeTool, work: Path, *names: str, max_bytes: int = 0) -> OutputUpload:
    files = [OutputFile(name, guid="g") for name in names]
    return put_outputs(
        files,
        work,
        places=[{file: Place(tool, f"{PREFIX}{file.lfn}", "RSE") for file in files}],
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
        places=[{file: Place(tool, f"{PREFIX}{file.lfn}") for file in files}],
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
        ("device", ErrorCode.FILEHANDLINGFAILURE),
        ("loop", ErrorCode.FILEHANDLINGFAILURE),
        ("dangling", ErrorCode.MISSINGOUTPUTFILE),
        ("fifo", ErrorCode.FILEHANDLINGFAILURE),
        ("folder", ErrorCode.FILEHANDLINGFAILURE),
        ("../up", ErrorCode.BADOUTPUTFILENAME),
        ("/dev/null", ErrorCode.BADOUTPUTFILENAME),
        ("n" * 256, ErrorCode.BADOUTPUTFILENAME),
    ],
    ids=lambda value: str(value)[:20],
)
def test_one_bad_output_and_nothing_is_stored(tmp_path: Path, name: str, code: ErrorCode) -> None:
    (tmp_path / "good").write_text("x")
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * 101)
    for link, target in (
        ("link", "/etc/passwd"),
        ("device", "/dev/null"),
        ("loop", "loop"),
        ("dangling", "no"),
    ):
        (tmp_path / link).symlink_to(target)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
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


def test_another_storage_takes_what_the_first_one_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    first, second = FakeTool(), FakeTool()
    first.fail[f"{PREFIX}b"] = StorageError("full", ErrorCode.NOREMOTESPACE)
    files = [OutputFile("a", guid="g"), OutputFile("b", guid="g")]
    result = put_outputs(
        files,
        tmp_path,
        places=[
            {file: Place(first, f"{PREFIX}{file.lfn}", "RSE") for file in files},
            {file: Place(second, f"{PREFIX}other/{file.lfn}", "OTHER_RSE") for file in files},
        ],
        budget=Budget(CLOCK, 20, "stage-out"),
        clock=CLOCK,
    )
    assert result.failed == {}
    where = {report.lfn: (report.surl, report.endpoint) for report in result.reports}
    assert where == {"a": (f"{PREFIX}a", "RSE"), "b": (f"{PREFIX}other/b", "OTHER_RSE")}
    assert list(second.objects) == [f"{PREFIX}other/b"]


def test_a_storage_that_hangs_leaves_time_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    first, second = FakeTool(), FakeTool()
    first.hold = {f"{PREFIX}a"}
    files = [OutputFile("a", guid="g")]
    result = put_outputs(
        files,
        tmp_path,
        places=[
            {files[0]: Place(first, f"{PREFIX}a", "RSE")},
            {files[0]: Place(second, f"{PREFIX}a", "OTHER_RSE")},
        ],
        budget=Budget(CLOCK, 1.0, "stage-out"),
        clock=CLOCK,
    )
    first.release.set()
    assert [report.endpoint for report in result.reports] == ["OTHER_RSE"]


def test_progress_is_a_line_now_and_then() -> None:
    clock = FakeClock()
    tell = Telling(None, "stage-in", files=3, total=40_000_000, clock=clock)
    tell("a", 1_000_000, 20_000_000)
    clock.now += 5.0
    tell("b", 9_000_000, 20_000_000)
    assert (
        tell.line(clock.monotonic()) == "stage-in: 10.0 of 40.0 MB, 2 of 3 files begun, 2.0 MB/s, 15 s left"
    )


def test_progress_of_an_unknown_size() -> None:
    clock = FakeClock()
    tell = Telling(None, "stage-in", files=1, total=0, clock=clock)
    clock.now += 2.0
    tell("a", 3_000_000, 0)
    assert tell.line(clock.monotonic()) == "stage-in: 3.0 MB, 1 of 1 files begun, 1.5 MB/s"


def test_progress_is_logged_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = FakeClock()
    tell = Telling(None, "stage-out", files=1, total=100, clock=clock)
    for done in range(1, 31):
        clock.now += 1.0
        tell("a", done, 100)
    assert [line.split(",")[0] for line in caplog.messages] == ["stage-out: 0.0 of 0.0 MB"] * 3


def test_the_last_line_sums_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = FakeClock()
    tell = Telling(None, "stage-in", files=3, total=0, clock=clock)
    clock.now += 2.0
    tell("a", 3_000_000, 0)
    tell.over(1)
    assert caplog.messages == ["stage-in: 1 of 3 files, 3.0 MB in 2.0 s, 1.5 MB/s"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(caplog: pytest.LogCaptureFixture) -> None:
    clock, terminal = FakeClock(), Terminal()
    tell = Telling(None, "stage-in", files=1, total=100_000_000, clock=clock, terminal=terminal)
    for done in range(0, 100_000_000, 1_000_000):
        clock.now += 0.015625
        tell("a", done, 100_000_000)
    tell.over(1)
    drawn = terminal.getvalue().split("\r\x1b[2K")
    # Nothing stays: the log's last line says it.
    assert (drawn[0], drawn[-1]) == ("", "")
    assert drawn[2] == (
        "[######..................]  25% stage-in: 25.0 of 100.0 MB, 1 of 1 files begun, 61.5 MB/s, 1 s left"
    )
    assert len(drawn) == 9


def test_who_asks_for_progress_gets_it_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock, terminal = FakeClock(), Terminal()
    seen: list[tuple[str, int, int]] = []
    tell = Telling(
        lambda *told: seen.append(told), "stage-in", files=1, total=9, clock=clock, terminal=terminal
    )
    clock.now += 60.0
    tell("a", 5, 9)
    assert (seen, terminal.getvalue(), caplog.messages) == ([("a", 5, 9)], "", [])


def test_the_jobs_secrets_are_no_output(tmp_path: Path) -> None:
    tool = FakeTool()
    (tmp_path / "panda_secrets.json").write_text("{}")
    (tmp_path / "out.json").symlink_to("panda_secrets.json")
    result = put(tool, tmp_path, "panda_secrets.json", "out.json")
    assert {err.code for err in result.failed.values()} == {ErrorCode.FILEHANDLINGFAILURE}
    assert (len(result.failed), tool.objects) == (2, {})


def test_data_is_stored_as_it_is(tmp_path: Path) -> None:
    """Whatever it holds: nothing masks an output."""
    tool = FakeTool()
    (tmp_path / "user.key").write_bytes(b"S3CRET-of-the-job -----BEGIN PRIVATE KEY-----")
    assert put(tool, tmp_path, "user.key").failed == {}
    assert tool.objects[f"{PREFIX}user.key"] == (tmp_path / "user.key").read_bytes()
