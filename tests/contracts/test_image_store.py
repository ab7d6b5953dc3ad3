"""The image store kept below a size, on images in memory and on those of a
daemon of our own.
"""

import contextlib
import io
import json
import logging
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from container.docker_api import Daemon
from container.image_store import DockerImages, Images, ImageStore
from container.reaper import Owner
from pilot_core.base.clock import SystemClock
from tests.fakes.dockerd import NoDaemon, own_daemon
from tests.fakes.image_list import FakeImages

CLOCK = SystemClock()
MB = 1_000_000


class World(Protocol):
    """Images, and the means to make some."""

    images: Images

    def add(self, name: str) -> None:
        """An image of about 2 MB of its own."""
        ...

    def use(self, name: str) -> None:
        """A container of it that does not run."""
        ...

    def names(self) -> set[str]:
        """Images that are there."""
        ...


class Memory:
    def __init__(self) -> None:
        self.images = FakeImages()

    def add(self, name: str) -> None:
        self.images.add(name, 2 * MB)

    def use(self, name: str) -> None:
        self.images.use(name)

    def names(self) -> set[str]:
        return set(self.images.layers)


class OwnDocker:
    def __init__(self, url: str) -> None:
        self._environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": url}
        self.daemon = Daemon(url, 10.0)
        self.images = DockerImages(self.daemon)

    def add(self, name: str) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo("data")
            info.size = 2 * MB
            tar.addfile(info, io.BytesIO(os.urandom(2 * MB)))
        self._docker("import", "-", name, stdin=out.getvalue())

    def use(self, name: str) -> None:
        self._docker("create", "--network", "none", name, "/none")

    def names(self) -> set[str]:
        return set(self._docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())

    def clean(self) -> None:
        for container in self._docker("ps", "-aq").split():
            self._docker("rm", "-f", container)
        for name in self.names():
            self._docker("rmi", name)

    def _docker(self, *arguments: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["docker", *arguments], env=self._environment, input=stdin, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture(scope="module")
def own_docker() -> Iterator[OwnDocker]:
    try:
        with own_daemon() as daemon:
            docker = OwnDocker(daemon.url)
            with contextlib.closing(docker.daemon):
                yield docker
    except NoDaemon as err:
        pytest.skip(str(err))


@pytest.fixture(params=["memory", pytest.param("docker", marks=pytest.mark.docker)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield Memory()
        return
    docker: OwnDocker = request.getfixturevalue("own_docker")
    yield docker
    docker.clean()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with Owner(tmp_path) as owner:
        yield owner


def store(world: World, owner: Owner, limit_mb: float) -> ImageStore:
    return ImageStore(world.images, owner, int(limit_mb * MB), clock=CLOCK)


def pull(world: World, owner: Owner, *names: str, limit_mb: float = 1000) -> None:
    """Each as the engine does it."""
    for name in names:
        kept = store(world, owner, limit_mb)
        kept.claim(name)
        world.add(name)
        kept.pulled(name)


def test_usage_tells_names_and_bytes(world: World) -> None:
    world.add("one:1")
    world.add("two:1")
    world.use("two:1")
    usage = world.images.usage()
    assert usage.total_bytes == pytest.approx(4 * MB, rel=0.1)
    assert usage.ids.keys() == {"one:1", "two:1"}
    assert usage.in_use == {usage.ids["two:1"]}


def test_removing_what_is_gone_is_no_error(world: World) -> None:
    world.images.remove("none:1")


def test_the_longest_unused_goes_first_and_no_more_than_needed(world: World, owner: Owner) -> None:
    pull(world, owner, "a:1", "b:1", "c:1")
    store(world, owner, 1000).claim("a:1")
    pull(world, owner, "d:1", limit_mb=6.5)
    assert world.names() == {"a:1", "c:1", "d:1"}


def test_below_the_limit_nothing_goes(world: World, owner: Owner) -> None:
    pull(world, owner, "a:1", "b:1", limit_mb=5)
    assert world.names() == {"a:1", "b:1"}


def test_what_we_have_not_pulled_stays(world: World, owner: Owner) -> None:
    world.add("site:1")
    world.add("asked:1")
    store(world, owner, 1).claim("asked:1")
    pull(world, owner, "a:1", limit_mb=1)
    assert world.names() == {"site:1", "asked:1", "a:1"}


def test_what_a_container_was_made_of_stays(world: World, owner: Owner) -> None:
    pull(world, owner, "a:1", "b:1")
    world.use("a:1")
    pull(world, owner, "c:1", limit_mb=1)
    assert world.names() == {"a:1", "c:1"}


def test_what_another_living_pilot_asked_for_stays_until_it_is_gone(
    world: World, owner: Owner, tmp_path: Path
) -> None:
    with Owner(tmp_path) as neighbour:
        pull(world, neighbour, "theirs:1")
        pull(world, owner, "both:1")
        store(world, neighbour, 1000).claim("both:1")
        pull(world, owner, "ours:1", limit_mb=1)
        assert world.names() == {"theirs:1", "both:1", "ours:1"}
    pull(world, owner, "next:1", limit_mb=1)
    assert world.names() == {"next:1"}


def test_a_claimed_image_that_goes_nevertheless_is_pulled_again(world: World, owner: Owner) -> None:
    pull(world, owner, "a:1")
    world.images.remove("a:1")
    pull(world, owner, "a:1", "b:1", limit_mb=3)
    assert world.names() == {"b:1"}


@pytest.mark.parametrize("text", ["{", "[]", '{"a:1": 7}', '{"a:1": {"used": "x", "pulled": true}}'])
def test_a_file_that_is_no_use_costs_no_image(text: str, owner: Owner) -> None:
    world = Memory()
    world.add("a:1")
    (owner.folder / ".container-images.json").write_text(text)
    pull(world, owner, "b:1", limit_mb=1)
    assert world.names() == {"a:1", "b:1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_user_s_file_costs_no_image(owner: Owner) -> None:
    world = Memory()
    world.add("a:1")
    path = owner.folder / ".container-images.json"
    path.write_text(json.dumps({"a:1": {"used": 1.0, "pulled": True, "owners": []}}))
    os.chown(path, 12345, 12345)
    pull(world, owner, "b:1", limit_mb=1)
    assert world.names() == {"a:1", "b:1"}


def test_an_engine_that_is_away_is_said_and_harms_nobody(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    world = Memory()
    kept = store(world, owner, 1)
    kept.claim("a:1")
    world.add("a:1")
    world.images.away = True
    with caplog.at_level(logging.WARNING):
        kept.pulled("a:1")
    assert "not kept below its limit: no answer" in caplog.text


def test_a_limit_that_cannot_be_kept_is_said(owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    world = Memory()
    world.add("site:1")
    with caplog.at_level(logging.WARNING):
        pull(world, owner, "a:1", limit_mb=3)
    assert "images take 0.0 GB" in caplog.text
    assert world.names() == {"site:1", "a:1"}
