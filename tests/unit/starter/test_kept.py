"""What earlier workers left: the living are never touched, the useful stays a
while.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pilot_core.ledger import FILE_NAME, UNREADABLE, Ledger
from pilot_starter.kept import KEEP_DAYS, KEEP_MOST, STARTER_LOCK, occupied, sweep

NOW = 2e9
HOUR, DAY = 3600.0, 86_400.0


def home(tmp_path: Path, name: str = "panda_a", *, age_s: float = HOUR, owes: str = "") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    with occupied(folder):
        (folder / "pilotlog.txt").touch()
    if owes:
        (folder / owes).mkdir() if owes.startswith("PanDA") else (folder / owes).touch()
    for path in (folder / STARTER_LOCK, folder):
        os.utime(path, (NOW - age_s, NOW - age_s))
    return folder


def swept(tmp_path: Path) -> set[str]:
    before = {path.name for path in tmp_path.iterdir()}
    sweep(tmp_path, now=NOW, stop=threading.Event())
    return before - {path.name for path in tmp_path.iterdir()}


def test_nothing_of_use_goes(tmp_path: Path) -> None:
    home(tmp_path)
    assert swept(tmp_path) == {"panda_a"}


@pytest.mark.parametrize("owes", [FILE_NAME, UNREADABLE, "PanDA_Pilot-4711"])
def test_something_of_use_stays_for_a_while(
    tmp_path: Path, owes: str, caplog: pytest.LogCaptureFixture
) -> None:
    home(tmp_path, "panda_young", age_s=(KEEP_DAYS - 1) * DAY, owes=owes)
    home(tmp_path, "panda_old", age_s=(KEEP_DAYS + 1) * DAY, owes=owes)
    assert swept(tmp_path) == {"panda_old"}
    assert f"is removed with {owes}" in caplog.text


def test_so_many_stay_and_the_newest_of_them(tmp_path: Path) -> None:
    for n in range(KEEP_MOST + 3):
        home(tmp_path, f"panda_{n:02d}", age_s=HOUR * (n + 1), owes="PanDA_Pilot-1")
    home(tmp_path, "panda_empty", age_s=HOUR / 2)
    assert swept(tmp_path) == {"panda_empty", "panda_10", "panda_11", "panda_12"}


def test_the_living_are_never_touched(tmp_path: Path) -> None:
    with_starter, with_pilot = home(tmp_path, "panda_s"), home(tmp_path, "panda_p", age_s=90 * DAY)
    with Ledger(with_pilot).claimed():
        os.utime(with_pilot, (NOW - 90 * DAY,) * 2)
        with occupied(with_starter):
            assert swept(tmp_path) == set()
        assert swept(tmp_path) == {"panda_s"}
    assert swept(tmp_path) == {"panda_p"}


def test_who_is_just_moving_in_is_left_alone(tmp_path: Path) -> None:
    home(tmp_path, age_s=60.0)
    assert swept(tmp_path) == set()


def test_folders_of_others_are_not_ours_to_remove(tmp_path: Path) -> None:
    (tmp_path / "panda_wrapper").mkdir()
    (tmp_path / "panda_file").touch()
    elsewhere = home(tmp_path, "elsewhere")
    (tmp_path / "panda_link").symlink_to(elsewhere)
    linked = home(tmp_path, "panda_linked")
    (linked / STARTER_LOCK).unlink()
    (linked / STARTER_LOCK).symlink_to(elsewhere / STARTER_LOCK)
    for path in (tmp_path / "panda_wrapper", linked):
        os.utime(path, (NOW - 90 * DAY,) * 2)
    if os.getuid() == 0:
        os.chown(home(tmp_path, "panda_other_user"), 12345, 12345)
    assert swept(tmp_path) == set()


def test_it_stops_when_told_to(tmp_path: Path) -> None:
    home(tmp_path)
    stop = threading.Event()
    stop.set()
    sweep(tmp_path, now=NOW, stop=stop)
    assert (tmp_path / "panda_a").exists()


def test_a_tree_deeper_than_the_stack_goes_like_any_other(tmp_path: Path) -> None:
    folder = home(tmp_path)
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    os.utime(folder, (NOW - HOUR,) * 2)
    assert swept(tmp_path) == {"panda_a"}


def test_what_cannot_be_looked_at_ends_no_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep(tmp_path / ("x" * 300), now=NOW, stop=threading.Event())
    assert "is not swept: File name too long" in caplog.text


# An audit hook stays for the life of the process.
WATCHED = """
import os, sys, threading
from pathlib import Path
from pilot_starter.kept import sweep
gone = []
sys.addaudithook(lambda event, args: gone.append(args[0]) if event == "os.remove" else None)
sweep(Path(sys.argv[1]), now=float(sys.argv[2]), stop=threading.Event())
print(*(os.path.basename(path) for path in gone))
"""


def test_the_mark_goes_last(tmp_path: Path) -> None:
    """What a sweep that was cut short leaves is the next worker's to remove."""
    folder = home(tmp_path)
    (folder / "sub").mkdir()
    for name in ("a", "sub/b", "z"):
        (folder / name).touch()
    (folder / "link").symlink_to(tmp_path)
    os.utime(folder, (NOW - HOUR,) * 2)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path), str(NOW)],
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *others, last = done.stdout.split()
    assert (sorted(others), last) == (["a", "b", "link", "pilotlog.txt", "z"], STARTER_LOCK)
    assert not folder.exists()


def test_no_such_folder(tmp_path: Path) -> None:
    sweep(tmp_path / "gone", now=NOW, stop=threading.Event())
