"""The kernel's limit on processes, on both engines that run payloads here.

No payload of this file forks without end before it has seen that it is
limited.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.contract import Engine
from container.docker_engine import DockerEngine
from container.process_engine import ProcessEngine
from container.spec import ContainerSpec
from container.taskgroup import find_groups, make_group
from pilot_core.base.clock import SystemClock
from pilot_core.base.procs import alive
from tests.fakes.images import TEST_LABEL, busybox_image
from tests.fakes.patience import stated

CLOCK = SystemClock()

#: Ends the script unless the kernel limits it: in a container the group's own
#: file says so, beside us the group's name.
GUARD = (
    "grep -q ':/.*container-' /proc/self/cgroup || "
    "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | grep -q '^[0-9]' || exit 99; "
)
# Forks as fast as it can, also at its limit: a shell gives up at the first
# refusal, and the usual `bomb | bomb &` dies out. The script itself forks no
# more once it is lit.
AWK = """awk 'BEGIN { for (;;) system("sleep 600 &") }' 2>/dev/null"""
BOMB = GUARD + f"sleep 600 & last=$!; echo up; {AWK} & wait $last"


def no_groups() -> str:
    """Why no cgroup can be made here; empty if one can."""
    group = make_group(10, "")
    if group is None:
        return "no cgroup with the pids controller can be made here"
    group.remove(CLOCK)
    return ""


NEEDS_GROUPS = pytest.mark.skipif(bool(no_groups()), reason=no_groups())


class Bench:
    """An engine, and payloads for it."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.image = image
        self.labels = {TEST_LABEL: uuid.uuid4().hex}
        self.stdout = folder / "payload.stdout"

    def spec(self, script: str, *, processes: int = 100) -> ContainerSpec:
        return ContainerSpec(
            name=f"{TEST_LABEL}-{uuid.uuid4().hex[:12]}",
            argv=("/bin/sh", "-c", script),
            workdir="/",
            stdout=self.stdout,
            stderr=self.folder / "payload.stderr",
            image=self.image,
            environment={"PATH": "/usr/bin:/bin"},
            labels=self.labels,
            network="none",
            processes=processes,
        )

    def up(self) -> None:
        until(lambda: self.stdout.exists() and b"up\n" in self.stdout.read_bytes())


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not reached"
        threading.Event().wait(0.02)


PROCESS = pytest.param("process", marks=NEEDS_GROUPS)
DOCKER = pytest.param("docker", marks=pytest.mark.docker)


@pytest.fixture(params=[PROCESS, DOCKER])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    engine: Engine
    if request.param == "docker":
        engine, image = DockerEngine(clock=CLOCK), busybox_image()
    else:
        engine, image = ProcessEngine(clock=CLOCK), ""
    bench = Bench(engine, image, tmp_path)
    try:
        yield bench
    finally:
        for leftover in engine.leftovers(bench.labels):
            engine.remove_leftover(leftover)
        engine.close()
        assert bench.labels[TEST_LABEL] not in "".join(group.labels for group in find_groups())


def test_forks_beyond_the_limit_are_refused_and_counted(bench: Bench) -> None:
    # Who dies of the first refusal may take the daemon's count along.
    loop = "i=0; while [ $i -lt 150 ]; do sleep 600 & i=$((i+1)); done; echo never"
    script = f"sleep 2 & last=$!; ({loop}); code=$?; wait $last; exit $code"
    container = bench.engine.start(bench.spec(script))
    end = container.wait(30)
    assert end is not None
    # dash and busybox give up at the first refusal.
    assert end.code == 2
    assert end.refused_forks > 0
    assert bench.stdout.read_bytes() == b""
    container.remove()


def test_within_the_limit_nothing_is_refused(bench: Bench) -> None:
    script = "i=0; while [ $i -lt 50 ]; do sleep 600 & i=$((i+1)); done; echo up; exec sleep 600"
    container = bench.engine.start(bench.spec(script))
    bench.up()
    stats = container.stats()
    assert stats.threads is not None
    assert 51 <= stats.threads <= 53
    end = container.stop(0)
    assert (end.refused_forks, end.lost) == (0, "")
    container.remove()


@pytest.mark.parametrize("grace_s", [0.0, 0.3])
def test_a_fork_bomb_is_killed_for_good(bench: Bench, grace_s: float) -> None:
    container = bench.engine.start(bench.spec(BOMB))
    bench.up()
    until(lambda: container.stats().refused_forks)
    begun = time.monotonic()
    end = container.stop(grace_s)
    assert time.monotonic() - begun < stated(5)
    assert (end.code in (137, 143), end.lost) == (True, "")
    assert end.refused_forks > 0
    container.remove()
    assert not bench.engine.leftovers(bench.labels)


def test_a_fork_bomb_whose_script_ends_is_killed_for_good(bench: Bench) -> None:
    container = bench.engine.start(bench.spec(BOMB.replace("sleep 600", "sleep 1", 1) + "; exit 3"))
    end = container.wait(30)
    assert end is not None
    assert (end.code, end.lost) == (3, "")
    assert end.refused_forks > 0
    container.remove()
    assert not bench.engine.leftovers(bench.labels)


#: Own session, no parent, no environment.
FUGITIVE = "setsid env -i sh -c 'sleep 0.2; echo $$ > pid; exec sleep 600' & sleep 0.1; echo up; "


@pytest.mark.parametrize("bench", [PROCESS], indirect=True)
def test_what_leaves_no_trace_is_still_in_the_group(bench: Bench, tmp_path: Path) -> None:
    container = bench.engine.start(bench.spec(f"cd {tmp_path}; {FUGITIVE} while ! [ -s pid ]; do :; done"))
    assert container.wait(20) is not None
    assert not alive(int((tmp_path / "pid").read_text()))


OWNER = """
import sys
from pathlib import Path
from container.process_engine import ProcessEngine
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
folder, label = Path(sys.argv[1]), sys.argv[2]
ProcessEngine(clock=SystemClock()).start(ContainerSpec(
    name="orphan", argv=("/bin/sh", "-c", sys.argv[3]), workdir=str(folder), stdout=folder / "payload.stdout",
    stderr=folder / "payload.stderr", environment={"PATH": "/usr/bin:/bin"}, labels={"pilot-test": label},
    processes=50,
)).wait(600)
"""


@pytest.mark.parametrize("bench", [PROCESS], indirect=True)
@pytest.mark.parametrize(
    "last", ["exec sleep 600", "until [ -s pid ]; do :; done; kill -9 $PPID; kill -9 $$"]
)
def test_a_dead_owner_s_fugitive_is_found_by_its_group(bench: Bench, tmp_path: Path, last: str) -> None:
    """Also where nothing else is left of the payload that would carry a mark."""
    argv = [sys.executable, "-c", OWNER, str(tmp_path), bench.labels[TEST_LABEL], FUGITIVE + last]
    owner = subprocess.Popen(argv, cwd=Path(__file__).resolve().parents[2])
    try:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    fugitive = int((tmp_path / "pid").read_text())
    assert alive(fugitive)
    (found,) = bench.engine.leftovers(bench.labels)
    assert (found.name, found.running) == ("orphan", True)
    bench.engine.remove_leftover(found)
    assert not alive(fugitive)
    assert not bench.engine.leftovers(bench.labels)


@pytest.mark.parametrize("bench", [PROCESS], indirect=True)
def test_an_empty_group_of_a_dead_owner_is_removed(bench: Bench) -> None:
    group = make_group(10, f"{TEST_LABEL}={bench.labels[TEST_LABEL]}")
    assert group is not None
    (found,) = bench.engine.leftovers(bench.labels)
    assert not found.running
    bench.engine.remove_leftover(found)
    assert not group.folder.exists()
    assert not bench.engine.leftovers(bench.labels)


@NEEDS_GROUPS
def test_a_failed_start_leaves_no_group(tmp_path: Path) -> None:
    before = {group.folder for group in find_groups()}
    bench = Bench(ProcessEngine(clock=CLOCK), "", tmp_path)
    with pytest.raises(Exception, match="cannot start"):
        bench.engine.start(
            ContainerSpec(
                name="x",
                argv=("/no/such/program",),
                workdir="/",
                stdout=bench.stdout,
                stderr=bench.stdout,
                labels=bench.labels,
                processes=5,
            )
        )
    assert {g.folder for g in find_groups() if bench.labels[TEST_LABEL] in g.labels} <= before


@NEEDS_GROUPS
def test_we_are_where_we_were(tmp_path: Path) -> None:
    before = Path("/proc/self/cgroup").read_text()
    bench = Bench(ProcessEngine(clock=CLOCK), "", tmp_path)
    assert bench.engine.start(bench.spec("true")).wait(10)
    assert Path("/proc/self/cgroup").read_text() == before
    assert Path(f"/proc/self/task/{threading.get_native_id()}/cgroup").read_text() == before
    assert os.getpid() not in {tid for group in find_groups() for tid in group.tasks()}
