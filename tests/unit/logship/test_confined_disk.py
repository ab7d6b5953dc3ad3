"""A link in the job's folder does not ship what its author may not read."""

import os
from pathlib import Path

import pytest

from pilot_core.logship.disk import ConfinedDisk, folders_outside


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    work, shared, outside = tmp_path / "work", tmp_path / "shared", tmp_path / "gcscreds"
    for folder in (work, shared, outside):
        folder.mkdir()
    (outside / "key.json").write_text("hunter2")
    (shared / "payload-log.json").write_text("log")
    return work, shared, outside


def test_a_link_into_the_shared_folder_is_followed(folders: tuple[Path, Path, Path]) -> None:
    work, shared, _ = folders
    link = work / "payload-log.json"
    link.symlink_to(shared / "payload-log.json")
    disk = ConfinedDisk([work, shared])
    fd = disk.open(link)
    assert os.read(fd, 10) == b"log"
    disk.close(fd)


def test_a_link_out_of_the_folders_is_refused(folders: tuple[Path, Path, Path]) -> None:
    work, shared, outside = folders
    disk = ConfinedDisk([work, shared])
    link = shared / "evil"
    link.symlink_to(outside / "key.json")
    # Twice removed, as the runner's own link makes it.
    first = work / "payload-log.json"
    first.symlink_to(link)
    before = len(os.listdir("/proc/self/fd"))
    for path in (link, first, work / ".." / "gcscreds" / "key.json"):
        with pytest.raises(PermissionError, match="leads out"):
            disk.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_a_link_itself_counts_as_what_it_leads_to(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, shared, _ = folders
    alias = tmp_path / "alias"
    alias.symlink_to(shared)
    disk = ConfinedDisk([alias])
    disk.close(disk.open(alias / "payload-log.json"))


def test_a_folder_inside_the_job_s_is_not_named_by_the_operator(tmp_path: Path) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work.mkdir()
    elsewhere.mkdir()
    (elsewhere / "key").write_bytes(b"secret")
    (work / "logs").symlink_to(elsewhere)
    files = [work / "logs/key", work / "a", work / "x/../b", Path("/var/log/y"), work / "../z"]
    assert folders_outside(work, files) == [Path("/var/log"), tmp_path]
    with pytest.raises(PermissionError):
        ConfinedDisk([work, *folders_outside(work, files[:3])]).open(work / "logs/key")
