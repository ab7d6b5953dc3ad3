"""A kill from the server finds the job in each phase of its life, on a real
Docker engine: afterwards no container is left, and the job has ended once.
"""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.compile import LABEL
from pilot_core.local.definition import make
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from tests.fakes.gcs_server import gcs_server
from tests.fakes.images import busybox_image
from tests.fakes.pilot_process import start_pilot

pytestmark = pytest.mark.docker

LONG_S = 60
STUBBORN = "trap '' TERM; echo up; while :; do sleep 1; done"


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


def containers(job: int) -> list[str]:
    argv = ["docker", "ps", "-aq", "--filter", f"label={LABEL}job={job}"]
    return subprocess.run(argv, capture_output=True, check=True, timeout=30, text=True).stdout.split()


def check(panda: LocalPanda, job: int, *, state: str, told: str, code: int) -> None:
    row = panda.store.wait_status(job, state, LONG_S)
    taken = [u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")]
    assert taken == [told]
    assert row.pilot_error[0] == code
    assert containers(job) == []


def test_while_it_starts(panda: LocalPanda, tmp_path: Path) -> None:
    panda.faults.add(Fault("transformation", FaultKind.SLOW, seconds=LONG_S))
    job = panda.store.submit(make(transformation=f"{panda.url}/trf/bash-c-enc", parameters="x", encode=True))
    with start_pilot(panda, tmp_path / "home") as pilot:
        panda.store.wait_status(job, "starting", LONG_S)
        panda.store.kill(job)
        assert pilot.wait(LONG_S) == 0
    check(panda, job, state="cancelled", told="failed", code=1144)


def test_while_it_runs(panda: LocalPanda, tmp_path: Path) -> None:
    job = panda.store.submit(make(image=busybox_image(), parameters=STUBBORN))
    with start_pilot(panda, tmp_path / "home", "--payload-grace", "1") as pilot:
        assert panda.store.wait_for(lambda: bool(containers(job)), LONG_S)
        panda.store.wait_status(job, "running", LONG_S)
        panda.store.kill(job)
        assert pilot.wait(LONG_S) == 0
    check(panda, job, state="cancelled", told="failed", code=1144)


def test_while_its_files_are_stored(panda: LocalPanda, tmp_path: Path) -> None:
    storing, killed = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        storing.set()
        killed.wait(LONG_S)

    with gcs_server() as bucket:
        bucket.took = hold
        protocol = [{"id": 1, "endpoint": "gs://bucket", "path": "/kept", "flavour": "gs"}]
        panda.cric.add_storage("STORE", arprotocols=dict.fromkeys(("pw", "write_lan"), protocol))
        panda.cric.add_queue("LOCAL", acopytools={"write_lan": ["gs"]}, astorages={"write_lan": ["STORE"]})
        job = panda.store.submit(make(image=busybox_image(), parameters="echo done"))
        environment = {"STORAGE_EMULATOR_HOST": bucket.url}
        with start_pilot(panda, tmp_path / "home", environment=environment) as pilot:
            assert storing.wait(LONG_S)
            panda.store.kill(job)
            heard = len(panda.store.updates(job)) + 2
            assert panda.store.wait_for(lambda: len(panda.store.updates(job)) >= heard, LONG_S)
            killed.set()
            assert pilot.wait(LONG_S) == 0
    check(panda, job, state="cancelled", told="failed", code=1144)


@pytest.mark.parametrize("commit", [False, True])
def test_while_the_final_report_is_in_flight(panda: LocalPanda, tmp_path: Path, commit: bool) -> None:
    """The server has not heard it, or it has and its answer is lost."""
    where = {"job_status": "finished"}
    panda.faults.add(Fault("update_job", FaultKind.RESET, commit=commit, where=where))
    job = panda.store.submit(make(image=busybox_image(), parameters="echo done"))
    with start_pilot(panda, tmp_path / "home") as pilot:
        assert panda.store.wait_for(lambda: bool(panda.faults.done), LONG_S)
        panda.store.kill(job)
        assert pilot.wait(LONG_S) == 0
    # What it had done before the kill came is done.
    row = panda.store.wait_status(job, "finished", LONG_S)
    taken = [u for u in panda.store.updates(job) if u.status in ("finished", "failed")]
    assert {u.status for u in taken} == {"finished"}
    assert [u.command for u in taken] == (["NULL", "tobekilled"] if commit else ["tobekilled"])
    assert row.pilot_error[0] == 0
    assert containers(job) == []
