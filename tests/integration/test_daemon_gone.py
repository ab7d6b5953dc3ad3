"""A daemon that went away and came back is told from one that was there all
the time.
"""

import time
import uuid
from pathlib import Path

import pytest

from container.docker_engine import DockerEngine
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
from tests.fakes.dockerd import NoDaemon, own_daemon
from tests.fakes.images import TEST_LABEL, busybox_image

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_there_restarted_and_away(tmp_path: Path) -> None:
    since, image = time.time(), busybox_image()
    try:
        with own_daemon() as daemon:
            daemon.load(image)
            engine = DockerEngine(base_url=daemon.url, clock=SystemClock())
            spec = ContainerSpec(
                name=f"{TEST_LABEL}-{uuid.uuid4().hex[:12]}",
                argv=("/bin/sh", "-c", "exit 3"),
                image=image,
                workdir="/",
                network="host",
                stdout=tmp_path / "o",
                stderr=tmp_path / "e",
            )
            container = engine.start(spec)
            end = container.wait(30)
            assert end is not None
            assert end.code == 3
            container.remove()
            assert engine.gone([container.id], since, time.time()) == ""
            daemon.stop()
            assert "no daemon" in engine.gone([container.id], since, time.time())
            daemon.start()
            assert engine.gone([container.id], since, time.time()) == f"Docker at {daemon.url} was restarted"
            engine.close()
    except NoDaemon as err:
        pytest.skip(str(err))
