"""CPU time and memory of a container as the server hears them, beside the
kernel's count.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.cgroup import find_cgroup
from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes.images import busybox_image
from tests.fakes.pilot_process import start_pilot

pytestmark = [pytest.mark.docker, pytest.mark.slow]

#: CPU seconds that the payload burns: its own limit ends each loop.
BURNED_S = 12

#: The awk holds 200 MB while the loop burns, up to the very end. Then the
#: payload prints what its own cgroup (v1 or v2) has counted: the limit of a
#: process is kept by another clock, which on a busy node is a tenth off.
SCRIPT = (
    """busybox awk 'BEGIN {s = sprintf("%1000000s", ""); for (i = 0; i < 200; i++) a[i] = s i;"""
    """ while (1) system("sleep 1")}' & """
    f"(ulimit -t {BURNED_S}; while :; do :; done);"
    " cat /sys/fs/cgroup/cpuacct/cpuacct.usage || grep usage_usec /sys/fs/cgroup/cpu.stat; exit 0"
)


class Kernel:
    """The highest numbers of one container's cgroup, read without the pilot."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.rss_kb = 0

    def look(self, container: str) -> None:
        """Read once; a container that is gone adds nothing."""
        asked = ["docker", "inspect", "--format", "{{.State.Pid}} {{.Id}}", container]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            return
        pid, full = done.stdout.split()
        cgroup = find_cgroup(int(pid), full)
        if cgroup is not None:
            stats = cgroup.stats()
            self.cpu_s = max(self.cpu_s, stats.cpu_s or 0.0)
            self.rss_kb = max(self.rss_kb, (stats.rss or 0) // 1024)

    def hear(self, printed: str) -> None:
        """Take the payload's own reading at its end: ns in v1, us in v2."""
        unit = 1e6 if "usage_usec" in printed else 1e9
        self.cpu_s = max(self.cpu_s, int(printed.split()[-1]) / unit)


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


def image_job(panda: LocalPanda, _: Path) -> tuple[int, Callable[[], str]]:
    job = panda.store.submit(make(image=busybox_image(), parameters=SCRIPT))
    return job, lambda: f"panda-{job}"


def inner_job(panda: LocalPanda, home: Path) -> tuple[int, Callable[[], str]]:
    """The container of a transformation, which the pilot finds by itself."""
    name = f"pilot-test-{home.parent.name}"
    script = f"docker run --rm --network host --name {name} {busybox_image()} /bin/sh -c '{quoted(SCRIPT)}'"
    url = f"{panda.url}/trf/bash-c-enc"
    return panda.store.submit(make(transformation=url, parameters=script, encode=True)), lambda: name


def quoted(text: str) -> str:
    return text.replace("'", "'\\''")


@pytest.mark.parametrize("submit", [image_job, inner_job])
def test_final_report_agrees_with_the_kernel(
    panda: LocalPanda, tmp_path: Path, submit: Callable[[LocalPanda, Path], tuple[int, Callable[[], str]]]
) -> None:
    home, kernel = tmp_path / "home", Kernel()
    job, name = submit(panda, home)
    # Few samples, as in the field: what counts is what is read at the end.
    with start_pilot(panda, home, "--sample-interval", "5") as pilot:
        while pilot.process.poll() is None:
            kernel.look(name())
            with contextlib.suppress(subprocess.TimeoutExpired):
                pilot.process.wait(0.3)
    assert pilot.process.returncode == 0, pilot.text()
    final = panda.store.updates(job)[-1].fields
    assert final["job_status"] == "finished", pilot.text()
    told = {key: float(str(final[key])) for key in ("cpu_consumption_time", "max_rss", "max_pss")}
    kernel.hear((panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / "payload.stdout").read_text())
    sys.stdout.write(f"\ntold: {told}, kernel: {kernel.cpu_s:.2f} s, {kernel.rss_kb} kB\n")
    assert kernel.cpu_s == pytest.approx(BURNED_S, rel=0.2)
    # The server takes whole seconds: half of one is no fault of ours.
    assert told["cpu_consumption_time"] == pytest.approx(kernel.cpu_s, abs=0.5 + 0.05 * kernel.cpu_s)
    assert kernel.rss_kb > 180_000
    for key in ("max_rss", "max_pss"):
        assert told[key] == pytest.approx(kernel.rss_kb, rel=0.05)
