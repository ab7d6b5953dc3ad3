"""`-z`: the update goes to a file."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import ServerUnreachable
from pilot_core.model.report import JobReport, JobState, Node, Reply
from pilot_core.server.contract import Server
from pilot_core.server.silent import SilentServer

REPORT = JobReport(17, 1, JobState.RUNNING, "Q", Node("node7"))


def update(server: Server, report: JobReport) -> Reply:
    return server.update_job(report, budget=Budget(SystemClock(), 10.0, "test"), stop=threading.Event())


def test_the_latest_update_is_in_the_file(tmp_path: Path) -> None:
    server = SilentServer(tmp_path / "heartbeat.json")
    for report in (REPORT, replace(REPORT, state=JobState.FAILED, exit_code=3)):
        assert update(server, report) == Reply()
    body = json.loads((tmp_path / "heartbeat.json").read_text())
    assert (body["jobId"], body["state"], body["transExitCode"]) == (17, "failed", 3)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match=r"missing/heartbeat\.json: No such file"):
        update(SilentServer(tmp_path / "missing" / "heartbeat.json"), REPORT)
