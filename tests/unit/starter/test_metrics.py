"""A worker's files as Prometheus reads them."""

import json
import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilot_core.base.procs import start_ticks
from pilot_core.ledger import Ledger
from pilot_core.logship.contract import ShipCounts
from pilot_core.model.report import JobReport, JobState, Node
from pilot_starter.config import StarterConfig
from pilot_starter.health import HEARTBEAT, WorkerStatus, write_status
from pilot_starter.metrics import STAGES, expose, look

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def config(tmp_path: Path) -> StarterConfig:
    found = StarterConfig(queue="Q", site="S", tmp_dir=tmp_path, worker_log=tmp_path / "wrapper-wid.log")
    found.worker_log.touch()
    pid = os.getpid()
    write_status(
        found.state_file,
        WorkerStatus(
            *("running", pid, start_ticks(pid) or 0, "Q", str(found.worker_log), str(tmp_path), 1000.0),
            pilot_source='https://me:secret@x:8/"odd"?sig=secret',
            worker_id=7,
        ),
    )
    return found


def scrape(config: StarterConfig, **more: object) -> Samples:
    text = expose(look(config, **{"credential_ends": {}, **more})).decode()  # type: ignore[arg-type]
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            # Labels come in the order of their names.
            key = (sample.name.removeprefix("panda_pilot_"), tuple(sample.labels.values()))
            assert key not in found, "no series twice"
            found[key] = sample.value
    return found


def test_an_idle_worker(config: StarterConfig) -> None:
    seen = scrape(config)
    assert seen["up", ()] == 1
    assert seen["phase", ("running",)] == 1
    assert seen["phase", ("closing",)] == 0
    assert seen["stage", ("idle",)] == 1
    assert ("job_id", ()) not in seen
    (info,) = [labels for name, labels in seen if name == "info"]
    # queue, site, source, version, worker_id; a signed URL's query is a secret.
    assert (info[0], info[1], info[2], info[4]) == ("Q", "S", 'https://x:8/"odd"', "7")


def test_a_job_and_the_pilots_numbers(config: StarterConfig, tmp_path: Path) -> None:
    report = JobReport(
        panda_id=4711, attempt=1, state=JobState.RUNNING, site="S", node=Node(name="n"), start_s=1e9
    )
    ledger = Ledger(tmp_path)
    ledger.take(report, work=tmp_path, shared=tmp_path, labels={})
    ledger.note("running", report)
    vitals = {
        "jobs/finished/0": 3,
        "jobs/failed/1201": 1,
        "requests/update_job/failed": 2,
        "uploads/failed": 4,
        "log/payload/sent": 10,
        "log/payload/rejected": 1,
        "log/payload/waiting_bytes": 99,
        "log/payload/behind_s": 7.5,
        "payload/started": 1e9 + 5,
        "something/new": 1,
    }
    (tmp_path / HEARTBEAT).write_text(json.dumps({"vitals": vitals}))
    counts = ShipCounts(sent=20, repeated=1, left_bytes=5)
    seen = scrape(config, shipped=counts, credential_ends={"proxy": 2e9})
    assert seen["job_id", ()] == 4711
    assert seen["stage", ("running",)] == 1
    assert sum(seen["stage", (stage,)] for stage in STAGES) == 1
    assert seen["job_seconds", ()] - seen["payload_running_seconds", ()] == pytest.approx(5)
    assert seen["jobs_total", ("0", "finished")] == 3
    assert seen["jobs_total", ("1201", "failed")] == 1
    assert seen["requests_total", ("update_job", "failed")] == 2
    assert seen["uploads_total", ("failed",)] == 4
    assert seen["log_records_total", ("payload", "rejected")] == 1
    assert seen["log_records_total", ("worker", "sent")] == 20
    assert seen["log_waiting_bytes", ("payload",)] == 99
    assert seen["log_waiting_bytes", ("worker",)] == 5
    assert seen["log_behind_seconds", ("payload",)] == 7.5
    assert seen["credential_expires_timestamp_seconds", ("proxy",)] == 2e9
    assert seen["heartbeat_age_seconds", ()] < 60


def test_the_payload_of_the_job_before_is_not_this_ones(config: StarterConfig, tmp_path: Path) -> None:
    report = JobReport(
        panda_id=2, attempt=1, state=JobState.RUNNING, site="S", node=Node(name="n"), start_s=2e9
    )
    ledger = Ledger(tmp_path)
    ledger.take(report, work=tmp_path, shared=tmp_path, labels={})
    ledger.note("running", report)
    (tmp_path / HEARTBEAT).write_text(json.dumps({"vitals": {"payload/started": 1.9e9}}))
    assert ("payload_running_seconds", ()) not in scrape(config)


@pytest.mark.parametrize("text", ['{"format": 2, "held": {}}', "{half", None])
def test_whoever_asks_changes_nothing_in_the_pilots_record(
    config: StarterConfig, tmp_path: Path, text: str | None
) -> None:
    """A newer pilot's record, a broken one, and what is no file at all."""
    path = Ledger(tmp_path).path
    path.symlink_to(path) if text is None else path.write_text(text)
    before = sorted(one.name for one in tmp_path.iterdir())
    assert ("job_id", ()) not in scrape(config)
    assert sorted(one.name for one in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"vitals": 3}', '{"vitals": {"jobs/finished/0": "many"}}', "[" * 100_000, "{}"]
)
def test_a_pilot3_or_anybody_else_wrote_the_heartbeat(
    config: StarterConfig, tmp_path: Path, text: str
) -> None:
    (tmp_path / HEARTBEAT).write_text(text)
    seen = scrape(config)
    assert seen["up", ()] == 1
    assert not [name for name, _ in seen if name.startswith(("jobs", "requests"))]


def test_names_cannot_break_the_format(config: StarterConfig, tmp_path: Path) -> None:
    evil = {'jobs/a"}\nx 1\n/0': 1, "uploads/": 1, "requests/a/b/c": 1, "log/other/sent": 1}
    (tmp_path / HEARTBEAT).write_text(json.dumps({"vitals": evil}))
    assert not [
        name for name, _ in scrape(config) if name.startswith(("jobs", "uploads", "requests", "log_r"))
    ]


def test_no_worker_is_not_up(tmp_path: Path) -> None:
    nobody = StarterConfig(queue="Q", site="S", tmp_dir=tmp_path, worker_log=tmp_path / "no.log")
    seen = scrape(nobody)
    assert seen["up", ()] == 0
    assert ("phase", ("running",)) not in seen
