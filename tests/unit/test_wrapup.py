"""Steps after the payload: the failure of one stops no other."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.config import WrapupConfig
from pilot_core.errors import StorageError
from pilot_core.experiments.generic import GenericExperiment
from pilot_core.logship.contract import ShipCounts
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job, OutputFile
from pilot_core.model.payload import JobPaths
from pilot_core.model.report import FileReport
from pilot_core.storage.logs import LogUploader
from pilot_core.wrapup import Wrapper
from tests.fakes.storage import PREFIX, FakeTool
from tests.fakes.virtual_clock import VirtualClock

CLOCK = SystemClock()
PACKED = FileReport("log.tgz", "guid", 3, "0000002a")


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("pilotlog.txt", "payload.stdout"):
        (work / name).write_text(name)
    return JobPaths(tmp_path, work, tmp_path / "shared")


def wrapper(tool: FakeTool, paths: JobPaths, bundle: Callable[[Budget], FileReport]) -> Wrapper:
    return Wrapper(
        Job(1, 1, "x", "", log=OutputFile("log.tgz")),
        paths,
        experiment=GenericExperiment(),
        shipper=None,
        uploader=LogUploader(
            tool, PREFIX, clock=CLOCK, roots=(paths.work, paths.shared), redactor=Redactor()
        ),
        no_storage=None,
        bundle=bundle,
        stage_out=lambda _: ((), None),
        config=WrapupConfig(),
    )


def whole() -> Budget:
    return Budget(CLOCK, 60.0, "test")


def no_room(_: Budget) -> FileReport:
    raise StorageError("no space for the bundle", ErrorCode.NOLOCALSPACE)


def test_logs_are_stored_although_the_bundle_could_not_be_made(paths: JobPaths) -> None:
    tool = FakeTool()
    found = wrapper(tool, paths, no_room).run(whole(), hurried=False, succeeded=True)
    assert {PREFIX + "pilotlog.txt", PREFIX + "payload.stdout"} <= set(tool.objects)
    assert (found.code, found.diag, found.files) == (ErrorCode.NOLOCALSPACE, "no space for the bundle", ())
    assert found.log_url


def test_a_job_in_a_hurry_packs_nothing(paths: JobPaths) -> None:
    tool = FakeTool()
    found = wrapper(tool, paths, no_room).run(whole(), hurried=True, succeeded=False)
    assert not found.problems
    assert PREFIX + "pilotlog.txt" in tool.objects


def test_what_failed_is_tried_once_more_at_the_end(paths: JobPaths) -> None:
    tool = FakeTool()
    tool.fail[PREFIX + "payload.stdout"] = StorageError("bucket gone")
    wrapped = wrapper(tool, paths, lambda _: PACKED)
    assert wrapped.run(whole(), hurried=False, succeeded=True).files == ()
    tool.fail.clear()
    (paths.log).write_text("the end")
    wrapped.store_last_log(whole())
    assert tool.objects[PREFIX + "payload.stdout"] == b"payload.stdout"
    assert tool.objects[PREFIX + "pilotlog.txt"] == b"the end"


class SlowShipper:
    """Needs half a second for the payload's last records."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.done = False

    def finish(self, budget: Budget) -> ShipCounts:
        self.done = budget.left >= 0.5
        self._clock.wait(threading.Event(), min(0.5, budget.left))
        return ShipCounts()


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(0.9, []), (1.5, ["records"]), (2.1, ["records", "logs"]), (8.0, ["records", "logs"])],
)
def test_a_killed_pilot_with_little_time_stores_what_comes_first(
    paths: JobPaths, seconds: float, kept: list[str]
) -> None:
    (paths.work / "payload.stdout").unlink()
    clock, tool = VirtualClock(), FakeTool()

    def on_put(_: str) -> None:
        clock.wait(threading.Event(), 0.5)

    tool.on_put = on_put
    shipper: Any = SlowShipper(clock)
    wrapped = Wrapper(
        Job(1, 1, "x", "", log=OutputFile("log.tgz")),
        paths,
        experiment=GenericExperiment(),
        shipper=shipper,
        uploader=LogUploader(
            tool, PREFIX, clock=clock, roots=(paths.work, paths.shared), redactor=Redactor()
        ),
        no_storage=None,
        bundle=no_room,
        stage_out=lambda _: ((), None),
        config=WrapupConfig(),
    )
    began, whole = clock.monotonic(), Budget(clock, seconds, "test")
    wrapped.run(whole, hurried=True, succeeded=False)
    done = ["records"] if shipper.done else []
    assert done + (["logs"] if wrapped.result.stored else []) == kept
    wrapped.store_last_log(whole)
    assert clock.monotonic() - began <= seconds
