"""What Harvester finds in the shared folder."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilot_core.base.budget import Budget
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import FileReport, JobReport, JobState, Node, WorkerState
from pilot_core.server.harvester import PILOT3_NAMES, HarvesterServer
from pilot_core.server.silent import SilentServer
from tests.fakes.clock import FakeClock

REPORT = JobReport(panda_id=7, attempt=1, state=JobState.RUNNING, site="Q", node=Node("host"))
LOG = FileReport("a.log.tgz", "guid", 12, "0000002a", surl="/out/a.log.tgz", endpoint="E")


def make(folder: Path, **more: Any) -> tuple[HarvesterServer, FakeClock]:
    clock = FakeClock()
    return HarvesterServer(SilentServer(folder / "heartbeat.json"), folder, clock=clock, **more), clock


def send(server: HarvesterServer, clock: FakeClock, report: JobReport) -> None:
    server.update_job(report, budget=Budget(clock, 600.0, "test"), stop=threading.Event())


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_each_update_is_left_for_harvester(tmp_path: Path) -> None:
    server, clock = make(tmp_path)
    send(server, clock, REPORT)
    assert read(tmp_path / "worker_attributes.json")["jobStatus"] == "running"
    assert read(tmp_path / "worker_pandaids.json") == [7]
    assert read(tmp_path / "worker_heartbeat.json")["last_pilot_update"] == int(clock.now)
    assert not (tmp_path / "event_status.dump.json").exists()
    assert read(tmp_path / "heartbeat.json")["state"] == "running"


def test_the_final_report_names_files_and_codes(tmp_path: Path) -> None:
    server, clock = make(tmp_path)
    final = replace(
        REPORT,
        state=JobState.FAILED,
        code=ErrorCode.PAYLOADEXECUTIONFAILURE,
        diag="boom",
        exit_code=3,
        files=(LOG,),
        metadata='{"a": 1}',
    )
    send(server, clock, final)
    attributes = read(tmp_path / "worker_attributes.json")
    assert (attributes["jobStatus"], attributes["pilotErrorCode"], attributes["transExitCode"]) == (
        "failed",
        1305,
        3,
    )
    assert read(tmp_path / "jobReport.json") == {"a": 1}
    (file,) = read(tmp_path / "event_status.dump.json")["7"]
    assert (file["type"], file["chksum"], file["fsize"], file["path"]) == (
        "log",
        "ad:0000002a",
        12,
        "/out/a.log.tgz",
    )


def test_a_list_that_was_not_taken_goes_on(tmp_path: Path) -> None:
    server, clock = make(tmp_path)
    (tmp_path / "event_status.dump.json").write_text('{"6": []}')
    began = clock.now
    send(server, clock, replace(REPORT, state=JobState.FINISHED, files=(LOG,)))
    assert clock.now - began >= 60.0
    assert set(read(tmp_path / "event_status.dump.json")) == {"6", "7"}


def test_pilot3_s_names_on_request(tmp_path: Path) -> None:
    server, clock = make(tmp_path, names=PILOT3_NAMES)
    budget = Budget(clock, 5.0, "test")
    server.update_worker(WorkerState.FINISHED, site="Q", node="n", budget=budget, stop=threading.Event())
    assert (tmp_path / "kill_worker").exists()
    assert (tmp_path / "pilot_heartbeat.json").exists()


def test_a_missing_folder_does_not_cost_the_update(tmp_path: Path) -> None:
    clock = FakeClock()
    server = HarvesterServer(SilentServer(tmp_path / "h.json"), tmp_path / "gone", clock=clock)
    send(server, clock, replace(REPORT, metadata='{"a": 1}'))
    assert read(tmp_path / "h.json")["state"] == "running"


def test_with_little_time_the_server_is_told_and_harvester_not_waited_for(tmp_path: Path) -> None:
    server, clock = make(tmp_path)
    (tmp_path / "event_status.dump.json").write_text('{"6": []}')
    budget = Budget(clock, 8.0, "killed")
    report = replace(REPORT, state=JobState.FAILED, files=(LOG,))
    server.update_job(report, budget=budget, stop=threading.Event())
    assert budget.left >= 5.0
