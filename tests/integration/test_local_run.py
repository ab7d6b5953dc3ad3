"""`pilot-local` as a program: the demonstration, the server, its image."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from pilot_core.base.clock import SystemClock
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.image import DockerCli, ImageProblem
from pilot_core.local.server import LocalPanda
from pilot_core.local.worker import Worker, WorkerPlan

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "pilot_core" / "local" / "transformations"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def local(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pilot_core.local", *argv],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def demonstration(folder: Path, engine: str) -> str:
    command = [sys.executable, "-m", "pilot_core.local", "run", "--folder", str(folder), "--engine", engine]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_run_with_processes(tmp_path: Path) -> None:
    said = demonstration(tmp_path, "process")
    assert "engine    processes, as asked for" in said
    assert "each job ended as it should" in said
    assert said.splitlines()[-1].startswith(f"to see more: pilot-local status --folder {tmp_path};")
    done = local("status", "--folder", str(tmp_path))
    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == [
        "finished",
        "failed",
        "cancelled",
        "finished",
    ]


@pytest.mark.slow
@pytest.mark.docker
def test_run_with_docker(tmp_path: Path) -> None:
    said = demonstration(tmp_path, "docker")
    assert "engine    Docker" in said
    assert "each job ended as it should" in said
    ids = [line.split()[1] for line in said.splitlines() if line.startswith("submitted")]
    listed = subprocess.run(
        ["docker", "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Mounts}} {{.Labels}}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert not [panda_id for panda_id in ids if panda_id in listed.stdout]


def test_serve_until_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pilot_core.local", "serve", "--folder", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        alive = requests.get(f"{url}/server/panda/isAlive", timeout=10).text
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    assert alive == "alive=yes"
    assert process.returncode == 0
    assert rest.endswith("stopped\n")


def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    block = next(text for text in readme.split("```") if "pilot-local serve " in text)
    serve, *commands = [line.partition(" #")[0].strip() for line in block.strip().splitlines()]
    bin_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**ENVIRONMENT, "HOME": str(tmp_path), "PATH": bin_path}
    with subprocess.Popen(
        [*shlex.split(serve), "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("PanDA for one machine: http")
        done = [
            subprocess.run(
                ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=True
            ).stdout
            for line in commands
        ]
        server.terminate()
    panda_id = done[0].strip()
    assert "job " + panda_id + " ended failed with code 1305" in done[1]
    assert re.search(rf"^{panda_id} +LOCAL +failed .* 3 ", done[2], re.MULTILINE)
    assert "payload.stdout (6 bytes)\nhello\n" in done[2]


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    done = local("serve", "--folder", str(tmp_path), "--host", "192.0.2.1")
    assert done.returncode == 1
    assert done.stderr == "pilot-local: cannot serve on 192.0.2.1:25080: Cannot assign requested address\n"


def test_work_hands_on_the_environment_that_is_named(tmp_path: Path) -> None:
    with LocalPanda(tmp_path) as panda:
        names = ("DAF_BUTLER_INDEX", "PYTHONPATH", "FOO_BAR", "OTHER", "FOO_TOKEN")
        echo = "; ".join(f"echo {name}=${name}" for name in names)
        assert local("submit", "--folder", str(tmp_path), "--command", echo).returncode == 0
        path = f"{ROOT}:/nowhere"
        done = local(
            "work",
            *("--folder", str(tmp_path), "--engine", "process", "--pass-environment", "PYTHONPATH,FOO_*"),
            **dict.fromkeys(names, "given") | {"PYTHONPATH": path},
        )
        (job,) = panda.store.jobs()
    assert (done.returncode, job.status) == (0, "finished"), done.stderr
    said = (tmp_path / "logs" / "LOCAL" / f"PandaJob_{job.panda_id}" / "payload.stdout").read_text()
    # The first passes everywhere, the last only by its whole name.
    assert said.split() == [
        "DAF_BUTLER_INDEX=given",
        f"PYTHONPATH={path}",
        "FOO_BAR=given",
        "OTHER=",
        "FOO_TOKEN=",
    ]


def test_work_does_not_wait_for_a_server_that_is_gone(tmp_path: Path) -> None:
    with LocalPanda(tmp_path) as panda:
        panda.faults.add(Fault("acquire_jobs", FaultKind.RESET, count=None))
        done = local("work", "--folder", str(tmp_path), "--engine", "process")
        assert len(panda.faults.done) == 1
    assert done.returncode
    done = local("work", "--folder", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is `pilot-local serve` running?" in done.stderr


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    with LocalPanda(tmp_path) as panda:
        panda.store.submit({})
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pilot_core.local", "status", "--folder", str(tmp_path)],
                env=ENVIRONMENT,
                stdout=writer,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
        finally:
            os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_pilot_by_hand_that_serve_names(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pilot_core.local", "serve", "--folder", str(tmp_path / "p")]
    environment = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [*command, "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("a pilot by hand"))
        try:
            submitted = local("submit", "--folder", str(tmp_path / "p"), "--command", "echo hello")
            hand = line.removeprefix("a pilot by hand").strip() + " --max-jobs 1 --engine process"
            subprocess.run(
                ["bash", "-c", hand],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                timeout=120,
                check=True,
            )
            logs = local("logs", "--folder", str(tmp_path / "p"))
        finally:
            server.terminate()
    assert submitted.returncode == 0
    assert "payload.stdout (6 bytes)\nhello\n" in logs.stdout


def test_worker_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    plan = WorkerPlan(url="http://127.0.0.1:9", folder=tmp_path / "w", environment=os.environ)
    worker = Worker(plan, command=["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"])
    worker.start()
    clock, end = SystemClock(), SystemClock().monotonic() + 10
    while "up" not in plan.output.read_text() and clock.monotonic() < end:
        clock.wait(threading.Event(), 0.01)
    assert worker.poll() is None
    assert worker.stop(grace_s=0.2) == -signal.SIGKILL
    assert worker.poll() == -signal.SIGKILL
    assert (plan.folder / "pilot.cfg").read_text().startswith("[Pilot]")


def test_without_docker(tmp_path: Path) -> None:
    with pytest.raises(ImageProblem, match="there is no docker command"):
        DockerCli({"PATH": str(tmp_path)}).version()


@pytest.mark.docker
def test_image_of_this_machines_programs(tmp_path: Path) -> None:
    docker = DockerCli(os.environ)
    name = docker.import_image([SCRIPTS / "demo"])
    try:
        done = subprocess.run(
            [
                "docker",
                "run",
                "--rm",
                name,
                "/bin/sh",
                "-c",
                "cd /tmp && demo fail 2>/dev/null; cat payload-log.json",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.count("\n") == 2
        docker.check_mount(name, tmp_path / "seen")
    finally:
        docker.remove_image(name)
