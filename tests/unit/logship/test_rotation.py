"""Files that change their names, or their content, where nobody sees it."""

import os
import shutil
from pathlib import Path

import pytest

from pilot_core.logship.contract import Outcome, OutcomeKind
from tests.fakes.shipping import Rig, line
from tests.fakes.sink import YES, MemorySink


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemorySink())


def rotate(rig: Rig, turns: int = 5) -> None:
    """As Python's RotatingFileHandler does it: the newest is `.1`."""
    for turn in range(turns, 0, -1):
        old = rig.path.with_name(f"{rig.path.name}.{turn}")
        if old.exists():
            old.rename(rig.path.with_name(f"{rig.path.name}.{turn + 1}"))
    rig.path.rename(rig.path.with_name(f"{rig.path.name}.1"))


def point(link: Path, target: Path) -> None:
    other = link.with_name("another")
    other.symlink_to(target)
    other.replace(link)


def test_cut_and_renamed_in_an_outage(rig: Rig) -> None:
    away = [True]
    rig.sink.mood = lambda _: Outcome(OutcomeKind.RETRY, detail="503") if away else YES
    rig.lines(5)
    rig.clock.at(10, lambda: (os.truncate(rig.path, 0), rig.lines(5)))
    rig.clock.at(30, lambda: (rotate(rig), rig.lines(5)))
    rig.clock.at(60, away.clear)
    rig.ship()
    rig.finish()
    assert rig.seen() == list(range(15))


@pytest.mark.parametrize("where", ["old-1.json", "old/payload-log.json", "payload-log.json.1"])
def test_a_restart_finds_a_file_under_another_name(rig: Rig, where: str) -> None:
    rig.lines(3)
    rig.ship()
    rig.lines(3)
    new = rig.path.parent / where
    new.parent.mkdir(exist_ok=True)
    rig.path.rename(new)
    rig.lines(3)
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(9))


def test_a_restart_finds_what_a_link_led_to(rig: Rig) -> None:
    folder = rig.path.parent / "elsewhere"
    folder.mkdir()
    first, second = folder / "a", folder / "b"
    first.write_bytes(b"".join(map(line, range(3))))
    rig.path.symlink_to(first)
    rig.ship()
    with first.open("ab") as out:
        out.write(b"".join(map(line, range(3, 6))))
    second.write_bytes(b"".join(map(line, range(6, 9))))
    point(rig.path, second)
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(9))


@pytest.mark.parametrize("restart", [False, True])
def test_a_link_that_comes_back_goes_on_where_it_was(rig: Rig, restart: bool) -> None:
    first, second = rig.path.with_name("a"), rig.path.with_name("b")
    first.write_bytes(b"".join(map(line, range(5))))
    second.write_bytes(b"".join(map(line, range(5, 10))))
    rig.path.symlink_to(first)
    rig.ship()
    point(rig.path, second)
    rig.ship()
    rig.clock.now += 2 * rig.settings.rotate_wait_s
    rig.ship()
    assert [file.place.real for file in rig.shipper._tails[0].files] == [str(second)]
    if restart:
        rig.kill()
    point(rig.path, first)
    with first.open("ab") as out:
        out.write(line(10))
    rig.finish()
    assert rig.seen() == list(range(11))


def test_a_deleted_file_is_not_taken_for_another_with_its_number(rig: Rig) -> None:
    rig.append(b"begin\n")
    rig.ship()
    rig.path.unlink()
    rig.append(b"x\n")
    rig.ship()
    rig.clock.now += 2 * rig.settings.rotate_wait_s
    rig.ship()
    assert len(rig.shipper._tails[0].places) == 1
    rig.path.unlink()
    rig.append(b"begin\nagain\n")
    rig.finish()
    assert rig.messages() == ["begin", "x", "begin", "again"]


@pytest.mark.parametrize("restart", [False, True])
def test_renamed_twice_between_two_looks(rig: Rig, restart: bool) -> None:
    rig.lines(3)
    rig.ship()
    for _ in range(3):
        rig.lines(3)
        rotate(rig)
    rig.lines(3)
    if restart:
        rig.kill()
    rig.ship()
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(15))


def test_renamed_twice_and_nothing_has_the_name(rig: Rig) -> None:
    rig.lines(3)
    rig.ship()
    rig.clock.now += 2 * rig.settings.rotate_wait_s
    rotate(rig)
    rig.lines(3)
    rotate(rig)
    rig.finish()
    assert rig.seen() == list(range(6))


def test_renamed_before_the_first_look(rig: Rig) -> None:
    rig.lines(3)
    rotate(rig)
    rig.lines(3)
    rig.ship()
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(6))


def test_a_file_of_before_the_job_is_not_taken_over(rig: Rig) -> None:
    old = rig.path.with_name(f"{rig.path.name}.1")
    old.write_bytes(line(900))
    os.utime(old, (rig.clock.now - 60.0, rig.clock.now - 60.0))
    written = rig.lines(3)
    rig.finish()
    assert rig.seen() == written


def copied(rig: Rig) -> None:
    shutil.copy(rig.path, rig.path.with_name(f"{rig.path.name}.1"))


@pytest.mark.parametrize("looks", [0, 1])
def test_a_copy_is_not_shipped(rig: Rig, looks: int) -> None:
    """copytruncate leaves one, and so does somebody who wants to have a look."""
    rig.lines(300)
    for _ in range(looks):
        rig.ship()
    copied(rig)
    rig.ship()
    os.truncate(rig.path, 0)
    rig.lines(5)
    rig.ship()
    rotate(rig)
    rig.lines(5)
    rig.finish()
    assert rig.seen() == list(range(310))


def test_a_copy_of_a_file_that_is_over_is_not_shipped(rig: Rig) -> None:
    rig.lines(3)
    rig.ship()
    rotate(rig)
    rig.ship()
    rig.lines(1)
    rig.ship()
    rig.clock.now += 2 * rig.settings.rotate_wait_s
    rig.ship()
    shutil.copy(rig.path.with_name(f"{rig.path.name}.1"), rig.path.with_name(f"{rig.path.name}.2"))
    rotate(rig)
    rig.lines(1)
    rig.finish()
    assert rig.seen() == list(range(5))


def test_cut_and_renamed_while_nobody_looked(rig: Rig) -> None:
    rig.lines(50)
    rig.ship()
    rig.finish()
    os.truncate(rig.path, 0)
    rig.lines(80)
    rotate(rig)
    rig.lines(5)
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(135))
