"""What is owed survives a crash."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_core.errors import SetupError
from pilot_core.ledger import Ledger, last_report
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import FileReport, JobReport, JobState, Node
from pilot_core.model.sample import Usage
from tests.fakes.descriptors import no_descriptor_free

REPORT = JobReport(
    panda_id=5,
    attempt=2,
    state=JobState.RUNNING,
    site="Q",
    node=Node("host", batch_type="Kubernetes"),
    usage=Usage(cpu_s=1.5, max_rss=7),
    files=(FileReport("log.tgz", "guid", 3, "0000002a"),),
    timing=(1, 2),
)


def take(ledger: Ledger) -> None:
    ledger.take(REPORT, work=Path("/w"), shared=Path("/s"), labels={"a": "b"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    take(ledger)
    ledger.logs_at("gs://b/p/", "gs")
    ledger.note("running", REPORT)
    held = Ledger(tmp_path).held()
    assert held is not None
    assert held.report == REPORT
    assert (held.stage, held.work, held.labels, held.copytool) == ("running", "/w", {"a": "b"}, "gs")
    assert not held.owner_gone()
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    ledger.clear()
    assert Ledger(tmp_path).held() is None


@pytest.mark.parametrize(
    ("owner", "gone"),
    [
        ({"pid_ticks": 1}, True),
        ({"boot": "another"}, True),
        ({"boot": "another", "host": ""}, True),
        # A shared folder: nobody here can tell.
        ({"host": "elsewhere"}, False),
        ({"boot": "another", "host": "elsewhere"}, False),
    ],
)
def test_whether_its_owner_is_gone(tmp_path: Path, owner: dict[str, Any], gone: bool) -> None:
    ledger = Ledger(tmp_path)
    take(ledger)
    held = ledger.held()
    assert held is not None
    assert replace(held, **owner).owner_gone() == gone


def test_nothing_is_noted_after_the_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    take(ledger)
    ledger.clear()
    ledger.note("final", REPORT)
    assert not ledger.path.exists()


def test_a_broken_file_is_kept_aside(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    deep = "[" * 100_000
    for text in ("{half", '{"format": 99}', '{"format": 1, "held": {"report": 3}}', "[]", deep):
        ledger.path.write_text(text)
        assert ledger.held() is None
        assert not ledger.path.exists()
        assert ledger.path.with_suffix(".unreadable").read_text() == text


def test_a_file_that_cannot_be_opened_now_is_no_broken_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    take(ledger)
    with no_descriptor_free(), pytest.raises(OSError, match="Too many open files"):
        ledger.held()
    with no_descriptor_free(), pytest.raises(OSError, match="Too many open files"):
        ledger.look()
    assert [path.name for path in tmp_path.iterdir()] == [ledger.path.name]
    held = Ledger(tmp_path).held()
    assert held is not None
    assert held.report == REPORT


def test_a_pilot_knows_its_own_job_without_a_disk(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gone")
    take(ledger)
    assert ledger.own is not None
    assert ledger.own.report == REPORT
    ledger.clear()
    assert ledger.own is None


def test_last_word(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    take(ledger)
    held = ledger.held()
    assert held is not None
    report = last_report(held, code=ErrorCode.KILLSIGNAL, diag="died", end_s=9.0)
    assert (report.state, report.code, report.diag, report.end_s) == (JobState.FAILED, 1200, "died", 9.0)


def test_a_final_report_that_was_decided_stands(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    take(ledger)
    final = replace(REPORT, state=JobState.FINISHED)
    ledger.note("final", final)
    held = ledger.held()
    assert held is not None
    assert last_report(held, code=ErrorCode.KILLSIGNAL, diag="died", end_s=9.0) == final


@pytest.mark.timeout(10)
def test_what_is_no_file_is_set_aside(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    os.mkfifo(ledger.path)
    assert ledger.held() is None
    ledger.path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("{}")
    assert ledger.held() is None
    assert not ledger.path.exists()


def test_a_disk_that_takes_nothing_costs_the_record_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path / "gone")
    take(ledger)
    ledger.note("running", REPORT)
    assert caplog.text.count("is not up to date") == 2
    (tmp_path / "gone").mkdir()
    ledger.note("wrapup", REPORT)
    held = ledger.held()
    assert held is not None
    assert held.stage == "wrapup"


def test_a_directory_has_one_pilot(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path).claimed(),
        pytest.raises(SetupError, match="another pilot is running"),
        Ledger(tmp_path).claimed(),
    ):
        raise AssertionError("claimed twice")
    with Ledger(tmp_path).claimed():
        pass


def test_what_a_newer_pilot_adds_is_no_reason_to_lose_the_job(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.take(REPORT, work=Path("/w"), shared=Path("/s"), labels={"a": "b"}, engine="kubernetes")
    document = json.loads(ledger.path.read_text())
    report = document["held"]["report"]
    for part in (document["held"], report, report["node"], report["usage"], report["files"][0]):
        part["mood"] = "fine"
    report["code"] = 9999
    ledger.path.write_text(json.dumps(document))
    held = Ledger(tmp_path).held()
    assert held is not None
    assert held.report == replace(REPORT, code=ErrorCode.INTERNALPILOTPROBLEM)
    assert held.engine == "kubernetes"


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.look() is None
    ledger.path.write_text("{half")
    with pytest.raises(ValueError, match="property name"):
        ledger.look()
    assert ledger.path.read_text() == "{half"
