"""The processes of a payload, from recorded trees."""

import os
from pathlib import Path

from container.labels import LABELS_VARIABLE
from container.proctree import ProcessTree

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def process(
    proc: Path,
    pid: int,
    *,
    ppid: int = 1,
    sid: int = 1,
    start: int = 100,
    state: str = "S",
    cpu: tuple[int, int, int, int] = (0, 0, 0, 0),
    mark: str = "",
    pages: int = 30,
) -> None:
    """Write what the kernel says of one process."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = [state, ppid, sid, sid, 0, -1, 0, 0, 0, 0, 0, *cpu, 20, 0, 2, 0, start, 1000, pages, 0, 0]
    (folder / "stat").write_text(f"{pid} (a ) b) {' '.join(map(str, fields))}\n")
    (folder / "statm").write_text("100 30 10 1 0 1 0\n")
    (folder / "io").write_text("rchar: 5\nwchar: 6\nsyscr: 1\nread_bytes: 7\nwrite_bytes: 8\n")
    (folder / "smaps_rollup").write_text("x-y ---p [rollup]\nRss: 30 kB\nPss: 12 kB\nSwapPss: 3 kB\n")
    (folder / "environ").write_bytes(f"A=b\0{LABELS_VARIABLE}={mark}\0".encode() if mark else b"A=b\0")


def pids(tree: ProcessTree, *, thorough: bool = False) -> set[int]:
    return {stat.pid for stat in tree.members(thorough=thorough)}


def test_descendants_session_and_mark(tmp_path: Path) -> None:
    process(tmp_path, 1, start=0)
    process(tmp_path, 10, sid=10, mark="m")
    process(tmp_path, 11, ppid=10, sid=10)
    process(tmp_path, 12, ppid=11, sid=12)  # left the session, has its parent
    process(tmp_path, 13, ppid=1, sid=10)  # lost its parent, in the session
    process(tmp_path, 14, ppid=1, sid=14, mark="m")  # lost both, has the mark
    process(tmp_path, 15, ppid=14, sid=15)  # ... and a child
    process(tmp_path, 20, ppid=1, sid=20, mark="other")
    process(tmp_path, 21, ppid=1, sid=21, start=99, mark="m")  # of an earlier life
    process(tmp_path, 16, ppid=10, sid=10, state="Z")
    assert pids(ProcessTree(10, "m", 100, proc=tmp_path)) == {10, 11, 12, 13, 14, 15}


def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    process(tmp_path, 10, sid=10, mark="m")
    process(tmp_path, 12, ppid=10, sid=12)
    tree = ProcessTree(10, "m", 100, proc=tmp_path)
    assert pids(tree) == {10, 12}
    process(tmp_path, 12, ppid=1, sid=12)
    assert pids(tree) == {10, 12}
    # The number was given to a new process.
    process(tmp_path, 12, ppid=1, sid=12, start=500)
    assert pids(tree) == {10}


def test_a_stranger_is_looked_at_once_unless_with_care(tmp_path: Path) -> None:
    process(tmp_path, 10, sid=10, mark="m")
    process(tmp_path, 14, sid=14)
    tree = ProcessTree(10, "m", 100, proc=tmp_path)
    assert pids(tree) == {10}
    process(tmp_path, 14, sid=14, mark="m")
    assert pids(tree) == {10}
    assert pids(tree, thorough=True) == {10, 14}


def test_sums(tmp_path: Path) -> None:
    process(tmp_path, 10, sid=10, cpu=(1 * TICK, 2 * TICK, 3 * TICK, 4 * TICK))
    process(tmp_path, 11, ppid=10, sid=10, cpu=(5 * TICK, 0, 0, 0), pages=29)
    stats = ProcessTree(10, "m", 100, proc=tmp_path).stats()
    assert (stats.cpu_s, stats.processes, stats.threads) == (15.0, 2, 4)
    assert (stats.rss, stats.vmem) == (2 * 20 * PAGE, 2000)
    assert (stats.pss, stats.swap) == (2 * 12 * 1024, 2 * 3 * 1024)
    assert (stats.rchar, stats.wchar, stats.read_bytes, stats.write_bytes) == (10, 12, 14, 16)
    assert stats.source == "proc"


def test_memory_that_a_child_borrows_until_its_exec_counts_once(tmp_path: Path) -> None:
    process(tmp_path, 10, sid=10, cpu=(1 * TICK, 0, 0, 0))
    process(tmp_path, 11, ppid=10, sid=10, cpu=(5 * TICK, 0, 0, 0))
    stats = ProcessTree(10, "m", 100, proc=tmp_path).stats()
    assert (stats.rss, stats.vmem, stats.pss) == (20 * PAGE, 1000, 12 * 1024)
    assert (stats.cpu_s, stats.processes) == (6.0, 2)


def test_cpu_time_never_goes_back(tmp_path: Path) -> None:
    process(tmp_path, 10, sid=10, cpu=(TICK, 0, 0, 0))
    process(tmp_path, 11, sid=10, cpu=(9 * TICK, 0, 0, 0))
    tree = ProcessTree(10, "m", 100, proc=tmp_path)
    assert tree.stats().cpu_s == 10.0
    # An orphan whose parent is not ours to see takes its time along.
    for name in ("stat", "statm", "io", "smaps_rollup", "environ"):
        (tmp_path / "11" / name).unlink()
    assert tree.stats().cpu_s == 10.0
    assert tree.cpu_s == 10.0


def test_files_that_may_not_be_read_give_none(tmp_path: Path) -> None:
    process(tmp_path, 10, sid=10)
    for name in ("io", "smaps_rollup", "environ"):
        (tmp_path / "10" / name).unlink()
    stats = ProcessTree(10, "m", 100, proc=tmp_path).stats()
    assert (stats.pss, stats.swap, stats.rchar, stats.read_bytes) == (None, None, None, None)
    assert stats.rss == 20 * PAGE


def test_nobody_left(tmp_path: Path) -> None:
    stats = ProcessTree(10, "m", 100, proc=tmp_path).stats()
    assert (stats.processes, stats.cpu_s, stats.rss) == (0, None, None)
