"""What a pilot leaves behind is removed by the next one on the node."""

import threading
from pathlib import Path

import pytest

from container.errors import EngineUnavailable
from container.reaper import Owner, Reaper
from container.spec import ContainerSpec
from pilot_core.compile import FAMILY
from pilot_core.config import KubernetesConfig, PayloadConfig
from pilot_core.engines import Engines
from tests.fakes.engine import FakeEngine
from tests.fakes.virtual_clock import VirtualClock


class AwayEngine(FakeEngine):
    """Its daemon can go away."""

    local = True
    away = False

    def called(self, name: str, spec: ContainerSpec | None = None) -> None:
        if self.away:
            raise EngineUnavailable("no daemon")
        super().called(name, spec)


@pytest.mark.parametrize("left", ["the daemon is away", "nobody looked", "nothing"])
def test_a_container_that_could_not_be_removed_is_the_next_pilots(left: str, tmp_path: Path) -> None:
    clock = VirtualClock()
    config = PayloadConfig(engine="docker", shared_root=tmp_path, image_store_gb=0.0)
    docker = AwayEngine(clock=clock)
    with Engines(config, clock, KubernetesConfig()) as engines:
        engines._docker = docker  # type: ignore[assignment]
        engines._process = FakeEngine(clock=clock)  # type: ignore[assignment]
        engines.open()
        spec = ContainerSpec(
            name="payload",
            argv=("x",),
            workdir="/",
            stdout=tmp_path / "o",
            stderr=tmp_path / "e",
            environment={"FAKE_SLEEP": "inf"},
            labels={**FAMILY, **engines.labels},
        )
        docker.start(spec)
        docker.away = left == "the daemon is away"
        if left != "nobody looked":
            engines.leave(threading.Event())
    docker.away = False
    expected = ("payload",) if left != "nothing" else ()
    with Owner(tmp_path) as next_one:
        assert Reaper(docker, next_one, FAMILY, local=True).reap().removed == expected
    assert bool(list(tmp_path.glob(".container-owner-*"))) == bool(expected)
    assert not docker.containers
