"""A payload's cgroup on recorded trees: where it is made, and what is written
there.

On a tree of plain files a group that was made is empty, so each test adds the
files that the kernel would have made.
"""

import os
from pathlib import Path

import pytest

from container.taskgroup import TaskGroup, find_groups, make_group, remove_stale

OURS = f"1\n{os.getpid()}\n"


class Tree:
    """/proc/self/cgroup and /sys/fs/cgroup below a folder."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        self.proc, self.root = folder / "proc", folder / "cg"
        (self.proc / "self").mkdir(parents=True)
        self.root.mkdir()
        (self.proc / "self" / "cgroup").write_text(cgroup)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def make(self, limit: int = 50) -> TaskGroup | None:
        return make_group(limit, "a=b", proc=self.proc, root=self.root)

    def find(self) -> list[TaskGroup]:
        return find_groups(proc=self.proc, root=self.root)


def test_v1_below_our_own_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "9:name=systemd:/\n8:pids:/batch/slot1\n0::/\n")
    tree.write("pids/batch/slot1/cgroup.procs", OURS)
    group = tree.make()
    assert group is not None
    assert group.folder.parent == tree.root / "pids/batch/slot1"
    assert (group.folder / "pids.max").read_text() == "50"
    with group.entered():
        assert (group.folder / "tasks").read_text() == "0"
    assert (group.folder.parent / "tasks").read_text() == "0"
    assert [found.folder for found in tree.find()] == [group.folder]
    (group.folder / "pids.events").write_text("max 7\n")
    (group.folder / "pids.current").write_text("49\n")
    assert (group.refused, group.count) == (7, 49)
    group.shut()
    assert (group.folder / "pids.max").read_text() == "0"


def test_v1_in_a_container_that_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "8:pids:/docker/4f4f\n")
    tree.write("pids/cgroup.procs", OURS)
    group = tree.make()
    assert group is not None
    assert group.folder.parent == tree.root / "pids"


def test_v2_needs_the_controller_and_makes_a_threaded_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/slot\n")
    tree.write("slot/cgroup.procs", OURS)
    tree.write("slot/cgroup.controllers", "cpu memory\n")
    assert tree.make() is None
    tree.write("slot/cgroup.controllers", "cpu memory pids\n")
    tree.write("slot/cgroup.subtree_control", "")
    group = tree.make()
    assert group is not None
    assert group.folder.parent == tree.root / "slot"
    assert (group.folder / "cgroup.type").read_text() == "threaded"
    assert (tree.root / "slot/cgroup.subtree_control").read_text() == "+pids"
    assert (group.folder / "pids.max").read_text() == "50"
    with group.entered():
        assert (group.folder / "cgroup.threads").read_text() == "0"
    assert (group.folder.parent / "cgroup.threads").read_text() == "0"
    (group.folder / "cgroup.threads").write_text("11\n12\n")
    assert group.tasks() == {11, 12}


@pytest.mark.parametrize(
    ("cgroup", "procs"),
    [
        ("8:pids:/batch/slot1\n", "1\n2\n"),  # somebody else's group
        ("8:memory:/batch/slot1\n", OURS),
        ("", OURS),
    ],
    ids=["of somebody else", "of another controller", "of none"],
)
def test_nowhere_else(tmp_path: Path, cgroup: str, procs: str) -> None:
    tree = Tree(tmp_path, cgroup)
    tree.write("pids/batch/slot1/cgroup.procs", procs)
    tree.write("pids/cgroup.procs", "1\n")
    assert tree.make() is None
    assert tree.find() == []


def test_a_group_that_cannot_be_used_is_taken_back(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/slot\n")
    tree.write("slot/cgroup.procs", OURS)
    tree.write("slot/cgroup.controllers", "pids\n")
    # The kernel refuses the controller: here what should be a file is none.
    (tree.root / "slot/cgroup.subtree_control").mkdir()
    assert tree.make() is None


def test_groups_of_dead_owners_go_when_they_are_old_and_empty(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "8:pids:/slot\n")
    tree.write("pids/slot/cgroup.procs", OURS)
    young, old, busy = (tree.root / "pids/slot" / f"container-{name}" for name in ("young", "old", "busy"))
    for folder in (young, old, busy):
        folder.mkdir()
    # A group with somebody in it: the kernel refuses to remove it.
    (busy / "somebody").touch()
    for folder in (old, busy):
        os.utime(folder, (1_000.0, 1_000.0))
    os.utime(young, (1_950.0, 1_950.0))
    remove_stale(2_000.0, proc=tree.proc, root=tree.root)
    assert {group.folder for group in tree.find()} == {young, busy}
