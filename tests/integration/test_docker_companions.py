"""Scripts that call `docker run` themselves."""

import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from container.companions import CompanionEngine
from container.contract import KILL_S, Container
from container.docker_engine import DockerEngine
from container.process_engine import ProcessEngine
from container.spec import ContainerSpec, Mount
from pilot_core.base.procs import alive
from tests.fakes.docker_bench import CLOCK, Bench, until
from tests.fakes.images import TEST_LABEL
from tests.fakes.patience import stated

pytestmark = pytest.mark.docker


class CompanionBench(Bench):
    """Scripts beside the pilot, on the real client."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shared = folder / "panda" / "1234"
        self.shared.mkdir(parents=True)
        self.companions = CompanionEngine(ProcessEngine(clock=CLOCK), self.engine, clock=CLOCK)

    def script(self, script: str, **more: object) -> Container:
        client = shutil.which("docker")
        assert client
        environment = {
            "PATH": f"{Path(client).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "IMAGE": self.image,
        }
        mounts = (Mount(str(self.shared), str(self.shared)),)
        spec = self.spec(script, environment=environment, mounts=mounts, argv=("/bin/bash", "-c", script))
        return self.companions.start(replace(spec, **more))  # type: ignore[arg-type]

    def past_the_shim(self) -> str:
        """The real client by its path: no label of ours."""
        return f"{shutil.which('docker')} run --network none --label {TEST_LABEL}={self.labels[TEST_LABEL]}"


@pytest.fixture
def companions(tmp_path: Path) -> Iterator[CompanionBench]:
    with CompanionBench(tmp_path) as bench:
        yield bench


DEAF = "sh -c \"trap '' TERM; echo up; while :; do sleep 0.05; done\""


def test_a_script_s_code_and_output_are_its_container_s(companions: CompanionBench) -> None:
    container = companions.script("docker run --rm --network none $IMAGE sh -c 'echo up; exit 42'")
    end = container.wait(30)
    assert end is not None
    assert (end.code, end.lost) == (42, "")
    assert companions.stdout.read_bytes() == b"up\n"
    container.remove()


def test_stop_ends_script_and_container(companions: CompanionBench) -> None:
    container = companions.script(f"docker run --rm --network none $IMAGE {DEAF}")
    companions.up()
    assert len(companions.all()) == 1
    begun = time.monotonic()
    container.stop(0.5)
    assert time.monotonic() - begun < stated(0.5 + KILL_S)
    assert not companions.all()
    container.remove()


def test_a_container_whose_client_was_killed_is_stopped(companions: CompanionBench) -> None:
    container = companions.script(
        f"docker run --network none $IMAGE {DEAF} & echo $! > {companions.folder}/pid; wait"
    )
    companions.up()
    os.kill(int((companions.folder / "pid").read_text()), signal.SIGKILL)
    end = container.wait(20)
    assert end is not None
    assert not companions.all()
    container.remove()


def test_a_container_past_the_shim_is_found_by_its_mount(companions: CompanionBench) -> None:
    run = companions.past_the_shim()
    container = companions.script(
        f"{run} -d -v {companions.shared}:/x $IMAGE {DEAF} >/dev/null; echo up; sleep 100"
    )
    companions.up()
    assert len(companions.all()) == 1
    assert container.stop(0.2).code == 143
    assert not companions.all()
    container.remove()


def test_another_payload_s_container_is_left_alone(companions: CompanionBench) -> None:
    # It mounts our folder's neighbour, and one that is labelled mounts even
    # ours.
    other = companions.engine.start(
        companions.spec("exec sleep 100", mounts=(Mount(str(companions.shared), "/x"),))
    )
    container = companions.script("echo up; exec sleep 100")
    companions.up()
    container.stop(1)
    assert other.wait(0) is None
    assert len(companions.all()) == 1
    container.remove()
    other.stop(0)
    other.remove()


def test_a_container_left_running_by_the_script_is_removed(companions: CompanionBench) -> None:
    container = companions.script("docker run -d --network none $IMAGE sleep 100 >/dev/null; exit 6")
    end = container.wait(30)
    assert end is not None
    assert end.code == 6
    assert not companions.all()
    container.remove()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1])
def test_a_container_that_is_being_created_is_removed_too(companions: CompanionBench, delay: float) -> None:
    container = companions.script("echo up; docker run --network none $IMAGE sleep 100")
    companions.up()
    threading.Event().wait(delay)
    container.stop(0)
    threading.Event().wait(0.5)
    assert not companions.all()
    container.remove()


def test_stats_are_the_sum(companions: CompanionBench) -> None:
    burn = "i=0; while [ $i -lt 600000 ]; do i=$((i+1)); done; echo up; sleep 100"
    container = companions.script(f"docker run --rm --network none $IMAGE sh -c '{burn}'")
    companions.up()
    stats = container.stats()
    assert "proc" in stats.source
    assert "cgroup" in stats.source
    assert stats.cpu_s is not None
    assert stats.cpu_s > 0.2
    end = container.stop(0)
    assert end.cpu_s is not None
    assert end.cpu_s >= stats.cpu_s * 0.95
    container.remove()


def test_out_of_memory_of_a_container_that_is_gone(companions: CompanionBench) -> None:
    script = "docker run --rm --network none $IMAGE sh -c 'x=xxxxxxxx; while :; do x=$x$x; done'"
    container = companions.script(script, memory_bytes=30_000_000)
    end = container.wait(30)
    assert end is not None
    assert end.code == 137
    assert end.out_of_memory
    container.remove()


def plain(folder: Path, script: str) -> ContainerSpec:
    """A script that knows nothing of Docker."""
    return ContainerSpec(
        name=f"{TEST_LABEL}-{uuid.uuid4().hex[:12]}",
        argv=("/bin/sh", "-c", script),
        workdir="/",
        stdout=folder / "o",
        stderr=folder / "e",
        environment={"PATH": "/usr/bin:/bin"},
    )


def test_docker_that_is_away_costs_a_plain_script_nothing(tmp_path: Path) -> None:
    docker_engine = DockerEngine(base_url=f"unix://{tmp_path}/none.sock", clock=CLOCK)
    engine = CompanionEngine(ProcessEngine(clock=CLOCK), docker_engine, clock=CLOCK)
    container = engine.start(plain(tmp_path, "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"))
    until(lambda: (tmp_path / "o").read_bytes() == b"up\n")
    assert container.stats().cpu_s is not None
    end = container.stop(10)
    assert (end.code, end.lost) == (7, "")
    container.remove()
    engine.close()


def test_no_docker_behaves_as_processes(tmp_path: Path) -> None:
    engine = CompanionEngine(ProcessEngine(clock=CLOCK), None, clock=CLOCK)
    container = engine.start(plain(tmp_path, "echo $PATH; exit 4"))
    end = container.wait(10)
    assert end is not None
    assert (end.code, end.out_of_memory) == (4, False)
    assert (tmp_path / "o").read_text() == "/usr/bin:/bin\n"
    container.remove()


def test_descendants_of_a_dead_client_s_script_do_not_survive(companions: CompanionBench) -> None:
    pid = companions.folder / "pid"
    container = companions.script(
        f"(setsid sleep 100 & echo $! > {pid}); docker run --rm $IMAGE sh -c 'echo up; sleep 99'"
    )
    companions.up()
    container.stop(0)
    assert not alive(int(pid.read_text()))
    container.remove()
