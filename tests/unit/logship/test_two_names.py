"""One file under two names that are both looked at: each line once."""

import os
from pathlib import Path

import pytest

from tests.fakes.shipping import Rig
from tests.fakes.sink import MemorySink


def rig_for(folder: Path, names: tuple[str, ...] = ("real.json", "payload-log.json")) -> Rig:
    return Rig(folder, MemorySink(), names=names)


def sym(rig: Rig) -> None:
    rig.paths[1].symlink_to(rig.paths[0].name)


def hard(rig: Rig) -> None:
    os.link(rig.paths[0], rig.paths[1])


@pytest.mark.parametrize("names", [("real.json", "payload-log.json"), ("payload-log.json", "real.json")])
@pytest.mark.parametrize("link", [sym, hard])
def test_a_line_under_two_names_is_shipped_once(tmp_path: Path, link: object, names: tuple[str, str]) -> None:
    rig = rig_for(tmp_path, names)
    written = rig.lines(10)
    assert callable(link)
    link(rig)
    rig.ship()
    written += rig.lines(10)
    rig.finish()
    assert rig.seen() == written


def test_the_second_name_appears_late(tmp_path: Path) -> None:
    rig = rig_for(tmp_path)
    written = rig.lines(10)
    rig.ship()
    sym(rig)
    written += rig.lines(10)
    rig.finish()
    assert rig.seen() == written


@pytest.mark.parametrize("first", [0, 1])
def test_a_restart_knows_which_name_it_was_read_under(tmp_path: Path, first: int) -> None:
    """The name that comes second in the list may be the one that was there
    first.
    """
    rig = rig_for(tmp_path)
    rig.path = rig.paths[first]
    written = rig.lines(10)
    rig.ship()
    rig.finish()
    rig.paths[1 - first].symlink_to(rig.path.name)
    rig.kill()
    written += rig.lines(10)
    rig.finish()
    assert rig.seen() == written


def test_a_link_that_is_pointed_elsewhere_leaves_the_file_where_it_is_read(tmp_path: Path) -> None:
    """Read under the link; it goes on, and a restart finds it under its own
    name.
    """
    rig = rig_for(tmp_path, ("payload-log.json", "real.json"))
    link, rig.path = rig.paths
    link.symlink_to("real.json")
    written = rig.lines(10)
    rig.ship()
    link.unlink()
    link.symlink_to("other.json")
    Path(tmp_path, "other.json").touch()
    rig.ship()
    rig.clock.now += 100.0  # longer than a file without a name is waited for
    rig.ship()
    written += rig.lines(10)
    rig.ship()
    rig.kill()
    written += rig.lines(10)
    rig.finish()
    assert rig.seen() == written


def test_the_second_name_becomes_a_file_of_its_own(tmp_path: Path) -> None:
    rig = rig_for(tmp_path)
    written = rig.lines(10)
    sym(rig)
    rig.ship()
    rig.paths[1].unlink()
    rig.path = rig.paths[1]
    written += rig.lines(10)
    rig.finish()
    assert rig.seen() == written
