"""The process engine on real processes: those that run away, and what they
use.
"""

import os
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from container.contract import KILL_S
from container.labels import LABELS_VARIABLE, from_text
from container.process_engine import ProcessContainer, ProcessEngine
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
from pilot_core.base.procs import alive
from tests.fakes.patience import stated

CLOCK = SystemClock()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + stated(seconds)
    while not condition():
        assert time.monotonic() < end, "condition not reached"
        threading.Event().wait(0.01)


class Bench:
    """Payloads in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.engine = ProcessEngine(clock=CLOCK)
        self.folder = folder
        self.labels = {"test": uuid.uuid4().hex}
        self.stdout = folder / "payload.stdout"
        self.stderr = folder / "payload.stderr"

    def start(self, script: str, **more: object) -> ProcessContainer:
        spec = ContainerSpec(
            name=f"test-{uuid.uuid4().hex[:12]}",
            argv=("/bin/bash", "-c", script),
            workdir=str(self.folder),
            stdout=self.stdout,
            stderr=self.stderr,
            environment={"PATH": "/usr/bin:/bin"},
            labels=self.labels,
        )
        return self.engine.start(replace(spec, **more))  # type: ignore[arg-type]

    def pid(self, name: str = "pid") -> int:
        """The number a payload wrote to a file of this name."""
        path = self.folder / name
        until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    try:
        yield bench
    finally:
        for leftover in bench.engine.leftovers(bench.labels):
            bench.engine.remove_leftover(leftover)


def test_only_the_declared_environment(bench: Bench) -> None:
    container = bench.start("exec env -0", environment={"PATH": "/usr/bin:/bin", "A": "x\ny"})
    assert container.wait(10)
    pairs = dict(line.split("=", 1) for line in bench.stdout.read_text().split("\0") if line)
    labels = from_text(pairs.pop(LABELS_VARIABLE))
    assert labels["test"] == bench.labels["test"]
    # PWD, SHLVL and _ are bash's own.
    assert set(pairs) - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "A"}
    assert pairs["A"] == "x\ny"


def test_own_session_no_input_no_open_files(bench: Bench) -> None:
    with (bench.folder / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        container = bench.start("cat; ls /proc/self/fd | wc -l; ps -o pgid=,sid= -p $$")
        assert container.wait(10)
    files, ids = bench.stdout.read_text().splitlines()
    # stdin, stdout, stderr and the folder that ls reads.
    assert int(files) == 4
    assert ids.split() == [container.id, container.id]


ESCAPES = {
    "background": "sleep 100 & echo $! > pid",
    "own session": "setsid sleep 100 & echo $! > pid",
    "daemon": "(setsid sh -c 'echo $$ > pid; exec sleep 100' &)",
    "daemon that ignores SIGTERM": (
        "(setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.1; done' &)"
    ),
    "stopped": "sleep 100 & echo $! > pid; kill -STOP $!",
    "no environment, parent alive": "(env -i setsid sleep 100 & echo $! > pid; exec sleep 100) & sleep 0.2",
}


@pytest.mark.parametrize("script", ESCAPES.values(), ids=ESCAPES)
def test_stop_reaches_what_ran_away(bench: Bench, script: str) -> None:
    container = bench.start(f"{script}; sleep 100")
    pid = bench.pid()
    begun = time.monotonic()
    end = container.stop(0.3)
    assert time.monotonic() - begun < stated(0.3 + KILL_S)
    assert not end.lost
    assert not alive(pid)
    container.remove()


@pytest.mark.parametrize("script", ESCAPES.values(), ids=ESCAPES)
def test_the_end_of_the_first_process_is_the_end_of_all(bench: Bench, script: str) -> None:
    container = bench.start(f"{script}; until [ -s pid ]; do sleep 0.01; done; exit 6")
    end = container.wait(10)
    assert end is not None
    assert end.code == 6
    assert not alive(bench.pid())
    container.remove()


def test_children_have_the_grace_too(bench: Bench) -> None:
    # The shell dies of SIGTERM at once; its child needs a moment to save its
    # work.
    child = "trap 'sleep 0.3; echo saved; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    container = bench.start(f'bash -c "{child}" & wait')
    until(lambda: b"up" in bench.stdout.read_bytes())
    end = container.stop(10)
    assert end.code == 143
    assert bench.stdout.read_bytes() == b"up\nsaved\n"
    container.remove()


def test_a_payload_that_keeps_forking_is_stopped(bench: Bench) -> None:
    container = bench.start("f() { sleep 0.05; f & f & }; ulimit -u 3000; echo up; f; sleep 100")
    until(lambda: b"up" in bench.stdout.read_bytes())
    threading.Event().wait(0.3)
    end = container.stop(0)
    assert not end.lost
    assert not container.members()
    container.remove()


def test_the_pilot_s_death_leaves_it_to_be_found(bench: Bench) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from container.process_engine import ProcessEngine\n"
        "from container.spec import ContainerSpec\n"
        "from pilot_core.base.clock import SystemClock\n"
        "out = Path(sys.argv[2])\n"
        "spec = ContainerSpec(name='n', argv=('sleep', '100'), workdir='/', stdout=out, stderr=out,\n"
        "    environment={'PATH': '/usr/bin:/bin'}, labels={'test': sys.argv[1]})\n"
        "ProcessEngine(clock=SystemClock()).start(spec)\n"
        "print('up', flush=True); sys.stdin.read()\n"
    )
    pilot = subprocess.Popen(
        [sys.executable, "-c", code, bench.labels["test"], str(bench.stdout)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert pilot.stdin is not None
    assert pilot.stdout is not None
    with pilot.stdin, pilot.stdout:
        assert pilot.stdout.readline() == b"up\n"
        pilot.kill()
        pilot.wait(10)
    (left,) = bench.engine.leftovers(bench.labels)
    assert alive(int(left.id))
    bench.engine.remove_leftover(left)
    assert not alive(int(left.id))
    assert not bench.engine.leftovers(bench.labels)


def test_cpu_time_is_the_kernel_s(bench: Bench) -> None:
    # Burnt by a child that is waited for, and then some by another that still
    # runs.
    burn = "import time\nwhile time.process_time() < 0.6: pass"
    stay = f'{burn}\nprint("up", flush=True)\ntime.sleep(99)'
    container = bench.start(f"{sys.executable} -c '{burn}'; {sys.executable} -c '{stay}'")
    until(lambda: b"up" in bench.stdout.read_bytes(), 20)
    assert container.stats().cpu_s == pytest.approx(1.2, rel=0.05, abs=0.06)
    assert container.stop(0).cpu_s == pytest.approx(1.2, rel=0.05, abs=0.1)
    container.remove()


def test_memory_is_what_was_allocated(bench: Bench) -> None:
    code = 'b = bytearray(b"x") * 50_000_000; print("up", flush=True); import time; time.sleep(99)'
    container = bench.start(f"exec {sys.executable} -c '{code}'")
    until(lambda: b"up" in bench.stdout.read_bytes())
    stats = container.stats()
    assert stats.rss == pytest.approx(50_000_000, rel=0.25)
    assert stats.pss is not None
    assert stats.pss >= 50_000_000
    container.stop(0)
    container.remove()


def test_a_peak_that_no_look_has_seen(bench: Bench) -> None:
    # More than this process has ever had: a child begins with that.
    size = 400_000_000 + 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    container = bench.start(f"{sys.executable} -c 'bytearray({size})'; exit 0")
    end = container.wait(30)
    assert end
    assert (end.max_rss_bytes or 0) > 0.97 * size
    container.remove()
    # What a small one used cannot be told from what we use ourselves.
    small = bench.start("exit 0").wait(10)
    assert small
    assert small.max_rss_bytes is None


def test_a_user_may_be_named(bench: Bench) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    bench.folder.chmod(0o755)
    container = bench.start("id -u; id -g; id -G", user="65534:65534", workdir="/")
    assert container.wait(10)
    assert bench.stdout.read_text() == "65534\n65534\n65534\n"
    container.remove()
