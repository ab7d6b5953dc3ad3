"""Files in a folder where others write too."""

import os
from pathlib import Path

import pytest

from pilot_core.base.files import open_regular, tail_bytes


def test_the_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert tail_bytes(path, 3) == b"789"
    assert tail_bytes(path, 99) == b"0123456789"
    assert tail_bytes(tmp_path / "none", 3) == b""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "log").symlink_to(tmp_path / "secret")
    assert tail_bytes(tmp_path / "log", 99) == b""


@pytest.mark.timeout(10)
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    assert tail_bytes(tmp_path / "log", 99) == b""
    with pytest.raises(OSError, match="no regular file"):
        open_regular(tmp_path / "log")


def test_nothing_stays_open_after_a_refusal(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    tail_bytes(tmp_path, 9)
    assert len(os.listdir("/proc/self/fd")) == before
