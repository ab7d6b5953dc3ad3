"""Files in a folder where others write too."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pilot_core.base.files import open_regular, remove_tree, tail_bytes


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


def chain(folder: Path, depth: int) -> None:
    """A folder in a folder in a folder..."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "w") as out:
        out.write("x")
    os.close(fd)


def test_a_tree_deeper_than_the_stack_is_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").write_text("x")
    chain(tree / "a" / "b", 3000)
    chain(tree, 3)
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(tree)
    assert not tree.exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "link").symlink_to(tmp_path / "other")
    (tree / "a" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "name").symlink_to(tree)
    remove_tree(tmp_path / "name")
    assert (tree / "a").exists()
    remove_tree(tree)
    assert not tree.exists()
    assert (tmp_path / "other" / "file").exists()


def test_read_only_folders_are_removed_and_nothing_is_no_failure(tmp_path: Path) -> None:
    for path in (tmp_path / "tree" / "a" / "b", tmp_path / "tree" / "a"):
        path.mkdir(parents=True, exist_ok=True)
    (tmp_path / "tree" / "a" / "b" / "file").write_text("x")
    for path in (tmp_path / "tree" / "a" / "b", tmp_path / "tree" / "a"):
        path.chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    remove_tree(tmp_path / "tree")


# Folders closed to their own owner, made and removed by somebody who is not root:
# their mode stops nobody else. Argument 1 is where.
CLOSED = """
import os, sys
from pathlib import Path
from pilot_core.base.files import remove_tree
if os.getuid() == 0:
    os.chown(sys.argv[1], 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir(sys.argv[1])
for mode in (0o000, 0o100, 0o500):
    top = Path(f"w{mode:o}")
    (top / "a" / "b").mkdir(parents=True)
    (top / "file").touch()
    (top / "a" / "b" / "file").touch()
    Path(f"link{mode:o}").symlink_to("kept")
    for path in (top / "a" / "b", top / "a", top):
        path.chmod(mode)
    remove_tree(top)
    print(top.exists())
Path("kept").mkdir()
Path("kept").chmod(0o500)
remove_tree(Path("link0"))
print(oct(Path("kept").stat().st_mode))
"""


def test_a_folder_that_its_payload_has_closed_is_removed() -> None:
    # Not in pytest's own folder: nobody else may go through that.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", CLOSED, folder],
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.split() == ["False", "False", "False", "0o40500"], done.stderr
