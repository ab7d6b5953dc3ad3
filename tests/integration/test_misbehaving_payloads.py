"""Payloads that harm their node: each gets its code, and the pilot takes the
next job.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from container.docker_engine import DockerEngine
from container.process_engine import ProcessEngine
from pilot_core.base.clock import SystemClock
from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes.images import busybox_image
from tests.fakes.pilot_process import start_pilot

pytestmark = [pytest.mark.docker, pytest.mark.slow]

QUEUE = "STRICT"

FIVE_GB = 5_000_000_000
#: Bytes that are printed where no limit ends it. A daemon on a busy node passes
#: on 30 MB a second: PILOT_TEST_FLOOD=5000000000 takes three minutes there.
FLOOD = int(os.environ.get("PILOT_TEST_FLOOD", "1000000000"))

#: What is kept free beside what a test writes, bytes.
RESERVE = 2_000_000_000

#: Most of a log file that is stored of a payload that was ended for its size.
EXCERPT = 65 * 1024 * 1024

#: Holds 200 MB and does nothing more.
HOLD = (
    """busybox awk 'BEGIN {s = sprintf("%1000000s", ""); for (i = 0; i < 200; i++) a[i] = s i;"""
    """ while (1) system("sleep 1")}'"""
)


#: Forks and nothing else, by a small shell: bash, or a program in each, takes a
#: busy node a minute and gigabytes.
FORK_10000 = "sh -c 'mkfifo end; i=0; while [ $i -lt 10000 ]; do read x <end & i=$((i+1)); done; wait'"

#: As `:(){ :|:& };:`, but it does not die out at the limit as a shell does. Not
#: without one: in a container the group's own file says that there is one,
#: beside the pilot the group's name. The script itself forks no more once the
#: bomb is lit: it would be refused, and its end would be the payload's.
FORK_BOMB = (
    'grep -q ":/.*container-" /proc/self/cgroup || '
    'cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | grep -q "^[0-9]" || exit 99; '
    """sleep 600 & last=$!; awk 'BEGIN { for (;;) system("sleep 600 &") }' 2>/dev/null & wait $last"""
)
INNER_BOMB = f"docker run --rm --network host {{image}} sh -c {shlex.quote(FORK_BOMB)}"


def printing(count: int) -> str:
    """The command that prints so many million bytes to stderr, in large
    pieces.
    """
    return f"dd if=/dev/zero bs=1000000 count={count // 1_000_000} >&2 2>/dev/null"


@dataclass(frozen=True, slots=True)
class Case:
    """A payload, the limit it meets, and what the server must hear.

    Attributes
    ----------
    queue, ini, options
        Where the limit is set: CRIC, the pilot's INI file, its command line.
    words
        Which number, which limit, from which source: parts of the diagnostics.
    room
        Bytes it may write to the disk of the tests.
    """

    name: str
    script: str
    code: int
    words: tuple[str, ...]
    image: bool = True
    queue: Mapping[str, object] = field(default_factory=dict)
    ini: str = ""
    options: tuple[str, ...] = ()
    disk_mb: int = 0
    room: int = 0


CASES = (
    Case(
        "memory of a container",
        HOLD,
        1235,
        ("payload used 1", "cgroup", "limit 64 MB (maxrss of queue STRICT)"),
        queue={"maxrss": 64},
    ),
    Case(
        "memory of a process",
        HOLD,
        1235,
        ("payload used 1", "proc", "limit 64 MB (maxrss of queue STRICT)"),
        image=False,
        queue={"maxrss": 64},
    ),
    Case(
        "fills the disk",
        "cat /dev/zero > data; sleep 600",
        1098,
        ("0 MB free", "10 MB needed"),
        disk_mb=64,
    ),
    Case(
        "fills the disk from a process",
        "cat /dev/zero > data; sleep 600",
        1098,
        ("0 MB free", "10 MB needed"),
        image=False,
        disk_mb=64,
    ),
    Case(
        "outgrows its work directory",
        "head -c 40000000 /dev/zero > data; sleep 600",
        1104,
        ("work directory holds ", "limit 12 MB (maxwdir of queue STRICT)"),
        queue={"maxwdir": 10},
    ),
    Case(
        # Two hours are 12 s here.
        "loops in silence",
        "sleep 600",
        1150,
        ("touched no file for", "used 0.0", "limit 12 s of the pilot"),
        ini="looping_limit_default: 12",
    ),
    Case(
        # 5 GB of 2 GiB are 5 MB of 2 MiB here.
        "floods stderr",
        "yes 'a line of nonsense' | head -c 5000000 >&2; sleep 600",
        1106,
        ("payload.stderr holds ", " MB, limit 2 MB of the pilot"),
        ini="local_size_limit_stdout: 2048",
    ),
    *(
        # The real thing, with the limit that everybody has.
        Case(
            f"prints five gigabytes to stderr {where}",
            f"{printing(FIVE_GB)}; sleep 600",
            1106,
            ("payload.stderr holds ", " MB, limit 2048 MB of the pilot"),
            image=image,
            room=FIVE_GB,
        )
        for where, image in (("in a container", True), ("beside the pilot", False))
    ),
    Case(
        "forks ten thousand in a container",
        FORK_10000,
        1344,
        ("payload runs ", " processes, limit 9990 of the pilot"),
        options=("--max-processes", "9990"),
    ),
    Case(
        "forks ten thousand beside the pilot",
        FORK_10000,
        1344,
        ("payload runs ", " processes, limit 9990 of the pilot"),
        image=False,
        options=("--max-processes", "9990"),
    ),
    Case(
        # Seen by a look, at the end, or in its own words: it gives up at once.
        "is refused a fork",
        "i=0; while [ $i -lt 100 ]; do sleep 600 & i=$((i+1)); done; wait",
        1344,
        ("payload r", "limit ", " processes", "0 "),
        options=("--max-processes", "20"),
    ),
    Case(
        "is refused a fork in an inner container",
        "docker run --rm --network host {image} sh -c"
        " '(i=0; while [ $i -lt 100 ]; do sleep 600 & i=$((i+1)); done; wait); sleep 600'",
        1344,
        ("payload runs ", " processes", ", limit ", "0 of the pilot"),
        image=False,
        options=("--max-processes", "40"),
    ),
    *(
        # Seen at its limit, or half way to it.
        Case(
            f"fork bomb {where}",
            script,
            1344,
            ("payload runs", "processes", ", limit ", "00 of the pilot"),
            image=image,
            options=("--max-processes", "200"),
        )
        for where, script, image in (
            ("in a container", FORK_BOMB, True),
            ("beside the pilot", FORK_BOMB, False),
            ("in an inner container", INNER_BOMB, False),
        )
    ),
)


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A file system of that size at `folder`; 0 leaves it as it is."""
    folder.mkdir()
    if not size_mb:
        yield
        return
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "pilot-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], timeout=10, check=True)


def left_behind(job: int) -> list[str]:
    """What there is of a job on this node."""
    labels = {"org.panda.pilot.job": str(job)}
    clock = SystemClock()
    found: list[str] = []
    for engine in (ProcessEngine(clock=clock), DockerEngine(clock=clock)):
        found += [leftover.name for leftover in engine.leftovers(labels)]
        engine.close()
    return found


def submit(panda: LocalPanda, script: str, *, image: str) -> int:
    # Modest wishes: a server gives no job to a node that is too small for it.
    common: dict[str, Any] = {"queue": QUEUE, "maxDiskCount": 1, "minRamCount": 10}
    if image:
        return panda.store.submit(make(image=image, parameters=script, **common))
    url = f"{panda.url}/trf/bash-c-enc"
    return panda.store.submit(make(transformation=url, parameters=script, encode=True, **common))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_its_code_its_numbers_and_the_next_job(panda: LocalPanda, tmp_path: Path, case: Case) -> None:
    need_room(tmp_path, case.room)
    panda.cric.add_queue(QUEUE, timefloor=600, **case.queue)
    image = busybox_image() if case.image else ""
    script = case.script.replace("{image}", busybox_image())
    bad, good = submit(panda, script, image=image), submit(panda, "echo fine", image=image)
    disk = tmp_path / "disk"
    ini = tmp_path / "extra.cfg"
    ini.write_text(f"[Pilot]\n{case.ini}\n")
    options = ("--payload-grace", "1", "--sample-interval", "1", "--memory-grace", "2", "--cleanup", "yes")
    environment = {"HARVESTER_PILOT_CONFIG": str(ini)}
    with (
        small_disk(disk, case.disk_mb),
        start_pilot(panda, disk / "home", *options, *case.options, queue=QUEUE, environment=environment) as p,
    ):
        assert p.wait(150) == 0, p.text()
        text = p.text()
        assert not list(disk.glob("home/PanDA_Pilot-*")), "the disk is not free again"
    row = panda.store.job(bad)
    code, diag = row.pilot_error
    assert (row.status, code) == ("failed", case.code), (diag, text)
    for words in case.words:
        assert words in diag
    assert left_behind(bad) == []
    stored = panda.folder / "logs" / QUEUE
    assert (stored / f"PandaJob_{bad}" / "payload.stderr").stat().st_size < EXCERPT
    assert panda.store.job(good).status == "finished", text
    assert (stored / f"PandaJob_{good}" / "payload.stdout").read_text() == "fine\n"


def need_room(folder: Path, room: int) -> None:
    """Skip where so many bytes would leave too little of the disk."""
    free = shutil.disk_usage(folder).free
    if room and free < room + RESERVE:
        pytest.skip(f"{room / 1e9:g} GB are written and {RESERVE / 1e9:g} kept: {free / 1e9:.1f} GB are free")


@pytest.mark.timeout(400)
def test_a_flood_on_stderr_costs_neither_memory_nor_the_daemons_disk(
    panda: LocalPanda, tmp_path: Path
) -> None:
    need_room(tmp_path, FLOOD)
    panda.cric.add_queue(QUEUE, timefloor=0)
    ini = tmp_path / "extra.cfg"
    ini.write_text("[Pilot]\nlocal_size_limit_stdout: 0\n")
    script = f"{printing(FLOOD)}; echo done; sleep 2; exit 7"
    job = submit(panda, script, image=busybox_image())
    client = docker.APIClient()
    peak_kb, at_daemon = 0, -1
    try:
        environment = {"HARVESTER_PILOT_CONFIG": str(ini)}
        options = ("--log-cap", "1000000", "--cleanup", "no")
        with start_pilot(panda, tmp_path / "home", *options, queue=QUEUE, environment=environment) as pilot:
            panda.store.wait_status(job, "running", 30)
            name = f"panda-{job}"
            while pilot.process.poll() is None:
                peak_kb = max(peak_kb, resident_peak_kb(pilot.process.pid))
                with contextlib.suppress(docker.errors.APIError):
                    about = client.inspect_container(name)
                    assert about["LogPath"] == ""
                    at_daemon = max(at_daemon, kept_by_daemon(client, about["Id"]))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pilot.process.wait(0.3)
            text = pilot.text()
    finally:
        client.close()
    row = panda.store.job(job)
    assert (row.exit_code, row.pilot_error[0]) == (7, 1305), text
    sys.stdout.write(f"\npeak of the pilot {peak_kb / 1024:.0f} MiB, kept by the daemon {at_daemon} bytes\n")
    (kept,) = (tmp_path / "home").rglob("payload.stderr")
    assert kept.stat().st_size == FLOOD
    kept.unlink()
    assert 0 < peak_kb < 90 * 1024
    assert 0 <= at_daemon < 1_000_000


def resident_peak_kb(pid: int) -> int:
    """VmHWM of a process; 0 once it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    return 0


def kept_by_daemon(client: docker.APIClient, container: str) -> int:
    """Bytes the daemon keeps beside a container's file system; -1 if not ours
    to see.
    """
    folder = Path(client.info()["DockerRootDir"]) / "containers" / container
    if not folder.is_dir():
        return -1
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except FileNotFoundError:
        return -1  # removed while we looked
