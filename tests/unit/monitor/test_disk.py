"""Walking the job's folders: sizes, links, slices, the youngest file."""

import os
from pathlib import Path

import pytest

from pilot_core.monitor import disk
from pilot_core.monitor.disk import DiskMonitor, TreeMonitor, free_bytes
from pilot_core.monitor.looping import counts_as_activity
from pilot_core.monitor.output import OutputMonitor


class Time:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def file(path: Path, *, size: int = 0, mtime: float = 1000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (mtime, mtime))
    return path


def blocks(*paths: Path) -> int:
    return sum(path.lstat().st_blocks for path in paths) * 512


def look(*folders: Path, now: float = 1e9) -> dict[str, object]:
    return dict(TreeMonitor(folders).measure(now))


def test_size_and_youngest_file(tmp_path: Path) -> None:
    a = file(tmp_path / "a.fits", size=50_000, mtime=500.0)
    b = file(tmp_path / "sub/deep/b.fits", size=9_000, mtime=700.0)
    expected = blocks(a, b, tmp_path, tmp_path / "sub", tmp_path / "sub/deep")
    assert look(tmp_path) == {"workdir_bytes": expected, "newest_mtime": 700.0}


def test_links_are_not_followed_and_hard_links_count_once(tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    a = file(work / "a", size=50_000)
    file(outside / "big", size=500_000, mtime=9000.0)
    os.link(a, work / "b")
    (work / "c").symlink_to(outside)
    (work / "d").symlink_to(outside / "big")
    (work / "loop").symlink_to(work)
    found = look(work)
    assert found["newest_mtime"] == 1000.0
    assert found["workdir_bytes"] == blocks(a, work, work / "c", work / "d", work / "loop")


def test_a_sparse_file_takes_what_it_takes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as target:
        target.truncate(10**9)
    assert int(str(look(tmp_path)["workdir_bytes"])) < 10**6


def test_a_folder_inside_another_counts_once(tmp_path: Path) -> None:
    file(tmp_path / "shared/7/a", size=50_000)
    alone = look(tmp_path)
    assert look(tmp_path, tmp_path / "shared/7", tmp_path) == alone


def test_the_shared_folder_counts_too(tmp_path: Path) -> None:
    a = file(tmp_path / "work/a", size=50_000)
    b = file(tmp_path / "shared/b", size=50_000, mtime=2000.0)
    found = look(tmp_path / "work", tmp_path / "shared")
    assert found == {"workdir_bytes": blocks(a, b, a.parent, b.parent), "newest_mtime": 2000.0}


def test_the_future_is_now_and_nothing_is_nothing(tmp_path: Path) -> None:
    assert "newest_mtime" not in look(tmp_path)
    assert look(tmp_path / "missing") == {"workdir_bytes": 0}
    file(tmp_path / "a", mtime=5000.0)
    assert look(tmp_path, now=4000.0)["newest_mtime"] == 4000.0


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("payload.stderr", True),
        ("payload-log.json", True),
        ("calexp.fits", True),
        ("pilotlog.txt", False),
        ("memory_monitor_pilot.txt", False),
        ("prmon.txt", False),
        ("task.py", False),
        (".payload.stdout.x7", False),
    ],
)
def test_which_files_mean_progress(tmp_path: Path, name: str, counts: bool) -> None:
    assert counts_as_activity(name) is counts
    file(tmp_path / "old", mtime=100.0)
    file(tmp_path / name, mtime=900.0)
    assert look(tmp_path)["newest_mtime"] == (900.0 if counts else 100.0)


def test_a_round_rests_for_its_period_or_its_cost(tmp_path: Path) -> None:
    clock, cpu = Time(), Time()

    def busy() -> float:
        cpu.now += 0.5  # a round looks twice
        return cpu.now

    monitor = TreeMonitor([tmp_path], period_s=60.0, clock=clock, cpu_clock=busy)
    file(tmp_path / "a", mtime=100.0)
    assert monitor.measure(1e9)["newest_mtime"] == 100.0
    file(tmp_path / "a", mtime=200.0)
    clock.now = 60.0
    assert monitor.measure(1e9)["newest_mtime"] == 100.0  # 0.5 s of CPU ask for 200 s of rest
    clock.now = 0.5 * disk.REST
    assert monitor.measure(1e9)["newest_mtime"] == 200.0


def test_a_large_tree_is_walked_in_slices(tmp_path: Path) -> None:
    clock = Time()
    for number in range(600):
        file(tmp_path / f"d{number % 7}/{number}", size=5000, mtime=float(number + 1))
    whole = look(tmp_path)

    def slow() -> float:
        clock.now += disk.SLICE_S  # each look at the clock finds the slice over
        return clock.now

    monitor = TreeMonitor([tmp_path], clock=slow)
    first = monitor.measure(1e9)
    assert "newest_mtime" not in first  # half a round says nothing about silence
    assert 0 < int(first["workdir_bytes"]) < int(str(whole["workdir_bytes"]))
    readings = [monitor.measure(1e9) for _ in range(2)]
    assert readings[-1] == whole


def test_what_vanishes_between_slices_is_passed_over(tmp_path: Path) -> None:
    for number in range(600):
        file(tmp_path / f"d{number:03}/f")
    clock = Time()

    def slow() -> float:
        clock.now += disk.SLICE_S
        return clock.now

    monitor = TreeMonitor([tmp_path], clock=slow)
    monitor.measure(1e9)
    for number in range(600):
        (tmp_path / f"d{number:03}/f").unlink()
        (tmp_path / f"d{number:03}").rmdir()
    readings = [monitor.measure(1e9) for _ in range(3)]
    assert "workdir_bytes" in readings[-1]


def test_free_space(tmp_path: Path) -> None:
    assert (free_bytes(tmp_path) or 0) > 0
    assert free_bytes(tmp_path / "missing") is None
    assert set(DiskMonitor(tmp_path).measure(0.0)) == {"free_bytes"}
    assert DiskMonitor(tmp_path / "missing").measure(0.0) == {}


def test_output_sizes(tmp_path: Path) -> None:
    monitor = OutputMonitor(tmp_path / "payload.stdout", tmp_path / "payload.stderr")
    assert monitor.measure(0.0) == {}
    file(tmp_path / "payload.stderr", size=7)
    assert monitor.measure(0.0) == {"stderr_bytes": 7}
