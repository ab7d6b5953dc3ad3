"""A job's files and a storage that hangs or fails."""

import tarfile
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.config import MonitorConfig, StorageConfig
from pilot_core.errors import StorageError
from pilot_core.jobfiles import JobFiles
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job, OutputFile
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Protocol, Queue, Storage
from pilot_core.model.report import FileReport
from pilot_core.storage.destination import Destination
from tests.fakes.storage import PREFIX, FakeTool

CLOCK = SystemClock()
JOB = Job(1, 1, "x", "", log=OutputFile("log.tgz"))
PLACE = Destination(PREFIX, "LOGS", "fake", "pl", tarball=True)
TARGET = PREFIX + "log.tgz"


@pytest.fixture
def tool(tmp_path: Path) -> FakeTool:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "pilotlog.txt").write_text("hello")
    return FakeTool()


def bundle(tool: FakeTool, home: Path, *, seconds: float = 60.0) -> FileReport | None:
    files = JobFiles(
        lambda name, budget: pytest.fail(f"nobody needs {name}"),
        tools={"fake": lambda _config, _clock: tool},
        config=StorageConfig(),
        monitor=MonitorConfig(),
        clock=CLOCK,
        redactor=Redactor(),
    )
    paths = JobPaths(home, home / "work", home / "shared")
    return files.bundle(JOB, Queue("Q", "Q"), paths, PLACE, Budget(CLOCK, seconds, "pack"))


def test_the_bundle_is_stored_and_reported(tool: FakeTool, tmp_path: Path) -> None:
    found = bundle(tool, tmp_path)
    assert found is not None
    assert (found.lfn, found.endpoint, found.size) == ("log.tgz", "LOGS", len(tool.objects[TARGET]))
    assert tool.types == {TARGET: "application/gzip"}
    (tmp_path / "back").write_bytes(tool.objects[TARGET])
    with tarfile.open(tmp_path / "back") as packed:
        assert "tarball_PandaJob_1_Q/pilotlog.txt" in packed.getnames()
    assert not list(tmp_path.glob("*.log.tgz"))


def test_a_storage_that_hangs_takes_no_more_than_the_budget(tool: FakeTool, tmp_path: Path) -> None:
    tool.hold = {TARGET}
    began = CLOCK.monotonic()
    try:
        with pytest.raises(StorageError, match=r"log\.tgz: pack: given up") as caught:
            bundle(tool, tmp_path, seconds=2.0)
        # The tool would hang for 30 s.
        assert CLOCK.monotonic() - began < 20.0
    finally:
        tool.release.set()
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    assert not list(tmp_path.glob("*.log.tgz"))


def test_a_storage_that_fails_is_the_reason(tool: FakeTool, tmp_path: Path) -> None:
    tool.fail = {TARGET: StorageError("no room", ErrorCode.NOREMOTESPACE)}
    with pytest.raises(StorageError, match=r"^no room$") as caught:
        bundle(tool, tmp_path)
    assert caught.value.code is ErrorCode.NOREMOTESPACE


@pytest.mark.parametrize(("output_mb", "code"), [(1, ErrorCode.OUTPUTFILETOOLARGE), (2, None), (0, None)])
def test_an_output_has_a_largest_size(
    tool: FakeTool, tmp_path: Path, output_mb: int, code: ErrorCode | None
) -> None:
    storage = Storage("OUT", protocols={"write_lan": (Protocol("fake://storage", "/", "FAKE"),)})
    files = JobFiles(
        lambda name, budget: storage,
        tools={"fake": lambda _config, _clock: tool},
        config=StorageConfig(output_mb=output_mb),
        monitor=MonitorConfig(),
        clock=CLOCK,
        redactor=Redactor(),
    )
    queue = Queue("Q", "Q", storages={"write_lan": ("OUT",)}, copytools={"write_lan": ("fake",)})
    paths = JobPaths(tmp_path, tmp_path / "work", tmp_path / "shared")
    (paths.work / "out.fits").write_bytes(b"x" * (1024**2 + 1))
    job = Job(1, 1, "x", "", outputs=(OutputFile("out.fits", dataset="d", scope="s"),))
    reports, failed = files.stage_out(job, queue, paths, Budget(CLOCK, 60.0, "stage-out"))
    assert (failed.code if failed else None) == code
    assert len(reports) == len(tool.objects) == (code is None)
