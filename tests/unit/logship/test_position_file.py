"""Whatever became of the position file, the log goes on."""

import json
from pathlib import Path

import pytest

from tests.fakes.shipping import Rig
from tests.fakes.sink import MemorySink


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemorySink())


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 99, "places": []}', '{"version": 1, "places": [3]}']
)
def test_a_broken_position_file_doubles_nothing(rig: Rig, content: str) -> None:
    written = rig.lines(20)
    rig.append(b"a line without a time\n")
    rig.ship()
    rig.positions.write_text(content)
    rig.kill()
    rig.finish()
    seen = [json.loads(e.payload).get("seq") for e in rig.sink.visible()]
    assert seen[: len(written)] == written


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": "x"},
        {"offset": -1},
        {"seen_to": -5, "offset": -9},
        {"offset": 9, "seen_to": 5},
        {"seen_to": 1 << 70},
        {"offset": 1.5},
        {"since": "x"},
        {"since": 1e300},
        {"since": float("nan")},
        {"part": True},
        {"state": None},
        {"real": 3},
        {"over": "no"},
        {"places": "deep"},
    ],
)
def test_a_position_that_no_file_can_have_is_not_used(rig: Rig, wrong: dict[str, object]) -> None:
    written = rig.lines(20)
    rig.ship()
    said = json.loads(rig.positions.read_text())
    said["places"][0] |= wrong
    deep = '{"version": 1, "places": ' + "[" * 100_000
    rig.positions.write_text(deep if "places" in wrong else json.dumps(said))
    rig.kill()
    rig.finish()
    assert rig.seen() == written


def test_a_state_that_is_no_time_is_not_used(rig: Rig) -> None:
    rig.lines(1)
    rig.finish()
    said = json.loads(rig.positions.read_text())
    said["places"][0]["state"] = "garbage"
    rig.positions.write_text(json.dumps(said))
    rig.kill()
    rig.append(b"no time\n")
    rig.finish()
    assert rig.sink.visible()[-1].timestamp == "2023-11-14T22:13:20.000000Z"  # when it was seen first


def test_a_position_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink())
    rig.positions.mkdir()
    rig.kill()
    written = rig.lines(10)
    rig.finish()
    assert rig.seen() == written
