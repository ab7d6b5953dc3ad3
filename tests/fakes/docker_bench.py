"""A real daemon for a test, and nothing left on it afterwards."""

import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

from container.contract import Container
from container.docker_engine import DockerEngine
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
from tests.fakes.images import TEST_LABEL, busybox_image
from tests.fakes.patience import stated

__all__ = ["CLOCK", "ROOT", "Bench", "docker", "until"]

ROOT = Path(__file__).resolve().parents[2]
CLOCK = SystemClock()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + stated(seconds)
    while not condition():
        assert time.monotonic() < end, "condition not reached"
        threading.Event().wait(0.02)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class Bench:
    """A real daemon, and a label by which everything of one test is found."""

    def __init__(self, folder: Path) -> None:
        self.image = busybox_image()
        self.engine = DockerEngine(clock=CLOCK)
        self.folder = folder
        self.labels = {TEST_LABEL: uuid.uuid4().hex}
        self.stdout = folder / "payload.stdout"
        self.stderr = folder / "payload.stderr"

    def spec(self, script: str, **more: object) -> ContainerSpec:
        spec = ContainerSpec(
            name=f"{TEST_LABEL}-{uuid.uuid4().hex[:12]}",
            argv=("/bin/sh", "-c", script),
            workdir="/",
            stdout=self.stdout,
            stderr=self.stderr,
            image=self.image,
            environment={"PATH": "/usr/bin:/bin"},
            labels=self.labels,
            network="none",
        )
        return replace(spec, **more)  # type: ignore[arg-type]

    def start(self, script: str, **more: object) -> Container:
        return self.engine.start(self.spec(script, **more))

    def up(self) -> None:
        until(lambda: self.stdout.exists() and b"up\n" in self.stdout.read_bytes())

    def all(self) -> list[str]:
        """Every container of this test."""
        (label,) = [f"{key}={value}" for key, value in self.labels.items()]
        return docker("ps", "-aq", "--no-trunc", "--filter", f"label={label}").split()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for found in self.all():
            subprocess.run(["docker", "rm", "-f", found], capture_output=True, timeout=30)
        self.engine.close()
