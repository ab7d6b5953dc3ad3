"""The main loop shows that it turns: in a file, and in the log."""

import json
import logging
from pathlib import Path

import pytest

from pilot_core.pulse import FILE_NAME, PERIOD_S, SAY_S, Pulse
from tests.fakes.clock import FakeClock


def test_a_quiet_payload_does_not_make_a_quiet_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    pulse = Pulse(tmp_path, clock)
    with caplog.at_level(logging.INFO):
        for _ in range(int(3600 / 10)):
            clock.now += 10
            pulse.beat()
    assert len(caplog.records) >= 3600 // SAY_S - 1
    assert SAY_S < 600, "the probe in the field looks for 10 minutes"


def test_the_file_is_written_now_and_then(tmp_path: Path) -> None:
    clock = FakeClock()
    pulse = Pulse(tmp_path, clock)
    pulse.beat()
    first = json.loads((tmp_path / FILE_NAME).read_text())
    clock.now += PERIOD_S - 1
    pulse.beat()
    assert json.loads((tmp_path / FILE_NAME).read_text()) == first
    clock.now += 1
    pulse.beat()
    second = json.loads((tmp_path / FILE_NAME).read_text())
    assert second["last_pilot_update"] - first["last_pilot_update"] == PERIOD_S
    assert second["time_since_detection"] == PERIOD_S


def test_a_folder_that_is_gone_does_not_end_the_pilot(tmp_path: Path) -> None:
    Pulse(tmp_path / "gone", FakeClock()).beat()
