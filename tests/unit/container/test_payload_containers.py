"""Sums over parts that do not all know everything."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from container.docker_engine import DockerEngine
from container.payload_containers import PayloadContainers, total
from container.spec import Stats
from tests.fakes.clock import FakeClock


def test_sum() -> None:
    script = Stats(cpu_s=1.0, rss=10, pss=5, processes=2, threads=2, source="proc")
    inner = Stats(cpu_s=2.0, rss=100, threads=7, source="cgroup v1")
    assert total(script, inner, inner) == Stats(
        cpu_s=5.0, rss=210, pss=5, processes=2, threads=16, source="proc + cgroup v1"
    )


def test_what_nobody_knows_stays_unknown() -> None:
    assert total(Stats()) == Stats()
    assert total(Stats(rss=0)).rss == 0


class Restarted:
    """A daemon that remembers no container."""

    def gone(self, container_ids: Iterable[str], since: float, until: float) -> str:
        return "restarted" if set(container_ids) else ""


class SetClock(FakeClock):
    """One that somebody sets."""

    set_s = 0.0

    def time(self) -> float:
        return self.now + self.set_s


@pytest.mark.parametrize(("set_s", "said"), [(0.0, "restarted"), (7200.0, "restarted"), (-60.0, "")])
def test_a_clock_that_was_set_back_says_nothing_of_the_daemon(set_s: float, said: str) -> None:
    clock, docker = SetClock(), cast(DockerEngine, Restarted())
    ids = tempfile.TemporaryDirectory()
    containers = PayloadContainers(docker, {}, frozenset(), ids=ids, clock=clock)
    (Path(ids.name) / "17").write_text("a" * 64)
    clock.now += 100.0
    clock.set_s = set_s
    assert containers.gone_with_daemon() == said
    containers.close()
