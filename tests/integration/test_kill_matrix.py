"""The kill matrix on a real Docker engine: however a pilot ends, nothing of its job stays.

The cells run side by side, a few at a time, before the first test; each test
looks at one of them. `pytest -s` prints the table of `docs/kill-matrix.md`.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from pilot_core.local.server import LocalPanda
from tests.fakes.dockerd import NoDaemon, own_daemon
from tests.fakes.images import busybox_image
from tests.fakes.killing import CAUSES, KINDS, RESTART, Cell, Outcome, run_cell, run_restart, table

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
    """The cells of the restarted daemon; why not, if there can be no second daemon here."""
    try:
        with own_daemon() as daemon:
            return run_restart(panda, daemon, folder, image)
    except NoDaemon as err:
        return {cell: Outcome(skipped=str(err)) for cell in RESTARTS}


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[Cell, Outcome]:
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
    print(f"\n{table(found)}\n")
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
    assert outcome.seconds <= cause.within_s
    assert outcome.finals == ["failed"], story
    code, words = cell.expected
    assert outcome.code == code, outcome.diag
    assert words in outcome.diag
    if cause.logs:
        assert outcome.stored >= LOGS, story
