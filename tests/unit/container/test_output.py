"""Output files: appended, and a full disk is counted, not raised."""

import logging
from pathlib import Path

import pytest

from container.output import OutputFile


def test_appends(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before ")
    out = OutputFile(path)
    out.write(memoryview(b"a\xff\0"))
    out.write(memoryview(b""))
    out.write(memoryview(b"b"))
    out.close()
    out.close()
    assert path.read_bytes() == b"before a\xff\0b"


def test_a_full_disk_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    out = OutputFile(Path("/dev/full"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            out.write(memoryview(b"abcd"))
        out.close()
    assert out.dropped == 12
    assert [record.message for record in caplog.records] == [
        "/dev/full: output of the payload is lost from here on: No space left on device",
        "/dev/full: 12 bytes could not be written",
    ]


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OutputFile(tmp_path / "none" / "out")
