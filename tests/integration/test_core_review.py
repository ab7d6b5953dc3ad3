"""What goes wrong at 3 a.m.: kills at the wrong moment, hanging servers,
hostile payloads, two of a kind.
"""

import json
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_core.ledger import FILE_NAME, LOCK_NAME
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
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=command, encode=True, **more)
    )


def finals(panda: LocalPanda, job: int) -> list[str]:
    return [u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")]


def stored(panda: LocalPanda, job: int, name: str) -> Path:
    return panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / name


def wait_for(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def stage(home: Path) -> str:
    """The job's stage as the ledger has it."""
    try:
        return str(json.loads((home / FILE_NAME).read_text())["held"]["stage"])
    except FileNotFoundError:
        return ""


def seconds_to_end(pilot: PilotProcess, number: signal.Signals = signal.SIGTERM) -> float:
    """Send a signal; seconds until the pilot is gone with the signal's exit
    code.
    """
    began = time.monotonic()
    pilot.signal(number)
    assert pilot.wait(40) == 128 + number, pilot.text()[-3000:]
    return time.monotonic() - began


# --- a signal in each phase ---------------------------------------------------


def test_a_signal_while_queue_data_hang(panda: LocalPanda, tmp_path: Path) -> None:
    panda.faults.add(Fault(call="cric", kind=FaultKind.HANG, count=None, seconds=30))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        wait_for(lambda: bool(panda.faults.done))
        assert seconds_to_end(pilot) < stated(6.0)


def test_a_signal_while_the_server_hangs_on_everything(panda: LocalPanda, tmp_path: Path) -> None:
    panda.faults.add(Fault(call="acquire_jobs", kind=FaultKind.HANG, seconds=60))
    panda.faults.add(Fault(call="update_worker_status", kind=FaultKind.HANG, count=None, seconds=60))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        wait_for(lambda: any(struck.call == "acquire_jobs" for struck in panda.faults.done))
        assert seconds_to_end(pilot) < stated(11.5)


def test_a_signal_while_the_transformation_hangs(panda: LocalPanda, tmp_path: Path) -> None:
    panda.faults.add(Fault(call="transformation", kind=FaultKind.HANG, count=None, seconds=60))
    job = submit(panda, "true")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        wait_for(lambda: bool(panda.faults.done))
        assert seconds_to_end(pilot) < stated(11.5)
    assert finals(panda, job) == ["failed"]


def test_a_signal_while_a_heartbeat_hangs(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "sleep 300")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        panda.store.wait_status(job, "running", 20)
        panda.faults.add(
            Fault(call="update_job", kind=FaultKind.HANG, seconds=60, where={"job_status": "running"})
        )
        wait_for(lambda: bool(panda.faults.done))
        assert seconds_to_end(pilot) < stated(8.0)
    assert finals(panda, job) == ["failed"]


def test_a_signal_while_the_wrap_up_hangs(panda: LocalPanda, tmp_path: Path) -> None:
    """The report comes at once, and what could not be stored before it is
    stored after it.
    """
    home = tmp_path / "home"
    job = submit(panda, 'echo \'{"message": "x"}\' > payload-log.json')
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        options = ("--use-realtime-logging", "--realtime-logging-server", f"loki;{url}")
        environment = {"REALTIME_LOGFILES": "payload-log.json"}
        with start_pilot(panda, home, *PROCESS, *options, environment=environment) as pilot:
            wait_for(lambda: stage(home) == "wrapup")
            sent = time.time()
            assert seconds_to_end(pilot) < stated(11.5)
    update = next(u for u in panda.store.updates(job) if u.status == "failed")
    assert update.time_s - sent < stated(2.5)
    assert panda.store.job(job).pilot_error[0] == 1201
    assert finals(panda, job) == ["failed"]
    assert stored(panda, job, "payload.stdout").exists()
    assert "the server has the final report" in stored(panda, job, "pilotlog.txt").read_text()


def test_a_signal_while_the_final_report_waits_for_its_next_attempt(
    panda: LocalPanda, tmp_path: Path
) -> None:
    job = submit(panda, "true")
    panda.faults.add(
        Fault(call="update_job", status=503, retry_after="100", where={"job_status": "finished"})
    )
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        pilot.wait_text("attempt 2 follows")
        assert seconds_to_end(pilot) < stated(8.0)
    assert finals(panda, job) == ["finished"]


def test_two_different_signals_end_with_the_code_of_the_first(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "trap '' TERM; while :; do sleep 1; done")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        panda.store.wait_status(job, "running", 20)
        pilot.signal(signal.SIGTERM)
        pilot.wait_text("are left for job")
        pilot.signal(signal.SIGINT)
        assert pilot.wait(60) == 143
    assert finals(panda, job) == ["failed"]
    assert panda.store.job(job).pilot_error[0] == 1201


# --- draining -----------------------------------------------------------------


def test_drain_while_a_job_is_being_handed_out_holds_after_it(panda: LocalPanda, tmp_path: Path) -> None:
    first, second = submit(panda, "true"), submit(panda, "true")
    panda.faults.add(Fault(call="acquire_jobs", kind=FaultKind.SLOW, seconds=2.0))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        wait_for(lambda: bool(panda.faults.done))
        pilot.signal(signal.SIGUSR2)
        assert pilot.wait(30) == 0
    assert panda.store.job(first).status == "finished"
    assert panda.store.job(second).status == "activated"


def test_the_drain_file_prevents_the_first_request(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "true")
    (tmp_path / "drain").touch()
    with start_pilot(panda, tmp_path / "home", *PROCESS, "--drain-file", str(tmp_path / "drain")) as pilot:
        assert pilot.wait(30) == 0
    assert panda.store.job(job).status == "activated"
    assert not panda.calls("acquire_jobs")


# --- what is owed -------------------------------------------------------------


def test_logs_of_a_killed_pilots_job_are_stored_by_the_next_one(panda: LocalPanda, tmp_path: Path) -> None:
    home = tmp_path / "home"
    job = submit(panda, "echo so far; sleep 300")
    with start_pilot(panda, home, *PROCESS) as pilot:
        panda.store.wait_status(job, "running", 20)
        out = home / f"PanDA_Pilot-{job}" / "payload.stdout"
        wait_for(lambda: out.exists() and out.read_text() == "so far\n")
        pilot.signal(signal.SIGKILL)
        pilot.wait()
    with start_pilot(panda, home, *PROCESS) as pilot:
        assert pilot.wait() == 0
    assert finals(panda, job) == ["failed"]
    assert stored(panda, job, "payload.stdout").read_text() == "so far\n"
    row = panda.store.job(job)
    assert row.log_url.endswith(f"PandaJob_{job}/pilotlog.txt")
    assert "died while" in row.pilot_error[1]


def test_a_report_that_was_not_delivered_is_not_forgotten_for_the_next_job(
    panda: LocalPanda, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first, second = submit(panda, "true"), submit(panda, "true")
    fault = Fault(call="update_job", status=503, count=None, where={"job_status": "finished"})
    panda.faults.add(fault)
    with start_pilot(panda, home, *PROCESS, "--final-timeout", "2") as pilot:
        assert pilot.wait(30) != 0
    assert panda.store.job(second).status == "activated"
    panda.faults.clear()
    with start_pilot(panda, home, *PROCESS) as pilot:
        assert pilot.wait(30) == 0
    assert [finals(panda, job) for job in (first, second)] == [["finished"], ["finished"]]


def test_a_second_pilot_in_the_same_directory_is_turned_away(panda: LocalPanda, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start_pilot(panda, home, *PROCESS, "-v", "100") as first:
        wait_for(lambda: bool(panda.calls("acquire_jobs")))
        asked = len(panda.calls("acquire_jobs"))
        with start_pilot(panda, home, *PROCESS) as second:
            assert second.wait(20) != 0
            assert f"another pilot is running in {home}" in second.text()
        assert len(panda.calls("acquire_jobs")) == asked
        assert first.process.poll() is None
    assert (home / LOCK_NAME).exists()


# --- hostile and unlucky payloads ----------------------------------------------


def test_a_fifo_and_links_in_place_of_the_pilots_files(panda: LocalPanda, tmp_path: Path) -> None:
    secret = tmp_path / "proxy"
    secret.write_text("the pilot's own credential\n")
    steps = (
        "rm payload.stderr pilotlog.txt",
        "mkfifo payload.stderr",
        f"ln -s {shlex.quote(str(secret))} pilotlog.txt",
        f"ln -s {shlex.quote(str(secret))} jobReport.json",
        "exit 3",
    )
    job = submit(panda, "; ".join(steps))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait(30) == 0
    row = panda.store.job(job)
    assert (row.status, row.exit_code) == ("failed", 3)
    assert "credential" not in row.pilot_log + row.metadata
    for path in stored(panda, job, "x").parent.iterdir():
        assert "credential" not in path.read_text()


def test_a_value_of_the_users_secrets_is_never_written(panda: LocalPanda, tmp_path: Path) -> None:
    secrets = json.dumps({"MY_TOKEN": "hunter2-hunter2", "file": json.dumps({"key": "nested-value"})})
    job = submit(panda, "echo 'Error: hunter2-hunter2 nested-value' >&2; exit 1", secrets=secrets)
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait(30) == 0
    row = panda.store.job(job)
    assert row.status == "failed"
    logs = {path.name: path.read_text() for path in stored(panda, job, "x").parent.iterdir()}
    assert logs["payload.stderr"] == "Error: *** ***\n"
    told = (*row.pilot_error[1:], row.pilot_log, pilot.text(), *logs.values())
    for text in told:
        assert "hunter2-hunter2" not in text
        assert "nested-value" not in text
    assert "***" in row.pilot_error[1]


@pytest.mark.parametrize("command", ["tail **x", "ls secret", "tail payload.stdout"])
def test_a_debug_command_never_costs_the_job(panda: LocalPanda, tmp_path: Path, command: str) -> None:
    # A name that is no UTF-8, and a folder that is gone as soon as it is seen.
    job = submit(panda, "touch $'\\xff.txt'; while sleep 0.01; do mkdir -p secret; rmdir secret; done")
    (tmp_path / "often.cfg").write_text("[Pilot]\ndebug_heartbeat: 0.3\n")
    environment = {"HARVESTER_PILOT_CONFIG": str(tmp_path / "often.cfg")}
    options = (*PROCESS, "--payload-grace", "1")
    with start_pilot(panda, tmp_path / "home", *options, environment=environment) as pilot:
        panda.store.wait_status(job, "running", 20)
        panda.store.set_command(job, command)
        seen = len(panda.store.updates(job))
        wait_for(lambda: len(panda.store.updates(job)) > seen + 3)
        assert not finals(panda, job), panda.store.job(job).pilot_error
        panda.store.kill(job)
        assert pilot.wait(30) == 0
    assert panda.store.job(job).pilot_error[0] == 1144
