"""The demonstration's jobs, their judgement, the worker's environment."""

import json
from pathlib import Path

import pytest

from pilot_core.local.demo import demo_jobs
from pilot_core.local.run import count_records
from pilot_core.local.worker import WorkerPlan, config_text, worker_environment


def test_jobs_without_and_with_docker() -> None:
    plain = demo_jobs("http://h:1")
    assert {job.definition["transformation"] for job in plain} == {"http://h:1/trf/demo"}
    docker = demo_jobs("http://h:1", image="i:1")
    assert [job.definition.get("container_name", "") for job in docker] == ["", "i:1", "", "i:1"]
    assert docker[0].definition["jobPars"] == "/tmp/panda i:1 demo work 20"
    assert [job.state for job in docker] == ["finished", "failed", "cancelled", "finished"]


@pytest.mark.parametrize(
    ("number", "state", "code", "records", "complaint"),
    [
        (0, "finished", 0, 41, ""),
        (0, "finished", 0, 40, "40 log records, not 41"),
        (0, "failed", 0, 41, "ended as failed, not finished"),
        (1, "failed", 4, 2, "exit code 4, not 3"),
        (2, "cancelled", 143, 7, ""),
        (2, "cancelled", None, 0, "0 log records, not at least 1"),
    ],
)
def test_judgement(number: int, state: str, code: int | None, records: int, complaint: str) -> None:
    assert demo_jobs("u")[number].complaint(state=state, exit_code=code, records=records) == complaint


def test_counting_records(tmp_path: Path) -> None:
    path = tmp_path / "r"
    assert not count_records(path)
    lines = [{"jsonPayload": {"PandaJobID": "7"}}, {"PandaJobID": 7}, {"jsonPayload": {"PandaJobID": "8"}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    assert count_records(path) == {7: 2, 8: 1}


def test_worker_environment_is_harvesters_and_no_more(tmp_path: Path) -> None:
    plan = WorkerPlan(
        url="http://h:1",
        folder=tmp_path,
        jobs=4,
        environment={"PATH": "/bin", "SECRET": "s", "HARVESTER_ID": "x"},
    )
    env = worker_environment(plan)
    assert env["PATH"] == "/bin"
    assert env["HARVESTER_ID"] == "local"
    assert "SECRET" not in env
    assert env["pandaQueueName"] == "LOCAL"
    assert env["REALTIME_LOGGING_SERVER"] == f"file;{plan.records}"
    assert "--max-jobs 4" in env["PILOT_EXTRA_OPTIONS"]
    # Server and CRIC are asked anyway, and that is the same one.
    assert not {"QUEUEDATA_SERVER_URL", "STORAGEDATA_SERVER_URL"} & env.keys()
    assert "heartbeat: 2\n" in config_text(plan)
