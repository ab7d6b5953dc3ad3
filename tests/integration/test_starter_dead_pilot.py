"""The pilot is killed while it has a job: what server, storage and node have
of it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.ledger import FILE_NAME
from pilot_core.local.faults import FaultKind
from tests.fakes.patience import stated
from tests.fakes.preemption import SCENARIOS
from tests.fakes.site import Site, new_site

KNOWN_S = 5.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with new_site(tmp_path) as made:
        yield made


def reach(site: Site, name: str) -> None:
    next(one for one in SCENARIOS if one.name == name).reach(site)


def home(site: Site) -> Path:
    (found,) = (site.folder / "worker" / "tmp").glob("panda_*")
    return found


def end(site: Site) -> int:
    """The starter's exit code, once it has ended."""
    assert site.worker is not None
    pause = threading.Event()
    for _ in range(1500):
        code = site.worker.poll()
        if code is not None:
            return code
        pause.wait(0.02)
    raise AssertionError(site.text())


def kill(site: Site) -> tuple[int, float]:
    """SIGKILL for the pilot; the starter's exit code, and when it was done."""
    pid = site.pilot()
    began = time.time()
    os.kill(pid, signal.SIGKILL)
    return end(site), began


def failed_after(site: Site, began: float) -> float:
    """Seconds to the one final report."""
    (final,) = (u for u in site.panda.store.updates(site.job) if u.status in ("finished", "failed"))
    assert final.status == "failed"
    return final.time_s - began


def test_killed_pilot_with_a_process(site: Site) -> None:
    site.submit("echo started hunter2-hunter2; (sleep 300 & sleep 300)", secrets='{"a": "hunter2-hunter2"}')
    site.start()
    site.until_status("running")
    stdout = home(site) / f"PanDA_Pilot-{site.job}" / "payload.stdout"
    site.until(lambda: stdout.read_text(), "the payload's first line")
    code, began = kill(site)
    assert code == 137
    assert failed_after(site, began) < KNOWN_S
    job = site.panda.store.job(site.job)
    assert job.pilot_error[0] == 1200
    logs = site.panda.folder / "logs" / "LOCAL" / f"PandaJob_{site.job}"
    assert (logs / "payload.stdout").read_text() == "started ***\n"
    assert "payload_started" in (logs / "pilotlog.txt").read_text()
    assert job.log_url == f"file://{logs}/pilotlog.txt"
    assert site.left() == []
    assert not list((site.folder / "worker" / "tmp").glob("panda_*")), "all is stored: nothing is kept"
    words = (site.folder / "worker" / "termination-log").read_text()
    assert f"job {site.job} failed (1200): reported by the starter" in words


@pytest.mark.docker
@pytest.mark.parametrize("kind", ["running, image", "running, docker run in a script"])
def test_killed_pilot_with_a_container(site: Site, kind: str) -> None:
    reach(site, kind)
    code, began = kill(site)
    assert code == 137
    assert failed_after(site, began) < KNOWN_S
    assert site.left() == [], site.text()
    assert site.panda.store.job(site.job).pilot_error[0] == 1200
    assert not (site.folder / "shared" / str(site.job)).exists()


def test_killed_pilot_while_storage_hangs(site: Site) -> None:
    """The report does not wait, and what could not be stored is kept."""
    reach(site, "uploading (storage hangs)")
    work = home(site) / f"PanDA_Pilot-{site.job}"
    pid = site.pilot()
    began = time.time()
    os.kill(pid, signal.SIGKILL)
    site.until_status("failed")
    assert failed_after(site, began) < KNOWN_S
    # It would go on trying for two minutes; nobody has to wait for that.
    os.kill(site.pid, signal.SIGTERM)
    assert end(site) == 137
    assert (work / "pilotlog.txt").exists()
    assert not (home(site) / ".credentials").exists()
    assert "PanDA_Pilot" in site.text().split("is kept for ")[-1]


@pytest.mark.parametrize("how", ["kill -9", "hangs, SIGTERM to the starter"])
def test_a_report_that_the_server_has_already_is_sent_again_in_vain(site: Site, how: str) -> None:
    """Killed between the server's yes and its own record of it, the pilot
    leaves a report that is sent twice; the server keeps the first.
    """
    site.submit("echo done")
    site.fault("update_job", FaultKind.HANG, seconds=30, commit=True, where={"job_status": "finished"})
    site.start()
    site.until(site.struck, "the final report, stored and not answered")
    before = site.panda.store.job(site.job)
    assert before.status in ("finished", "holding")
    if how == "kill -9":
        os.kill(site.pilot(), signal.SIGKILL)
        assert end(site) == 137
    else:
        os.kill(site.pilot(), signal.SIGSTOP)
        os.kill(site.pid, signal.SIGTERM)
        assert end(site) == 143
    finals = [u for u in site.panda.store.updates(site.job) if u.status in ("finished", "failed")]
    assert [final.status for final in finals] == ["finished", "finished"], site.text()
    after = site.panda.store.job(site.job)
    assert after.status == "finished"
    assert after.pilot_error == before.pilot_error
    assert after.log_url == before.log_url
    words = (site.folder / "worker" / "termination-log").read_text()
    assert f"job {site.job} finished (0): reported by the starter" in words
    assert not list((site.folder / "worker" / "tmp").glob("panda_*")), "nothing is owed any more"


def test_killed_pilot_while_the_server_is_down(site: Site) -> None:
    reach(site, "running, process")
    site.panda.stop()
    os.kill(site.pilot(), signal.SIGKILL)
    site.until(lambda: "attempt 2 follows" in site.text(), "an attempt at the report")
    os.kill(site.pid, signal.SIGTERM)
    assert end(site) == 137
    owed = json.loads((home(site) / FILE_NAME).read_text())
    assert owed["held"]["report"]["panda_id"] == site.job
    assert site.left() == []


def test_killed_wrapper(site: Site) -> None:
    """Before it has become the pilot: no job, nothing owed, a clear end."""
    prolog = site.folder / "prolog.sh"
    prolog.write_text("touch $PWD/here; sleep 60\n")
    site.environment["LSST_LOCAL_PROLOG"] = str(prolog)
    site.start()
    site.until(lambda: list((site.folder / "worker" / "tmp").glob("*/here")), "the prolog")
    wrapper = next(pid for pid, words in site.processes() if "wrapper.sh" in words)
    began = time.monotonic()
    os.kill(wrapper, signal.SIGKILL)
    assert end(site) == 137
    assert time.monotonic() - began < stated(KNOWN_S)
    assert site.left() == []
    assert "worker ends with exit code 137" in site.text()
    assert not site.panda.calls("update_job")


#: Takes memory in a group until the kernel has killed somebody there.
HOG = """
import sys
from pathlib import Path
group = Path(sys.argv[1])
(group / "cgroup.procs").write_text("0")
held = []
while "oom_kill 0" in (group / "memory.oom_control").read_text():
    held.append(b"x" * 1_000_000)
"""


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A memory cgroup (v1) of 600 MB."""
    group = Path(f"/sys/fs/cgroup/memory/pilot-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(600 * 2**20))
    except OSError as err:
        pytest.skip(f"no memory cgroup can be made here: {err}")
    try:
        yield group
    finally:
        end_at = time.monotonic() + 10
        while (group / "cgroup.procs").read_text() and time.monotonic() < end_at:
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            threading.Event().wait(0.1)
        group.rmdir()


def test_pilot_killed_for_want_of_memory(site: Site, memory_group: Path) -> None:
    site.submit("sleep 300", minRamCount=10)
    site.start()
    (memory_group / "cgroup.procs").write_text(str(site.pid))
    site.until_status("running")
    pilot = site.pilot()
    assert str(memory_group.name) in Path(f"/proc/{pilot}/cgroup").read_text()
    # Of all in the group the kernel is to take the pilot.
    Path(f"/proc/{pilot}/oom_score_adj").write_text("1000")
    began = time.time()
    hog = subprocess.Popen([sys.executable, "-c", HOG, str(memory_group)])
    try:
        assert end(site) == 137
    finally:
        hog.kill()
        hog.wait()
    assert failed_after(site, began) < KNOWN_S + 5.0, "with the seconds to fill the group"
    code, diag = site.panda.store.job(site.job).pilot_error
    assert code == 1212
    assert "out of memory" in diag
