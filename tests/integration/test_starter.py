"""The starter as a process: real signals, the real wrapper, an obedient pilot."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pilot_core.base.procs import alive
from pilot_core.ledger import FILE_NAME
from tests.fakes.patience import stated
from tests.fakes.pilot.process import Starter, wait_for
from tests.fakes.pilot.web import Web, serve


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    made = Starter(tmp_path)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        yield running


def test_tarball_runs_as_pilot3_pilot_py_with_todays_options(starter: Starter) -> None:
    assert starter.run(submit_mode="PULL", resourceType="SCORE") == 0
    note = starter.note()
    assert note["program"] == "pilot3/pilot.py"
    assert note["cwd"] == str(starter.home)
    assert note["argv"] == [
        *("-q", "TEST_QUEUE", "-i", "PR", "-j", "managed", "--pilot-user=rubin", "-x", "3", "-v", "5"),
        *("--resource-type", "SCORE", "-w", "generic", "--pilot-user", "rubin", "--url=http://127.0.0.1:9"),
        *("-d", "--harvester-submit-mode", "PULL", "--allow-same-user=False", "-t"),
    ]
    # exec: the wrapper has become the pilot, in a group of its own.
    assert note["pid"] == note["pgid"]
    assert b"fake pilot is up\n" in starter.log.read_bytes()
    assert (starter.tmp / "termination-log").read_text() == "the pilot exited with 0\n"


def test_options_with_spaces_and_quotes_arrive_as_they_were(starter: Starter) -> None:
    strange = "a b 'c' \"d\" $(touch pwned) `id` *"
    assert starter.run(PILOT_EXTRA_OPTIONS=f"--extra {shlex.quote(strange)}") == 0
    argv = starter.note()["argv"]
    assert isinstance(argv, list)
    assert argv[-2:] == ["--extra", strange]
    assert not list(starter.tmp.rglob("pwned"))


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code_is_the_pilots(starter: Starter, code: int) -> None:
    assert starter.run(FAKE_EXIT=str(code)) == code


def test_the_termination_log_names_the_cause(starter: Starter) -> None:
    said = starter.tmp / "said"
    said.write_text("2026-11-21 23:20:02,810 | ERROR    | no queue data for TEST_QUEUE\nbye\n")
    assert starter.run(FAKE_SAY=str(said), FAKE_EXIT="71") == 71
    words = (starter.tmp / "termination-log").read_text()
    assert words == "the pilot exited with 71: no queue data for TEST_QUEUE\n"


def test_pilot_killed_by_a_signal_gives_128_plus_its_number(starter: Starter) -> None:
    assert starter.run(FAKE_KILL_SELF="9") == 137
    assert "was killed by SIGKILL" in (starter.tmp / "termination-log").read_text()


def test_every_byte_of_the_pilot_is_in_log_and_stdout(starter: Starter) -> None:
    junk = b"".join(bytes(range(256)) * 3 + b"\r\n\0 line %d \xff\xfe\n" % n for n in range(3000))
    said = starter.tmp / "said"
    said.write_bytes(junk)
    assert starter.run(FAKE_SAY=str(said)) == 0
    log = starter.log.read_bytes()
    assert junk in log
    assert log == starter.out


def test_sigterm_reaches_the_pilot_and_ends_with_143(starter: Starter) -> None:
    starter.start(FAKE_RUN_S="60")
    wait_for(lambda: starter.notes("up"))
    began = time.monotonic()
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert time.monotonic() - began < stated(3.0)
    assert starter.notes("signal") == ["SIGTERM"]
    assert b"SIGTERM received and passed on" in starter.log.read_bytes()


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT", "SIGXCPU", "SIGHUP"])
def test_other_ending_signals_are_passed_on(starter: Starter, name: str) -> None:
    signum = signal.Signals[name]
    starter.start(FAKE_RUN_S="60")
    wait_for(lambda: starter.notes("up"))
    assert starter.process is not None
    starter.process.send_signal(signum)
    assert starter.end() == 128 + signum


def test_usr1_and_usr2_are_passed_on_and_nobody_is_killed(starter: Starter) -> None:
    starter.start(FAKE_RUN_S="60", PILOT_GRACE_SECONDS="3")
    wait_for(lambda: starter.notes("up"))
    assert starter.process is not None
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        starter.process.send_signal(signum)
        wait_for(partial(seen, starter, signum.name))
    assert starter.process.poll() is None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143


def test_drain_waits_for_the_pilot(starter: Starter) -> None:
    prolog = starter.tmp / "prolog"
    prolog.write_text("touch here; until [[ -e go ]]; do sleep 0.1; done\n")
    starter.start(FAKE_RUN_S="60", LSST_LOCAL_PROLOG=str(prolog))
    wait_for((starter.home / "here").exists)
    assert starter.process is not None
    starter.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: b"SIGUSR2 received" in starter.log.read_bytes())
    assert not starter.notes("up")
    (starter.home / "go").touch()
    wait_for(partial(seen, starter, "SIGUSR2"))
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143


def test_who_is_started_with_nohup_stays(starter: Starter) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        starter.start(FAKE_RUN_S="60")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: starter.notes("up"))
    assert starter.process is not None
    starter.process.send_signal(signal.SIGHUP)
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert starter.notes("signal") == ["SIGTERM"]


def test_pilot_that_ignores_sigterm_is_killed_in_time(starter: Starter) -> None:
    starter.start(FAKE_RUN_S="60", FAKE_ON_TERM="ignore", PILOT_GRACE_SECONDS="3")
    wait_for(lambda: starter.notes("up"))
    began = time.monotonic()
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert 0.9 < time.monotonic() - began < stated(3.5)
    assert b"did not end in time" in starter.log.read_bytes()


def test_second_sigterm_shortens(starter: Starter) -> None:
    starter.start(FAKE_RUN_S="60", FAKE_ON_TERM="ignore", PILOT_GRACE_SECONDS="60")
    wait_for(lambda: starter.notes("up"))
    assert starter.process is not None
    began = time.monotonic()
    starter.process.send_signal(signal.SIGTERM)
    wait_for(lambda: starter.notes("signal"))
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert time.monotonic() - began < stated(6.0)


def test_what_the_pilot_leaves_running_is_killed(starter: Starter) -> None:
    began = time.monotonic()
    assert starter.run(FAKE_ORPHAN="1") == 0
    assert time.monotonic() - began < stated(10.0)
    (orphan,) = starter.notes("orphan")
    assert isinstance(orphan, int)
    assert not alive(orphan)
    assert b"1 processes that the pilot left running were killed" in starter.log.read_bytes()


@pytest.mark.skipif(os.getuid() != 0, reason="a pid namespace needs root")
def test_as_process_1_it_reaps_forwards_and_passes_the_code_on(starter: Starter) -> None:
    starter.env.update(FAKE_RUN_S="60", FAKE_ORPHAN="1")
    starter.process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "pilot_starter"],
        env=starter.env,
        cwd=starter.tmp,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for(lambda: starter.notes("up"))
    (inner,) = [
        int(pid)
        for pid in subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(starter.process.pid)]).split()
    ]
    # A process that loses its parent becomes process 1's, and must not stay a
    # zombie.
    subprocess.run(
        ["nsenter", "-t", str(inner), "-p", "-m", "sh", "-c", "(sleep 0.2 &) ; exit 0"],
        check=True,
        timeout=10,
    )
    wait_for(lambda: zombies_below(inner) == 0, 5)
    os.kill(inner, signal.SIGTERM)
    assert starter.end() == 143


def seen(starter: Starter, name: str) -> bool:
    return name in starter.notes("signal")


def zombies_below(pid: int) -> int:
    with contextlib.suppress(subprocess.CalledProcessError):
        states = subprocess.check_output(["ps", "-o", "stat=", "--ppid", str(pid)], text=True).split()
        return sum(state.startswith("Z") for state in states)
    return 0


def test_healthcheck_and_status_of_a_running_worker(starter: Starter) -> None:
    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pilot_starter", *words],
            env=starter.env,
            cwd=starter.tmp,
            capture_output=True,
            text=True,
            timeout=20,
        )

    assert ask("healthcheck").returncode == 1
    starter.start(FAKE_RUN_S="60")
    wait_for(lambda: starter.notes("up"))
    assert ask("healthcheck").returncode == 0
    os.utime(starter.log, (1, 1))
    silent = ask("healthcheck")
    assert silent.returncode == 1
    assert "nothing moved" in silent.stdout
    (starter.home / "pilot_heartbeat.json").touch()
    assert ask("healthcheck").returncode == 0
    status = json.loads(ask("status").stdout)
    assert status["phase"] == "running"
    assert status["pilot_pid"] == starter.note()["pid"]
    state = starter.home / FILE_NAME
    state.write_text("of a pilot from the future")
    assert "Expecting value" in json.loads(ask("status").stdout)["job"]["unreadable"]
    assert state.exists()
    state.unlink()
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert json.loads(ask("status").stdout)["phase"] == "ended"


def test_worker_folder_is_removed_unless_it_was_given(starter: Starter) -> None:
    assert starter.run() == 0
    assert (starter.home / "pilot3").exists()
    assert not (starter.home / ".credentials").exists()
    del starter.env["PILOT_WORK_DIR"]
    assert starter.run() == 0
    assert not list(starter.tmp.glob("panda_*"))


def test_the_folder_of_a_killed_worker_goes_with_a_later_one(starter: Starter) -> None:
    del starter.env["PILOT_WORK_DIR"]
    starter.start(FAKE_RUN_S="60")
    wait_for(lambda: starter.notes("up"))
    (left,) = starter.tmp.glob("panda_*")
    pilot = starter.notes("pid")[0]
    assert isinstance(pilot, int)
    # A pilot of another make outlives its starter, and so does its folder.
    starter.kill()
    for lives in (True, False):
        for path in (left / "starter.lock", left):
            os.utime(path, (1e9, 1e9))
        assert starter.run(FAKE_RUN_S="0", PILOT_WORKER_LOG=str(starter.tmp / "second.log")) == 0
        assert left.exists() == lives
        with contextlib.suppress(ProcessLookupError):
            os.kill(pilot, signal.SIGKILL)
        wait_for(lambda: not alive(pilot))


def test_second_worker_on_a_node_gets_a_log_of_its_own(starter: Starter) -> None:
    starter.start(FAKE_RUN_S="60")
    wait_for(lambda: starter.notes("up"))
    second = subprocess.run(
        [sys.executable, "-m", "pilot_starter"],
        env={**starter.env, "PILOT_WORK_DIR": str(starter.tmp / "home2"), "FAKE_RUN_S": "0"},
        cwd=starter.tmp,
        capture_output=True,
        timeout=20,
    )
    assert second.returncode == 0
    assert b"fake pilot is up" in (starter.tmp / "home2" / "wrapper-wid.log").read_bytes()
    assert starter.log.read_bytes().count(b"fake pilot is up") == 1


def test_second_worker_in_a_folder_is_turned_away(starter: Starter) -> None:
    proxy = starter.tmp / "proxy"
    proxy.write_text("PEM")
    starter.start(FAKE_RUN_S="60", proxySecretPath=str(proxy))
    wait_for(lambda: starter.notes("up"))
    second = subprocess.run(
        [sys.executable, "-m", "pilot_starter"],
        env=starter.env,
        cwd=starter.tmp,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 66
    assert f"another worker is running in {starter.home}" in second.stderr
    assert (starter.home / ".credentials/x509up").exists()
    assert starter.process is not None
    assert starter.process.poll() is None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert len(starter.notes("argv")) == 1


def test_push_job_is_copied_where_the_pilot_looks(starter: Starter) -> None:
    folder = starter.tmp / "jobconfig"
    folder.mkdir()
    (folder / "pandaJobData.out").write_text("PandaID=1")
    assert starter.run(submit_mode="PUSH") == 0
    argv = starter.note()["argv"]
    assert isinstance(argv, list)
    assert argv[argv.index("--harvester-datadir") + 1] == str(starter.home)
    assert (starter.home / "pandaJobData.out").read_text() == "PandaID=1"


def test_secrets_stay_out_of_the_log(starter: Starter) -> None:
    token = starter.tmp / "token"
    token.write_text("very-secret-token-value")
    starter.start(
        proxyContent="-----BEGIN CERTIFICATE-----,abc,-----END CERTIFICATE-----",
        PGPASSWORD="hunter22",
        AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI",
        SOME_URL="https://user:geheim@host/",
        PANDA_AUTH_TOKEN=str(token),
        PANDA_AUTH_ORIGIN="rubin.pilot",
        FAKE_RUN_S="60",
    )
    wait_for(lambda: starter.notes("up"))
    env = starter.note()["env"]
    assert isinstance(env, dict)
    assert "proxyContent" not in env
    proxy = Path(env["X509_USER_PROXY"])
    assert proxy.read_text().splitlines()[1] == "abc"
    assert proxy.stat().st_mode & 0o777 == 0o400
    assert Path(env["PANDA_AUTH_TOKEN"]).read_text() == "very-secret-token-value"
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert starter.end() == 143
    assert not proxy.exists()
    log = starter.log.read_bytes()
    for secret in (b"hunter22", b"wJalr", b"geheim", b"BEGIN CERTIFICATE", b"very-secret"):
        assert secret not in log
    assert b"PGPASSWORD=***" in log


@pytest.mark.parametrize(
    ("env", "code", "words"),
    [
        ({"pandaQueueName": "$pandaQueueName"}, 65, "no queue"),
        ({"proxySecretPath": "/nowhere/x509"}, 68, "/nowhere/x509: No such file"),
        ({"PILOT_WORK_DIR": "/proc/nowhere"}, 66, "/proc/nowhere"),
        ({"submit_mode": "PUSCH"}, 65, "submit_mode"),
        ({"PILOT_SOURCE": "file:///nowhere.tgz", "PILOT_SHA256": "0" * 64}, 1, "/nowhere.tgz"),
    ],
)
def test_bad_input_is_one_clear_line(starter: Starter, env: dict[str, str], code: int, words: str) -> None:
    assert starter.run(**env) == code
    lines = [line for line in starter.out.decode().splitlines() if words in line]
    assert lines
    assert "Traceback" not in starter.out.decode()
    assert not starter.notes("argv")
