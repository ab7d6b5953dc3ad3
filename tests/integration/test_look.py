"""What an operator sees of a running payload: on this node, in a container,
and in those that the payload has started itself.
"""

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.companions import CompanionEngine
from container.contract import Container, Engine
from container.docker_engine import DockerEngine
from container.errors import EngineError
from container.process_engine import ProcessEngine
from container.spec import ContainerSpec, Mount
from pilot_core.base.clock import SystemClock
from tests.fakes.images import TEST_LABEL, busybox_image

SLEEPER = "sleep 1717"
DOCKER = pytest.mark.docker

Start = Callable[..., Container]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a script and waits until it says that it is up."""
    clock = SystemClock()
    engines: list[Engine] = []
    containers: list[Container] = []

    def begin(engine: Engine, script: str, *, image: str = "", init: bool = False) -> Container:
        engines.append(engine)
        (tmp_path / "bin").mkdir(exist_ok=True)
        stdout = tmp_path / "stdout"
        spec = ContainerSpec(
            name=f"{TEST_LABEL}-{uuid.uuid4().hex[:12]}",
            argv=("/bin/sh", "-c", script),
            workdir="/",
            stdout=stdout,
            stderr=tmp_path / "stderr",
            image=image,
            init=init,
            environment={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
            mounts=(Mount(str(tmp_path / "bin"), str(tmp_path / "bin")),),
            labels={TEST_LABEL: uuid.uuid4().hex},
        )
        containers.append(engine.start(spec))
        end = time.monotonic() + 60
        while b"up" not in stdout.read_bytes():
            assert time.monotonic() < end
            clock.wait(threading.Event(), 0.05)
        return containers[-1]

    yield begin
    for container in containers:
        container.stop(0.0)
        container.remove()
    for engine in engines:
        engine.close()


def test_processes_of_this_node(start: Start) -> None:
    table = start(ProcessEngine(clock=SystemClock()), f"{SLEEPER} & echo up; wait").processes()
    assert table.startswith("    PID    PPID  CPU_S  RSS_MB COMMAND\n")
    assert len(table.splitlines()) == 3
    assert SLEEPER in table


def test_a_backtrace_on_this_node(start: Start) -> None:
    container = start(ProcessEngine(clock=SystemClock()), "echo up; exec sleep 1717")
    if shutil.which("gdb") is None:
        with pytest.raises(EngineError, match="gdb is not installed here"):
            container.backtrace(None)
        return
    text = container.backtrace(None)
    # Whether one may look at the other's memory is the node's to say.
    assert "nanosleep" in text or "not permitted" in text
    with pytest.raises(EngineError, match="no process 1 of the payload"):
        container.backtrace(1)


@DOCKER
def test_processes_in_a_container(start: Start) -> None:
    container = start(DockerEngine(clock=SystemClock()), f"{SLEEPER} & echo up; wait", image=busybox_image())
    table = container.processes()
    assert table.startswith("    PID    PPID  CPU_S  RSS_MB COMMAND\n")
    assert len(table.splitlines()) == 3
    assert SLEEPER in table
    container.stop(0.0)
    with pytest.raises(EngineError):
        container.processes()


@DOCKER
@pytest.mark.parametrize("init", [False, True])
def test_a_backtrace_with_the_containers_own_gdb(start: Start, tmp_path: Path, init: bool) -> None:
    engine = DockerEngine(clock=SystemClock())
    if init and not engine.has_init():
        engine.close()
        pytest.skip("the daemon has no init")
    container = start(engine, "echo up; exec sleep 1717", image=busybox_image(), init=init)
    with pytest.raises(EngineError, match="cannot be run in the payload's image"):
        container.backtrace(None)
    gdb = tmp_path / "bin" / "gdb"
    # Says what it was asked for, and who that is.
    gdb.write_text('#!/bin/sh\necho "$@"; cat /proc/$2/cmdline\n')
    gdb.chmod(0o755)
    text = container.backtrace(None).replace("\0", " ")
    assert "-batch -nx -ex thread apply all bt" in text
    assert SLEEPER in text
    assert "-p 1 " in container.backtrace(1)


@DOCKER
def test_processes_of_containers_that_the_payload_started(start: Start) -> None:
    clock = SystemClock()
    engine = CompanionEngine(ProcessEngine(clock=clock), DockerEngine(clock=clock), clock=clock)
    run = f"docker run --rm {busybox_image()} sh -c 'echo up; exec {SLEEPER}'"
    table = start(engine, run).processes()
    script, _, inside = table.partition("\ncontainer ")
    assert "docker run" in script
    assert inside.splitlines()[-1].endswith(SLEEPER)
