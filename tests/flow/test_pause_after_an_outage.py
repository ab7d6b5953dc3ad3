"""A pilot whose final report had to wait makes a pause before the next job,
its own or that of the pilot that comes in its place.
"""

from pathlib import Path

import pytest

from pilot_core.finalreport import BREATHER
from tests.fakes.world import Twist, World

WAITED_S = 600.0
#: Each pause is drawn from zero on: at least one of so many is a long one.
LIVES = 3
#: Not counted: what a pilot needs for everything else.
REST_S = 30.0


def pause_s(
    folder: Path, *, timefloor_s: int, more: tuple[Twist, ...] = (), waited_s: float = WAITED_S
) -> float:
    """Seconds from the first job's end to what comes next."""
    world = World(
        folder,
        jobs=[{}, {}],
        queue={"timefloor_s": timefloor_s},
        twists=[Twist("Server.update_job:finished", "wait", waited_s), *more],
    )
    world.run()
    store = world.server.store
    first, second = (store.job(panda_id) for panda_id in world.ids)
    following = second.sent_s if timefloor_s else world.clock.time()
    assert following is not None
    return following - store.updates(first.panda_id)[-1].time_s


@pytest.mark.parametrize("timefloor_s", [0, 100_000])
def test_a_pause_after_a_report_that_had_to_wait(tmp_path: Path, timefloor_s: int) -> None:
    pauses = [pause_s(tmp_path / str(life), timefloor_s=timefloor_s) for life in range(LIVES)]
    assert REST_S < max(pauses) <= BREATHER * WAITED_S + REST_S


def test_none_after_a_report_that_went_out_at_once(tmp_path: Path) -> None:
    assert pause_s(tmp_path, timefloor_s=0, waited_s=0.0) < REST_S


@pytest.mark.parametrize(
    "end", [Twist("Server.update_job:finished", "drain"), Twist("Server.update_job:finished", "signal", 15)]
)
def test_none_for_a_pilot_that_has_to_go(tmp_path: Path, end: Twist) -> None:
    assert pause_s(tmp_path, timefloor_s=0, more=(end,)) < REST_S
