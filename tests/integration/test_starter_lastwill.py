"""The pilot dies: what server, log service and cache hear of it from the
starter.
"""

import gzip
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.ledger import FILE_NAME, Ledger
from pilot_core.model.report import JobReport, JobState, Node
from tests.fakes.patience import stated
from tests.fakes.pilot.process import Starter, wait_for
from tests.fakes.pilot.web import Web, serve

OK = json.dumps({"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}}).encode()
UPDATE = "/api/v1/pilot/update_job"
UPLOAD = "/api/v1/file_server/upload_cache_file"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        running.routes = {UPDATE: (200, OK), UPLOAD: (200, OK)}
        yield running


@pytest.fixture
def starter(tmp_path: Path, web: Web) -> Iterator[Starter]:
    made = Starter(tmp_path)
    made.env["PANDA_SERVER_URL"] = web.url
    try:
        yield made
    finally:
        made.kill()


def ledger(starter: Starter, *, state: JobState = JobState.RUNNING) -> None:
    """The file that a pilot with a job would have written."""
    folder = starter.tmp / "ledger"
    folder.mkdir()
    report = JobReport(panda_id=4711, attempt=2, state=state, site="TEST_SITE", node=Node(name="node-1"))
    Ledger(folder).take(report, work=folder, shared=folder, labels={"panda.id": "4711"})
    starter.env["FAKE_LEDGER"] = str(folder / FILE_NAME)


def updates(web: Web) -> list[dict[str, object]]:
    return [json.loads(body) for path, body in web.posts if path == UPDATE]


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"FAKE_KILL_SELF": "9"}, 1200),
        ({"FAKE_KILL_SELF": "11"}, 1203),
        ({"FAKE_KILL_SELF": "40"}, 1200),
        ({"FAKE_EXIT": "1"}, 1319),
        ({"FAKE_EXIT": "70"}, 1301),
        ({"FAKE_EXIT": "0"}, 1319),
    ],
)
def test_job_of_a_dead_pilot_gets_its_final_report(
    starter: Starter, web: Web, env: dict[str, str], code: int
) -> None:
    ledger(starter)
    began = time.monotonic()
    starter.run(**env)
    assert time.monotonic() - began < stated(5.0)
    (update,) = updates(web)
    assert update["job_id"] == 4711
    assert update["job_status"] == "failed"
    assert update["pilot_error_code"] == code
    assert not (starter.home / FILE_NAME).exists()
    assert "job 4711 failed" in (starter.tmp / "termination-log").read_text()


def test_decided_report_is_sent_as_it_is(starter: Starter, web: Web) -> None:
    ledger(starter, state=JobState.FINISHED)
    assert starter.run(FAKE_KILL_SELF="9") == 137
    (update,) = updates(web)
    assert update["job_status"] == "finished"
    assert update.get("pilot_error_code", 0) == 0


def test_pilot_killed_after_sigterm_is_reported_within_the_grace(starter: Starter, web: Web) -> None:
    ledger(starter)
    starter.start(FAKE_RUN_S="60", FAKE_ON_TERM="ignore", PILOT_GRACE_SECONDS="4")
    wait_for(lambda: starter.notes("up"))
    began = time.monotonic()
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert time.monotonic() - began < stated(4.5)
    (update,) = updates(web)
    assert update["pilot_error_code"] == 1201


def test_server_that_is_down_is_insisted_on_and_sigterm_ends_that(starter: Starter, web: Web) -> None:
    ledger(starter)
    web.routes[UPDATE] = (503, b"down")
    starter.start(FAKE_KILL_SELF="9")
    wait_for(lambda: web.seen.count(UPDATE) >= 2, 15)
    began = time.monotonic()
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 137
    assert time.monotonic() - began < stated(4.0)
    # What is owed stays on disk for the next pilot in this folder.
    assert (starter.home / FILE_NAME).exists()


def test_refused_report_is_not_insisted_on(starter: Starter, web: Web) -> None:
    ledger(starter)
    refusal = {"success": False, "message": "Invalid job status", "data": None}
    web.routes[UPDATE] = (200, json.dumps(refusal).encode())
    began = time.monotonic()
    assert starter.run(FAKE_KILL_SELF="9") == 137
    assert time.monotonic() - began < stated(10.0)


def test_strange_refusal_clears_nothing(starter: Starter, web: Web) -> None:
    ledger(starter)
    web.routes[UPDATE] = (200, json.dumps({"success": False, "message": "hm", "data": None}).encode())
    starter.start(FAKE_KILL_SELF="9")
    wait_for(lambda: web.seen.count(UPDATE) >= 3, 30)
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 137
    assert (starter.home / FILE_NAME).exists()


def test_job_of_a_newer_pilot_is_reported(starter: Starter, web: Web) -> None:
    ledger(starter)
    path = Path(starter.env["FAKE_LEDGER"])
    document = json.loads(path.read_text())
    document["held"]["report"]["usage"]["gpu_s"] = 1.0
    path.write_text(json.dumps(document))
    assert starter.run(FAKE_KILL_SELF="9") == 137
    (update,) = updates(web)
    assert update["job_id"] == 4711


def test_worker_log_is_uploaded_where_harvester_links_it(starter: Starter, web: Web) -> None:
    starter.run(
        HARVESTER_ID="harv",
        workerID="12",
        logs_frontend_w=f"{web.url}/server/panda",
        logs_frontend_r="http://reader/cache",
    )
    ((_, body),) = [post for post in web.posts if post[0] == UPLOAD]
    assert b'filename="harv_12_gz.out"' in body
    start = body.index(b"\x1f\x8b")
    end = body.rindex(b"\r\n--")
    text = gzip.decompress(body[start:end])
    assert b"fake pilot is up" in text
    assert b"pilot exit status: 0" in text
    env = starter.note()["env"]
    assert isinstance(env, dict)
    assert env["GTAG"] == "http://reader/cache/harv_12_gz.out"


def test_worker_log_that_was_deleted_is_uploaded(starter: Starter, web: Web) -> None:
    starter.start(
        FAKE_RUN_S="60",
        HARVESTER_ID="harv",
        workerID="12",
        logs_frontend_w=f"{web.url}/server/panda",
        logs_frontend_r="http://reader/cache",
    )
    wait_for(lambda: starter.notes("up"))
    starter.log.unlink()
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    ((_, body),) = [post for post in web.posts if post[0] == UPLOAD]
    text = gzip.decompress(body[body.index(b"\x1f\x8b") : body.rindex(b"\r\n--")])
    assert b"starter pid" in text
    assert b"SIGTERM received" in text


def test_worker_log_is_shipped_from_first_line_to_last(starter: Starter) -> None:
    records = starter.tmp / "records.jsonl"
    said = starter.tmp / "said"
    said.write_text(
        "".join(f"2026-11-21 08:51:00,{n % 1000:03d} | INFO     | line {n}\n" for n in range(5000))
    )
    assert (
        starter.run(FAKE_SAY=str(said), FAKE_KILL_SELF="9", WORKERLOG_LOGGING_SERVER=f"file;{records}") == 137
    )
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    messages = [line["jsonPayload"]["message"] for line in lines]
    assert [m for m in messages if "| line " in m] == [f"INFO     | line {n}" for n in range(5000)]
    assert "starter pid" in messages[0]
    assert any("was killed by SIGKILL" in m for m in messages)
    ids = [line["insertId"] for line in lines]
    assert len(set(ids)) == len(ids)


def test_log_service_that_is_away_harms_nobody(starter: Starter) -> None:
    began = time.monotonic()
    starter.start(FAKE_RUN_S="60", WORKERLOG_LOGGING_SERVER="google-cloud-logging;http://127.0.0.1:9")
    wait_for(lambda: starter.notes("up"))
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert time.monotonic() - began < stated(6.0)


def test_strange_log_service_is_said_and_harms_nobody(starter: Starter) -> None:
    assert starter.run(WORKERLOG_LOGGING_SERVER="carrier-pigeon") == 0
    assert b"carrier-pigeon" in starter.log.read_bytes()
