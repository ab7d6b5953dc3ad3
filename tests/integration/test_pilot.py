"""The whole pilot as a process, over real HTTP, with payloads as plain
processes.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.procs import alive
from pilot_core.local.definition import make
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from tests.fakes.patience import stated
from tests.fakes.pilot_process import PilotProcess, start_pilot

PROCESS = ("--engine", "process")


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


def submit(panda: LocalPanda, command: str, **more: object) -> int:
    """A job that runs `command` with bash the way Rubin's jobs come: base64
    for `bash-c-enc`.
    """
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=command, encode=True, **more)
    )


def states(panda: LocalPanda, job: int) -> list[str]:
    seen: list[str] = []
    for update in panda.store.updates(job):
        if not seen or seen[-1] != update.status:
            seen.append(update.status)
    return seen


def finals(panda: LocalPanda, job: int) -> list[str]:
    return [u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")]


def stored(panda: LocalPanda, job: int, name: str) -> Path:
    return panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / name


def test_a_job_from_start_to_finish(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "echo hello; echo oops >&2; echo $PANDAID")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0, pilot.text()
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, row.ddm_error, pilot.text())
    assert states(panda, job)[0] == "starting"
    assert finals(panda, job) == ["finished"]
    assert stored(panda, job, "payload.stdout").read_text() == f"hello\n{job}\n"
    assert stored(panda, job, "payload.stderr").read_text() == "oops\n"
    log = stored(panda, job, "pilotlog.txt")
    assert row.log_url.endswith("pilotlog.txt")
    assert "the server has the final report" in log.read_text(), "the stored log lacks the end of the job"
    report = json.loads(row.report)
    assert report["log.tgz"]["guid"] == row.definition["logGUID"]
    assert [w.status for w in panda.store.workers()] == ["started", "finished"]


def test_a_failing_payload_is_a_success_of_the_pilot(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(
        panda, "echo 'Traceback (most recent call last):' >&2; echo 'ValueError: no stars' >&2; exit 3"
    )
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    assert row.status == "failed"
    assert row.exit_code == 3
    code, diag = row.pilot_error
    assert code == 1305
    assert "ValueError: no stars" in diag
    assert row.pilot_log
    assert stored(panda, job, "payload.stderr").exists()


@pytest.mark.parametrize("code", [255, 1, 2, 127])
def test_exit_codes_arrive_as_they_are(panda: LocalPanda, tmp_path: Path, code: int) -> None:
    job = submit(panda, f"exit {code}")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        pilot.wait()
    assert panda.store.job(job).exit_code == code


def test_several_jobs_in_one_pilot(panda: LocalPanda, tmp_path: Path) -> None:
    jobs = [submit(panda, f"exit {n % 2}") for n in range(4)]
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    assert [panda.store.job(j).status for j in jobs] == ["finished", "failed"] * 2
    # One log a job: none holds the definition of another.
    for job in jobs:
        text = stored(panda, job, "pilotlog.txt").read_text()
        assert text.count("job definition = ") == 1
        assert f"'PandaID': {job}" in text


def test_the_server_kills_a_running_job(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "trap '' TERM; sleep 300 & echo $! > child; wait; wait")
    with start_pilot(panda, tmp_path / "home", *PROCESS, "--payload-grace", "1") as pilot:
        panda.store.wait_status(job, "running", 20)
        child = tmp_path / "home" / f"PanDA_Pilot-{job}" / "child"
        assert panda.store.wait_for(child.exists, 10)
        pid = int(child.read_text())
        panda.store.kill(job)
        row = panda.store.wait_status(job, "cancelled", 20)
        assert pilot.wait() == 0
    assert row.pilot_error[0] == 1144
    assert not alive(pid), "a process of the killed job is left"
    assert finals(panda, job) == ["failed"]


def test_real_time_log_is_complete_however_short_the_job(panda: LocalPanda, tmp_path: Path) -> None:
    lines = [
        json.dumps({"name": "lsst.isr", "levelname": "WARNING", "message": f"line {n}"}) for n in range(50)
    ]
    script = (
        "cat > payload-log.json <<'X'\n"
        + "\n".join(lines)
        + "\nX\nprintf 'no newline at the end' >> payload-log.json"
    )
    job = submit(panda, script)
    target = tmp_path / "records.jsonl"
    with start_pilot(
        panda,
        tmp_path / "home",
        *PROCESS,
        "--use-realtime-logging",
        "--realtime-logging-server",
        f"file;{target}",
        environment={"REALTIME_LOGFILES": "payload-log.json"},
    ) as pilot:
        assert pilot.wait() == 0
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(records) == 51, pilot.text()[-3000:]
    text = json.dumps(records)
    assert all(f"line {n}" in text for n in range(50))
    assert "no newline at the end" in text
    assert str(job) in text


def test_sigterm_reports_first_and_leaves_nothing(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "echo started; trap '' TERM; while :; do sleep 1; done")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        panda.store.wait_status(job, "running", 20)
        sent = time.time()
        pilot.signal(signal.SIGTERM)
        assert pilot.wait(60) == 143
        ended = time.time()
    update = next(u for u in panda.store.updates(job) if u.status == "failed")
    assert update.time_s - sent < stated(2.0)
    assert ended - sent < stated(12.0)
    assert finals(panda, job) == ["failed"]
    assert panda.store.job(job).pilot_error[0] == 1201
    assert stored(panda, job, "payload.stdout").read_text() == "started\n"


def test_sigterm_while_idle(panda: LocalPanda, tmp_path: Path) -> None:
    with start_pilot(panda, tmp_path / "home", *PROCESS, "-v", "100") as pilot:
        assert panda.store.wait_for(lambda: bool(panda.calls("acquire_jobs")), 20)
        sent = time.monotonic()
        pilot.signal(signal.SIGTERM)
        assert pilot.wait(10) == 143
        assert time.monotonic() - sent < stated(5.0)


def test_a_killed_pilot_is_settled_by_the_next_one(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "sleep 300")
    home = tmp_path / "home"
    with start_pilot(panda, home, *PROCESS) as pilot:
        panda.store.wait_status(job, "running", 20)
        pilot.signal(signal.SIGKILL)
        pilot.wait()
    assert (home / "pilot_job_state.json").exists()
    other = submit(panda, "true")
    with start_pilot(panda, home, *PROCESS) as pilot:
        assert pilot.wait() == 0
    assert finals(panda, job) == ["failed"]
    assert panda.store.job(other).status == "finished"
    left = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _works_in(p, home)]
    assert not left, "the killed pilot's payload still runs"


def _works_in(process: Path, home: Path) -> bool:
    try:
        return os.readlink(process / "cwd").startswith(str(home))
    except OSError:
        return False


def test_a_final_report_survives_an_outage(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "sleep 2")
    # With less than ten minutes for it, the repeats come fast.
    with start_pilot(panda, tmp_path / "home", *PROCESS, "--final-timeout", "60") as pilot:
        panda.store.wait_status(job, "running", 20)
        panda.faults.add(Fault(call="update_job", kind=FaultKind.STATUS, status=503, count=4))
        assert pilot.wait(60) == 0
    assert finals(panda, job) == ["finished"]


def test_sighup_ends_job_and_pilot(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "sleep 60")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        panda.store.wait_status(job, "running", 20)
        pilot.signal(signal.SIGHUP)
        assert pilot.wait() == 137
    assert finals(panda, job) == ["failed"]
    assert panda.store.job(job).pilot_error == (1200, "the pilot was killed by signal SIGHUP")


def test_queue_data_that_make_no_sense_do_not_cost_a_job(panda: LocalPanda, tmp_path: Path) -> None:
    panda.cric.add_queue("ODD", params={"pilot_rss_grace": "²"}, maxrss=1000)
    job = panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters="true", encode=True, queue="ODD")
    )
    with start_pilot(panda, tmp_path / "home", *PROCESS, queue="ODD") as pilot:
        assert pilot.wait() == 0, pilot.text()
    assert finals(panda, job) == ["finished"]


# --- bad input: one line that names the thing, the right exit code ------------


def one_line_error(pilot: PilotProcess) -> str:
    lines = [line for line in pilot.text().splitlines() if "ERROR" in line or line.startswith("pilot.py:")]
    assert lines, pilot.text()
    assert "Traceback" not in pilot.text(), pilot.text()
    return lines[0]


def test_no_queue(panda: LocalPanda, tmp_path: Path) -> None:
    with start_pilot(panda, tmp_path / "home", queue="") as pilot:
        assert pilot.wait() == 65
    assert "queue" in one_line_error(pilot)


def test_unknown_queue(panda: LocalPanda, tmp_path: Path) -> None:
    environment = {"PILOT_CRIC_URL": panda.url}
    with start_pilot(
        panda, tmp_path / "home", *PROCESS, queue="NO_SUCH_QUEUE", environment=environment
    ) as pilot:
        assert pilot.wait(120) == 71
    assert "NO_SUCH_QUEUE" in one_line_error(pilot)


@pytest.mark.parametrize(("field", "value", "code"), [("status", "offline", 83), ("state", "DISABLED", 78)])
def test_queue_that_takes_no_jobs(
    panda: LocalPanda, tmp_path: Path, field: str, value: str, code: int
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    queue = {
        "LOCAL": {
            "nickname": "LOCAL",
            "panda_resource": "LOCAL",
            "state": "ACTIVE",
            "status": "online",
            field: value,
        }
    }
    (home / "cric_pandaqueues.json").write_text(json.dumps(queue))
    with start_pilot(panda, home, *PROCESS) as pilot:
        assert pilot.wait() == code, pilot.text()
    assert value in one_line_error(pilot)
    assert [w.status for w in panda.store.workers()] == ["started", "finished"]


def test_server_unreachable(panda: LocalPanda, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "cric_pandaqueues.json").write_text(json.dumps(panda.cric.queue("LOCAL")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with start_pilot(url, home, *PROCESS, "-x", "1") as pilot:
        assert pilot.wait(60) == 79, pilot.text()
    assert "127.0.0.1" in pilot.text()
    assert "Traceback" not in pilot.text()


def test_server_that_answers_html(panda: LocalPanda, tmp_path: Path) -> None:
    panda.faults.add(Fault(call="acquire_jobs", kind=FaultKind.HTML))
    with start_pilot(panda, tmp_path / "home", *PROCESS, "-x", "1") as pilot:
        assert pilot.wait(60) == 79, pilot.text()
    assert "Traceback" not in pilot.text()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"transformation": "", "jobPars": ""}, "transformation"),
        ({"logFile": "../../etc/passwd", "outFiles": "../../etc/passwd"}, "passwd"),
        ({"transformation": "https://evil.example/trf/x"}, "evil.example"),
    ],
)
def test_a_job_that_cannot_run_is_reported_failed(
    panda: LocalPanda, tmp_path: Path, change: dict[str, object], word: str
) -> None:
    job = panda.store.submit({**make(transformation=f"{panda.url}/trf/bash-c", parameters="true"), **change})
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        pilot.wait()
    row = panda.store.job(job)
    assert row.status == "failed", pilot.text()
    assert word in row.pilot_error[1]
    assert "Traceback" not in pilot.text()


def test_a_job_that_nobody_understands_is_not_the_end_of_the_pilot(panda: LocalPanda, tmp_path: Path) -> None:
    panda.cric.add_queue("LONG", timefloor=600)

    def submit_to_long(**change: str) -> int:
        definition = make(transformation=f"{panda.url}/trf/bash-c", parameters="true", queue="LONG")
        return panda.store.submit({**definition, **change})

    bad = [submit_to_long(logFile="../log.tgz", outFiles="../log.tgz") for _ in range(2)]
    good = submit_to_long()
    worse = [submit_to_long(logFile="a/b.tgz", outFiles="a/b.tgz") for _ in range(3)]
    rest = submit_to_long()
    with start_pilot(panda, tmp_path / "home", *PROCESS, queue="LONG") as pilot:
        assert pilot.wait(60) != 0, "three in a row: something is wrong with us"
    assert "Traceback" not in pilot.text()
    assert {panda.store.job(job).status for job in (*bad, *worse)} == {"failed"}
    assert panda.store.job(good).status == "finished", pilot.text()
    assert panda.store.job(rest).status == "activated"


def test_a_node_without_an_engine_does_not_fail_the_whole_queue(panda: LocalPanda, tmp_path: Path) -> None:
    panda.cric.add_queue("LONG", timefloor=600)
    jobs = [panda.store.submit(make(image="busybox:1", parameters="true", queue="LONG")) for _ in range(4)]
    with start_pilot(panda, tmp_path / "home", *PROCESS, queue="LONG") as pilot:
        assert pilot.wait() != 0
    assert [panda.store.job(job).status for job in jobs] == ["failed", "failed", "activated", "activated"]
    assert "2 jobs in a row could not be run on this node" in pilot.text()


def test_image_job_without_an_engine(panda: LocalPanda, tmp_path: Path) -> None:
    job = panda.store.submit(make(image="busybox:1", parameters="true"))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    code, diag = panda.store.job(job).pilot_error
    assert code == 1384
    assert "no container engine" in diag


def test_docker_asked_for_and_not_there(panda: LocalPanda, tmp_path: Path) -> None:
    environment = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    with start_pilot(panda, tmp_path / "home", "--engine", "docker", environment=environment) as pilot:
        assert pilot.wait() != 0
    assert "/nowhere/docker.sock" in one_line_error(pilot)


def test_unreadable_proxy(panda: LocalPanda, tmp_path: Path) -> None:
    environment = {"X509_USER_PROXY": str(tmp_path / "no-such-proxy")}
    with start_pilot(panda, tmp_path / "home", *PROCESS, environment=environment) as pilot:
        assert pilot.wait() == 68, pilot.text()
    assert "no-such-proxy" in one_line_error(pilot)


def test_a_log_that_links_to_a_secret_is_not_shipped(panda: LocalPanda, tmp_path: Path) -> None:
    secret = tmp_path / "key.json"
    secret.write_text("hunter2-hunter2\n")
    target = tmp_path / "records.jsonl"
    job = submit(panda, f"ln -s {secret} payload-log.json; sleep 1")
    with start_pilot(
        panda,
        tmp_path / "home",
        *PROCESS,
        "--use-realtime-logging",
        "--realtime-logging-server",
        f"file;{target}",
        "--realtime-interval",
        "0.2",
        environment={"REALTIME_LOGFILES": "payload-log.json"},
    ) as pilot:
        assert pilot.wait() == 0
    assert panda.store.job(job).status == "finished"
    assert not target.exists() or "hunter2" not in target.read_text()
    kept = [p for p in (panda.folder / "logs").rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]
    assert kept == []
