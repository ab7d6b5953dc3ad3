"""The file system in memory behaves as the machine's, as far as a tail can
tell.
"""

from pathlib import Path

import pytest

from tests.fakes.disk import MemoryDisk, RealDisk, WriterDisk


@pytest.fixture(params=[MemoryDisk, RealDisk])
def disk(request: pytest.FixtureRequest) -> WriterDisk:
    made: WriterDisk = request.param()
    return made


def test_growing_is_seen(disk: WriterDisk, tmp_path: Path) -> None:
    path = tmp_path / "log"
    disk.append(path, b"abc")
    fd = disk.open(path)
    before = disk.fstat(fd)
    assert (before.st_size, before.st_dev, before.st_ino) == (
        3,
        disk.stat(path).st_dev,
        disk.stat(path).st_ino,
    )
    disk.append(path, b"def")
    assert disk.pread(fd, 100, 2) == b"cdef"
    assert disk.pread(fd, 2, 2) == b"cd"
    assert disk.pread(fd, 100, 6) == b""
    assert disk.fstat(fd).st_size == 6
    disk.close(fd)


def test_an_open_file_survives_its_name(disk: WriterDisk, tmp_path: Path) -> None:
    path = tmp_path / "log"
    disk.append(path, b"old")
    fd = disk.open(path)
    disk.rename(path, tmp_path / "log.1")
    disk.append(path, b"new")
    assert disk.pread(fd, 10, 0) == b"old"
    assert disk.stat(path).st_ino != disk.fstat(fd).st_ino
    assert disk.stat(tmp_path / "log.1").st_ino == disk.fstat(fd).st_ino
    assert list(disk.namesakes(path)) == [path, tmp_path / "log.1"]
    disk.close(fd)


def test_truncation_and_a_second_descriptor(disk: WriterDisk, tmp_path: Path) -> None:
    path = tmp_path / "log"
    disk.append(path, b"abcdef")
    fd = disk.open(path)
    other = disk.dup(fd)
    disk.close(fd)
    disk.truncate(path)
    assert disk.fstat(other).st_size == 0
    disk.append(path, b"x")
    assert disk.pread(other, 10, 0) == b"x"
    disk.close(other)
    with pytest.raises((OSError, KeyError)):
        disk.fstat(fd)


def test_a_small_file_is_replaced_whole(disk: WriterDisk, tmp_path: Path) -> None:
    path = tmp_path / "positions"
    disk.save(path, "one")
    fd = disk.open(path)
    disk.save(path, "two")
    assert disk.load(path) == "two"
    assert disk.pread(fd, 10, 0) == b"one"
    disk.close(fd)


def test_what_is_not_there(disk: WriterDisk, tmp_path: Path) -> None:
    path = tmp_path / "no folder" / "log"
    assert not disk.exists(path)
    for ask in (disk.open, disk.stat, disk.load):
        with pytest.raises(FileNotFoundError):
            ask(path)
    assert not any(map(disk.exists, disk.namesakes(path)))


def test_names_in_a_folder(disk: WriterDisk, tmp_path: Path) -> None:
    path = tmp_path / "log"
    disk.append(path, b"x")
    disk.rename(path, tmp_path / "old")
    assert disk.real(path) == path
    assert [name for name in disk.entries(tmp_path) if name.name in ("log", "old")] == [tmp_path / "old"]


def test_of_a_folder_without_end_some_names_are_looked_at(tmp_path: Path) -> None:
    disk = RealDisk()
    inner, path = tmp_path / "inner", tmp_path / "log"
    inner.mkdir()
    disk.append(inner / "old", b"x")
    path.symlink_to(inner / "old")
    assert disk.real(path) == inner / "old"
    assert set(disk.entries(tmp_path)) == {inner, path, inner / "old"}
    for number in range(600):
        (tmp_path / str(number)).touch()
    assert len(disk.entries(tmp_path)) == 500
    assert not disk.entries(tmp_path / "nowhere")
