"""How often a pilot asks where many do."""

from pathlib import Path

from pilot_core.logship.contract import Outcome, OutcomeKind
from pilot_core.logship.pace import CAP_S, FIRST_S, Pace
from tests.fakes.shipping import Rig
from tests.fakes.sink import YES, MemorySink

BUSY = Outcome(OutcomeKind.BUSY, detail="429")


def test_no_gap_as_long_as_there_is_room() -> None:
    pace = Pace()
    pace.accepted()
    assert pace.wait_s() == 0.0


def test_it_widens_to_a_bound_and_comes_back() -> None:
    pace = Pace(chance=lambda: 0.5)
    seen = []
    for _ in range(9):
        pace.refused()
        seen.append(pace.wait_s())
    assert seen[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert seen[-1] == CAP_S
    for _ in range(60):
        pace.accepted()
    assert pace.gap_s == 0.0


def test_jitter_parts_those_that_start_together() -> None:
    waits = []
    for chance in (0.0, 1.0):
        pace = Pace(chance=lambda chance=chance: chance)  # type: ignore[misc]
        pace.refused()
        waits.append(pace.wait_s())
    assert waits == [FIRST_S / 2, FIRST_S * 1.5]


def test_a_shipper_that_was_refused_looks_less_often(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink())
    answers = [BUSY] * 6
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    rig.lines(10)
    rig.shipper.ship_once()
    assert rig.seen() == list(range(10))
    start = rig.clock.now
    rig.shipper._sleep()
    slept = rig.clock.now - start
    assert 5 * rig.settings.interval_s < slept <= 1.5 * CAP_S
    assert rig.shipper.counts().last_error == "429"


def test_at_the_end_of_a_job_it_is_tried_again_while_there_is_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink())
    answers = [BUSY] * 6
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    rig.lines(10)
    counts = rig.finish(seconds=30.0)
    assert (counts.sent, counts.left_bytes) == (10, 0)
