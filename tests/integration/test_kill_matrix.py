"""The kill matrix on a real Docker engine: however a pilot ends, nothing of
its job stays.

The cells run side by side, a few at a time, before the first test; each test
looks at one of them. `pytest -s` prints the table of `docs/kill-matrix.md`.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes.dockerd import NoDaemon, own_daemon
from tests.fakes.images import busybox_image
from tests.fakes.killing import CAUSES, KINDS, RESTART, Cell, Outcome, run_cell, run_restart, table
from tests.fakes.patience import stated
from tests.fakes.pilot_process import start_pilot
from tests.fakes.traces import Traces

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(400)]

CELLS = [Cell(cause, kind) for cause in CAUSES for kind in KINDS]
RESTARTS = [Cell(RESTART, kind) for kind in KINDS]

#: Cells at a time: most of a cell is waiting, its start is work.
SIDE_BY_SIDE = 6

#: Files of a job that every storage must have.
LOGS = {"pilotlog.txt", "payload.stdout", "payload.stderr"}


def asked_for(request: pytest.FixtureRequest, cells: list[Cell]) -> list[Cell]:
    """Those of the cells that this run of pytest has a test of."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [call.params.get("cell") for call in calls if call is not None]
    return [cell for cell in cells if cell in asked]


def restarted(panda: LocalPanda, folder: Path, image: str) -> Mapping[Cell, Outcome]:
    """The cells of the restarted daemon; why not, if there can be no second
    daemon here.
    """
    try:
        with own_daemon() as daemon:
            return run_restart(panda, daemon, folder, image)
    except NoDaemon as err:
        return {cell: Outcome(skipped=str(err)) for cell in RESTARTS}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Outcome]:
    """What became of each cell that was asked for."""
    folder, image = tmp_path_factory.mktemp("kill"), busybox_image()
    restarts: Future[Mapping[Cell, Outcome]] | None = None
    with LocalPanda(folder / "panda") as panda, ThreadPoolExecutor(SIDE_BY_SIDE) as workers:
        if asked_for(request, RESTARTS):
            restarts = workers.submit(restarted, panda, folder / "restart", image)
        running = {
            cell: workers.submit(run_cell, panda, cell, folder / str(number), image)
            for number, cell in enumerate(asked_for(request, CELLS))
        }
        found = {cell: future.result() for cell, future in running.items()}
        found.update(restarts.result() if restarts is not None else {})
    sys.stdout.write(f"\n{table(found)}\n")
    return found


@pytest.mark.parametrize("cell", [*CELLS, *RESTARTS], ids=lambda cell: cell.name)
def test_nothing_is_left(outcomes: dict[Cell, Outcome], cell: Cell) -> None:
    outcome, cause = outcomes[cell], cell.cause
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    story = f"{outcome.problem}\n{outcome.text[-6000:]}"
    assert not outcome.problem, story
    assert outcome.left == [], story
    assert outcome.seconds is not None
    assert outcome.seconds <= stated(cause.within_s)
    assert outcome.finals == ["failed"], story
    code, words = cell.expected
    assert outcome.code == code, outcome.diag
    assert words in outcome.diag
    if cause.logs:
        assert outcome.stored >= LOGS, story


@pytest.mark.parametrize("where", ["image", "process"])
def test_neighbour_keeps_container_image_and_processes(tmp_path: Path, where: str) -> None:
    """One pilot of two is killed and a third cleans up after it, all with one
    shared folder.
    """
    image = f"pilot-test/neighbour-{where}:1"
    subprocess.run(["docker", "tag", busybox_image(), image], check=True, timeout=30)
    shared = tmp_path / "shared"
    options = ("--shared-root", str(shared))
    jobs: list[int] = []
    with LocalPanda(tmp_path / "panda") as panda:

        def submit(script: str) -> int:
            if where == "image":
                jobs.append(panda.store.submit(make(image=image, parameters=script)))
            else:
                url = f"{panda.url}/trf/bash-c-enc"
                jobs.append(panda.store.submit(make(transformation=url, parameters=script, encode=True)))
            return jobs[-1]

        doomed_traces = Traces(f"doomed{tmp_path.name}", shared / "doomed")
        kept_traces = Traces(f"kept{tmp_path.name}", shared / "kept")
        doomed = submit(doomed_traces.mark() + "while :; do sleep 1; done")
        with start_pilot(panda, tmp_path / "one", *options) as one:
            panda.store.wait_status(doomed, "running", 30)
            end = tmp_path / "end"
            waits = (
                f"while ! [ -e {shared}/$PANDAID/end ] && ! [ -e {end} ]; do sleep 0.2; done; echo survived"
            )
            kept = submit(kept_traces.mark() + waits)
            with start_pilot(panda, tmp_path / "two", *options) as two:
                panda.store.wait_status(kept, "running", 30)
                one.signal(signal.SIGKILL)
                one.wait()
                with start_pilot(panda, tmp_path / "one", *options) as three:
                    assert three.wait() == 0, three.text()
                assert doomed_traces.processes() == []
                assert doomed_traces.containers(doomed) == []
                assert kept_traces.processes()
                assert bool(kept_traces.containers(kept)) == (where == "image")
                inspect = ["docker", "image", "inspect", image]
                assert subprocess.run(inspect, capture_output=True, timeout=30, check=False).returncode == 0
                (shared / str(kept)).mkdir(exist_ok=True)
                (shared / str(kept) / "end").touch()
                end.touch()
                assert two.wait(60) == 0, two.text()
        assert panda.store.job(kept).status == "finished"
        assert panda.store.job(doomed).status == "failed"
    subprocess.run(["docker", "rmi", image], capture_output=True, check=True, timeout=30)
