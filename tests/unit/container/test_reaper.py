"""Who may be removed: only what a dead owner left."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from container.errors import EngineUnavailable
from container.reaper import BOOT_LABEL, OWNER_LABEL, Owner, Reaper
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
from tests.fakes.engine import FakeEngine

FAMILY = {"family": "pilot"}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(clock=SystemClock())


def start(engine: FakeEngine, folder: Path, name: str, labels: Mapping[str, str]) -> None:
    engine.start(
        ContainerSpec(
            name=name,
            argv=("x",),
            workdir="/",
            stdout=folder / "o",
            stderr=folder / "e",
            environment={"FAKE_SLEEP": "inf"},
            labels=labels,
        )
    )


def dead_owner(folder: Path) -> dict[str, str]:
    """Labels of an owner that was killed: its lock file is there, and free."""
    owner = Owner(folder)
    with owner:
        pass
    (folder / f".container-owner-{owner.token}").touch()
    return {**FAMILY, **owner.labels}


def test_the_table(engine: FakeEngine, tmp_path: Path) -> None:
    with Owner(tmp_path) as me, Owner(tmp_path) as neighbour:
        start(engine, tmp_path, "mine", {**FAMILY, **me.labels})
        start(engine, tmp_path, "neighbour", {**FAMILY, **neighbour.labels})
        start(engine, tmp_path, "dead", dead_owner(tmp_path))
        start(engine, tmp_path, "no-file", {**FAMILY, **me.labels, OWNER_LABEL: "0" * 32})
        start(engine, tmp_path, "other-boot", {**FAMILY, OWNER_LABEL: "0" * 32, BOOT_LABEL: "b"})
        start(engine, tmp_path, "no-owner", FAMILY)
        start(engine, tmp_path, "no-family", {**dead_owner(tmp_path), "family": "other"})
        done = Reaper(engine, me, FAMILY, local=True).reap()
    assert set(done.removed) == {"dead", "other-boot"}
    assert set(done.kept) == {"mine", "neighbour", "no-file", "no-owner"}
    assert not done.failed
    assert "no-family" in engine.containers


def test_another_boot_proves_nothing_about_a_distant_engine(engine: FakeEngine, tmp_path: Path) -> None:
    with Owner(tmp_path) as me:
        start(engine, tmp_path, "x", {**FAMILY, OWNER_LABEL: "0" * 32, BOOT_LABEL: "b"})
        assert Reaper(engine, me, FAMILY, local=False).reap().kept == ("x",)


def test_a_neighbour_of_another_boot_that_holds_its_lock_lives(engine: FakeEngine, tmp_path: Path) -> None:
    with Owner(tmp_path) as me, Owner(tmp_path) as neighbour:
        start(engine, tmp_path, "x", {**FAMILY, **neighbour.labels, BOOT_LABEL: "b"})
        assert Reaper(engine, me, FAMILY, local=True).reap().kept == ("x",)


@pytest.mark.parametrize("token", ["../../etc/passwd", "a/b", ".", "", " "])
def test_a_token_from_outside_leads_nowhere(engine: FakeEngine, tmp_path: Path, token: str) -> None:
    with Owner(tmp_path) as me:
        start(engine, tmp_path, "x", {**FAMILY, OWNER_LABEL: token, BOOT_LABEL: "b"})
        assert Reaper(engine, me, FAMILY, local=True).reap().kept == ("x",)


def test_two_engines_need_the_same_proof(engine: FakeEngine, tmp_path: Path) -> None:
    labels = dead_owner(tmp_path)
    other = FakeEngine(clock=SystemClock())
    for one in (engine, other):
        start(one, tmp_path, "dead", labels)
    with Owner(tmp_path) as me:
        for one in (engine, other):
            assert Reaper(one, me, FAMILY, local=True).reap().removed == ("dead",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_a_stranger_s_free_file_is_no_proof_of_a_death(engine: FakeEngine, tmp_path: Path) -> None:
    labels = dead_owner(tmp_path)
    os.chown(tmp_path / f".container-owner-{labels[OWNER_LABEL]}", 12345, 12345)
    start(engine, tmp_path, "alive", labels)
    with Owner(tmp_path) as me:
        assert Reaper(engine, me, FAMILY, local=True).reap().kept == ("alive",)


def test_lock_files_of_those_long_dead_are_deleted(engine: FakeEngine, tmp_path: Path) -> None:
    old, new = (tmp_path / f".container-owner-{dead_owner(tmp_path)[OWNER_LABEL]}" for _ in range(2))
    with Owner(tmp_path) as me, Owner(tmp_path) as neighbour:
        held = tmp_path / f".container-owner-{neighbour.token}"
        for path in (old, held):
            os.utime(path, (1e9, 1e9))
        Reaper(engine, me, FAMILY, local=True).reap()
        assert not old.exists()
        assert new.exists()
        assert held.exists()
    assert list(tmp_path.glob(".container-owner-*")) == [new]


def test_a_failure_is_told_and_the_lock_file_stays(engine: FakeEngine, tmp_path: Path) -> None:
    def fail(name: str, _spec: ContainerSpec | None) -> None:
        if name == failing:
            raise EngineUnavailable("no daemon")

    labels = dead_owner(tmp_path)
    start(engine, tmp_path, "dead", labels)
    engine.on_call = fail
    with Owner(tmp_path) as me:
        reaper = Reaper(engine, me, FAMILY, local=True)
        failing = "leftovers"
        assert reaper.reap().failed == ("no daemon",)
        failing = "remove_leftover"
        assert reaper.reap().failed == ("dead: no daemon",)
        assert (tmp_path / f".container-owner-{labels[OWNER_LABEL]}").exists()
        failing = ""
        assert reaper.reap().removed == ("dead",)


def test_the_folder_is_open_to_the_pilots_of_other_users(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with Owner(tmp_path / "node" / "panda"):
            assert (tmp_path / "node" / "panda").stat().st_mode & 0o7777 == 0o1777
        with Owner(tmp_path / "node"):
            assert (tmp_path / "node").stat().st_mode & 0o7777 == 0o755, "it was there before"
    finally:
        os.umask(before)


def test_one_token_has_one_owner(tmp_path: Path) -> None:
    with Owner(tmp_path, "t") as owner, pytest.raises(BlockingIOError):
        Owner(tmp_path, owner.token).__enter__()
    with Owner(tmp_path, "t"):
        pass
