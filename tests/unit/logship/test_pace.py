"""How often a pilot asks where many do, and for how much."""

import math
import random
from pathlib import Path

import pytest

from benchmarks.fleet_logging import MIX, RECORD_BYTES, Fleet, Service, account
from pilot_core.logship.contract import Outcome, OutcomeKind
from pilot_core.logship.pace import CAP_S, FIRST_S, LEAST_BYTES, Pace
from tests.fakes.shipping import Rig, line
from tests.fakes.sink import YES, MemorySink

BUSY = Outcome(OutcomeKind.BUSY, detail="429")
FULL = Outcome(OutcomeKind.FULL, detail="429 bytes")
QUIET, NOISY = MIX[0][1], MIX[-1][1]


def test_no_gap_as_long_as_there_is_room() -> None:
    pace = Pace()
    pace.accepted(hurry=False)
    assert (pace.wait_s(), pace.apart_s(), pace.share_bytes) == (0.0, 0.0, math.inf)


def test_it_widens_to_a_bound_and_comes_back() -> None:
    pace = Pace(chance=lambda: 0.5)
    seen = []
    for _ in range(9):
        pace.too_many_requests()
        seen.append(pace.wait_s())
    assert seen[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert seen[-1] == CAP_S
    # A backlog goes in few and large requests: that is what helps here.
    assert (pace.apart_s(), pace.share_bytes) == (0.0, math.inf)
    for _ in range(60):
        pace.accepted(hurry=False)
    assert pace.gap_s == 0.0


def test_where_bytes_are_too_many_the_share_halves_and_grows_by_little() -> None:
    pace = Pace(chance=lambda: 0.5)
    pace.too_many_bytes(500_000)
    pace.too_many_bytes(500_000)
    assert pace.share_bytes == 125_000
    assert pace.apart_s() == pace.wait_s() == 2 * FIRST_S
    pace.accepted(hurry=False)
    assert pace.share_bytes == 127_048
    pace.too_many_requests()
    assert pace.share_bytes == 254_096
    for _ in range(9):
        pace.too_many_bytes(500_000)
    assert pace.share_bytes == LEAST_BYTES
    pace.accepted(hurry=True)
    pace.accepted(hurry=True)
    assert pace.share_bytes == 16 * LEAST_BYTES
    assert pace.gap_s == pytest.approx(CAP_S / 9)
    for _ in range(60):
        pace.accepted(hurry=False)
    assert (pace.gap_s, pace.share_bytes) == (0.0, math.inf)


def test_jitter_parts_those_that_start_together() -> None:
    waits = []
    for chance in (0.0, 1.0):
        pace = Pace(chance=lambda chance=chance: chance)  # type: ignore[misc]
        pace.too_many_requests()
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


def test_a_shipper_sends_its_share_and_waits_in_between(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink())
    answers = [FULL] * 8
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    rig.lines(1000)
    rig.shipper.ship_once()
    sizes = rig.sink.batches[:]
    assert sizes[0] * len(line(0)) < LEAST_BYTES < sizes[-1] * len(line(0))
    assert sizes[:-1] == sorted(sizes[:-1])
    # What is read is no more than the share, so that a restart repeats no more.
    rig.lines(1000)
    share, start = rig.shipper._delivery.pace.share_bytes, rig.clock.now
    rig.shipper.ship_once()
    assert sum(rig.sink.batches[len(sizes) :]) * len(line(0)) <= share + len(line(0))
    assert rig.clock.now > start
    # Once there is room again the usual size is back.
    rig.lines(10_000)
    rig.ship()
    assert rig.shipper._delivery.pace.share_bytes == math.inf
    assert rig.seen() == list(range(12_000))


@pytest.mark.parametrize("no", [BUSY, FULL])
def test_at_the_end_of_a_job_it_is_tried_again_while_there_is_time(tmp_path: Path, no: Outcome) -> None:
    rig = Rig(tmp_path, MemorySink())
    answers = [no] * 5
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    rig.lines(10)
    counts = rig.finish(seconds=30.0)
    assert (counts.sent, counts.left_bytes) == (10, 0)


def test_at_the_end_of_a_job_a_backlog_goes_where_there_is_room(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink())
    answers = [FULL] * 3
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    rig.lines(2000)
    counts = rig.finish(seconds=30.0)
    assert (counts.sent, counts.left_bytes) == (2000, 0)


def test_a_second_file_is_not_kept_waiting_by_a_backlog(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(), names=("payload-log.json", "other.json"))
    # More than a load, each time it looks.
    many = rig.settings.load_bytes // len(line(0)) + 100
    rig.disk.append(rig.paths[1], line(9_999_999))
    for _ in range(3):
        rig.lines(many)
        rig.shipper.ship_once()
    assert 9_999_999 in rig.seen()


def test_of_a_quota_that_is_much_too_small_the_quiet_get_theirs() -> None:
    random.seed(11)
    fleet = Fleet(2_000, 20, Service(1_200, 3_000_000))
    fleet.run()
    written, sent = account(fleet.pilots, QUIET)
    assert sent > 0.8 * written
    written, sent = account(fleet.pilots, NOISY)
    assert 0 < sent < 0.2 * written
    # And little of it is left unused, once they have found their shares.
    assert min(row.records for row in fleet.rows[4:-1]) > 0.85 * 3_000_000 / RECORD_BYTES


def test_of_enough_bytes_and_too_few_requests_all_get_theirs() -> None:
    random.seed(11)
    fleet = Fleet(2_000, 20, Service(1_200, 48_000_000))
    fleet.run()
    for rate in (QUIET, NOISY):
        written, sent = account(fleet.pilots, rate)
        assert sent == written
