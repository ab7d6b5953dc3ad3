"""Announcements that the machine goes away."""

from pathlib import Path

import pytest

from pilot_core.monitor.shutdown import parse_preempted, shutdown_time


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"TRUE", True), (b"TRUE\n", True), (b"FALSE", False), (b"", None), (b"<html>", None), (b"\xff", None)],
)
def test_the_metadata_servers_words(body: bytes, said: bool | None) -> None:
    assert parse_preempted(body) is said


@pytest.mark.parametrize(
    ("files", "time"),
    [
        ({}, None),
        ({"shutdowntime": "1700000000\n"}, 1.7e9),
        ({"shutdowntime": "1700000900", "shutdowntime_job": "1700000000"}, 1.7e9),
        ({"shutdowntime": "soon", "shutdowntime_job": "nan"}, None),
        ({"shutdowntime": "0"}, None),
    ],
)
def test_machine_features(tmp_path: Path, files: dict[str, str], time: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert shutdown_time(tmp_path) == time


def test_no_machine_features() -> None:
    assert shutdown_time(None) is None
