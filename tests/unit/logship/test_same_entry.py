"""The same bytes have the same time and id at each attempt, other bytes have
another id.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.shipping import Rig
from tests.fakes.sink import AGAIN, LOST_ANSWER, YES, MemorySink

HOUR_S = 3600.0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemorySink())


def stamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def record(rig: Rig, ahead_s: float, seq: int) -> str:
    when = stamp(rig.clock.now + ahead_s)
    rig.append(json.dumps({"asctime": when, "message": "m", "seq": seq}).encode() + b"\n")
    return when


def killed_before_the_position_was_saved(rig: Rig, positions: str) -> None:
    rig.positions.write_text(positions)
    rig.kill()


@pytest.mark.parametrize("ahead_s", [5.0, 23 * HOUR_S + 60.0, 30 * HOUR_S])
@pytest.mark.parametrize("passed_s", [120.0, -48 * HOUR_S, 9 * HOUR_S, 30 * HOUR_S])
def test_a_record_has_the_same_time_whenever_it_is_sent(rig: Rig, ahead_s: float, passed_s: float) -> None:
    rig.append(b"first\n")
    rig.ship()
    positions = rig.positions.read_text()
    record(rig, ahead_s, 1)
    rig.ship()
    rig.clock.now += passed_s
    killed_before_the_position_was_saved(rig, positions)
    rig.finish()
    assert (len(rig.sink.stored), len(rig.sink.visible())) == (4, 2)


def test_a_long_jobs_records_keep_their_times_and_none_is_refused(rig: Rig) -> None:
    """A record a day and more ahead would be refused."""
    told = []
    for turn in range(20):
        told.append(record(rig, 0.0, turn))
        record(rig, 22.9 * HOUR_S, 1000 + turn)
        before = len(rig.sink.stored)
        rig.ship()
        latest = max(entry.timestamp for entry in rig.sink.stored[before:])
        assert latest <= stamp(rig.clock.now + 24 * HOUR_S)
        rig.clock.now += 7 * HOUR_S
        if turn % 3 == 0:
            rig.kill()
    seen = rig.sink.visible()
    assert [entry.timestamp for entry in seen if json.loads(entry.payload)["seq"] < 1000] == told
    assert len(seen) == 40


def test_what_may_have_arrived_already_gets_no_new_since(rig: Rig) -> None:
    rig.append(b"first\n")
    rig.ship()
    rig.append(b"second\n")
    rig.sink.mood = lambda _: LOST_ANSWER
    rig.shipper._stop.set()
    rig.shipper.ship_once()
    rig.kill()
    rig.clock.now += 12 * HOUR_S
    rig.sink.mood = lambda _: YES
    rig.ship()
    assert rig.messages() == ["first", "second"]
    rig.append(b"third\n")
    rig.ship()
    assert {place.generation for place in rig.shipper._tails[0].places} == {1}
    assert rig.messages() == ["first", "second", "third"]


def test_a_marker_flushed_and_then_its_document(rig: Rig) -> None:
    rig.append(b"text\n")
    rig.ship()
    positions = rig.positions.read_text()
    rig.append(b"###EXTRA###\n")
    rig.ship()
    rig.clock.now += rig.settings.idle_flush_s
    rig.ship()
    rig.append(b'{"records":[1,2]}\n')
    killed_before_the_position_was_saved(rig, positions)
    rig.finish()
    assert json.loads(rig.sink.visible()[-1].payload)["extra"] == {"records": [1, 2]}


def test_other_text_at_the_same_place(rig: Rig) -> None:
    """Sent, killed before the position was on disk, cut and written anew."""
    rig.append(b"")
    rig.ship()
    positions = rig.positions.read_text()
    rig.append(b"one\n")
    rig.ship()
    killed_before_the_position_was_saved(rig, positions)
    os.truncate(rig.path, 0)
    rig.append(b"two\n")
    rig.finish()
    assert rig.messages() == ["one", "two"]


def test_a_file_that_appears_while_the_sink_hangs_counts_as_left(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(), names=("a", "b", "link"))
    rig.lines(1)
    sizes: list[int] = []

    def mood(_: object) -> object:
        if not sizes:
            (tmp_path / "b").write_bytes(b"x" * 16_000)
            (tmp_path / "link").symlink_to("b")
            sizes.append(rig.shipper.counts().left_bytes)
        return AGAIN

    rig.sink.mood = mood  # type: ignore[assignment]
    rig.finish(seconds=1.0)
    assert sizes == [rig.path.stat().st_size + 16_000]


def test_without_time_what_is_there_counts_as_left(rig: Rig) -> None:
    rig.lines(3)
    assert rig.finish(seconds=0.0).left_bytes == rig.path.stat().st_size
