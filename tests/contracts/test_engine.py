"""The contract of engines, on the fake, on processes, on Docker, and on
Kubernetes with the official client and an API server of our own.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from container.contract import KILL_S, Container, Engine
from container.docker_engine import DockerEngine
from container.errors import EngineError, EngineUnavailable, ImageError, ImageNotFound, StartError
from container.kube_api import Cluster
from container.kube_engine import KubeEngine
from container.process_engine import ProcessEngine
from container.spec import ContainerSpec, PullProgress
from pilot_core.base.clock import SystemClock
from tests.fakes.engine import FakeEngine
from tests.fakes.images import TEST_LABEL, busybox_image
from tests.fakes.kube_api import HOME, KubeApi
from tests.fakes.patience import stated
from tests.fakes.pki import Pki, make_pki

Behaviour = tuple[str, Mapping[str, str]]

# What a payload does, in the two languages: a shell script, and the fake's
# environment.
EXIT_0: Behaviour = ("true", {})
EXIT_3 = ("exit 3", {"FAKE_EXIT": "3"})
EXIT_255 = ("exit 255", {"FAKE_EXIT": "255"})
KILLED_9 = ("kill -9 $$", {"FAKE_EXIT": "137"})
PRINTS = ("echo out; echo err >&2", {"FAKE_STDOUT": "out\n", "FAKE_STDERR": "err\n"})
SHORT = ("sleep 0.4; exit 4", {"FAKE_SLEEP": "0.4", "FAKE_EXIT": "4"})
ENDLESS = ("echo up; exec sleep 1000", {"FAKE_SLEEP": "inf", "FAKE_STDOUT": "up\n"})
POLITE = (
    "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done",
    {"FAKE_SLEEP": "inf", "FAKE_TERM_EXIT": "7", "FAKE_STDOUT": "up\n"},
)
DEAF = (
    "trap '' TERM; echo up; while :; do sleep 0.05; done",
    {"FAKE_SLEEP": "inf", "FAKE_IGNORE_TERM": "1", "FAKE_STDOUT": "up\n"},
)


class Bench:
    """An engine to test, and payloads for it."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        self.engine = engine
        self.image = image
        self.labels = {TEST_LABEL: uuid.uuid4().hex}
        self.stdout = folder / "payload.stdout"
        self.stderr = folder / "payload.stderr"
        # A kubelet keeps both outputs in one file, and asks before it kills,
        # whatever it is told.
        self.one_output = engine.name == "kubernetes"
        self.asks_always = engine.name == "kubernetes"

    def spec(
        self, behaviour: Behaviour, *, name: str = "", labels: Mapping[str, str] | None = None
    ) -> ContainerSpec:
        script, environment = behaviour
        return ContainerSpec(
            name=name or f"{TEST_LABEL}-{uuid.uuid4().hex[:12]}",
            argv=("/bin/sh", "-c", script),
            workdir="/",
            stdout=self.stdout,
            stderr=self.stderr,
            image=self.image,
            environment={"PATH": "/usr/bin:/bin", **environment},
            labels=self.labels if labels is None else labels,
        )

    def start(self, behaviour: Behaviour) -> Container:
        return self.engine.start(self.spec(behaviour))

    def start_up(self, behaviour: Behaviour) -> Container:
        """Started, and past the point where it says so."""
        container = self.start(behaviour)
        until(lambda: b"up\n" in self.stdout.read_bytes())
        return container


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not reached"
        threading.Event().wait(0.01)


DOCKER = pytest.param("docker", marks=pytest.mark.docker)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(params=["fake", "process", DOCKER, "kubernetes"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, pki: Pki) -> Iterator[Bench]:
    clock = SystemClock()
    engine: Engine
    image = ""
    with contextlib.ExitStack() as stack:
        if request.param == "docker":
            engine, image = DockerEngine(clock=clock), busybox_image()
        elif request.param == "process":
            engine = ProcessEngine(clock=clock)
        elif request.param == "kubernetes":
            api = stack.enter_context(KubeApi(tmp_path, pki, shared=tmp_path))
            cluster = Cluster(account=api.account, environment=api.environment, call_s=10)
            engine, image = KubeEngine(cluster, pod=HOME, clock=clock, cgroup_root=api.cgroup_root), "busybox"
        else:
            engine = FakeEngine(clock=clock)
        found = Bench(engine, image, tmp_path)
        try:
            yield found
        finally:
            left = engine.leftovers({}) if request.param == "fake" else engine.leftovers(found.labels)
            for leftover in left:
                engine.remove_leftover(leftover)
            engine.close()


def test_check_says_what_it_is(bench: Bench) -> None:
    assert bench.engine.check()


@pytest.mark.parametrize(("behaviour", "code"), [(EXIT_0, 0), (EXIT_3, 3), (EXIT_255, 255), (KILLED_9, 137)])
def test_exit_code(bench: Bench, behaviour: Behaviour, code: int) -> None:
    container = bench.start(behaviour)
    end = container.wait(10)
    assert end is not None
    assert (end.code, end.out_of_memory, end.lost) == (code, False, "")
    assert container.wait(0) == end
    assert container.wait(10) == end
    container.remove()


def test_wait_gives_up_after_its_time(bench: Bench) -> None:
    container = bench.start(SHORT)
    assert container.wait(0) is None
    end = container.wait(10)
    assert end is not None
    assert end.code == 4
    container.remove()


def test_output_is_complete_when_the_end_is_known_and_is_appended(bench: Bench) -> None:
    bench.stdout.write_bytes(b"before\n")
    for _ in range(2):
        container = bench.start(PRINTS)
        assert container.wait(10)
        container.remove()
    if bench.one_output:
        assert bench.stdout.read_bytes() == b"before\nout\nerr\nout\nerr\n"
        assert bench.stderr.read_bytes() == b""
    else:
        assert bench.stdout.read_bytes() == b"before\nout\nout\n"
        assert bench.stderr.read_bytes() == b"err\nerr\n"


def test_stop_asks_and_takes_the_answer(bench: Bench) -> None:
    container = bench.start_up(POLITE)
    begun = time.monotonic()
    end = container.stop(20)
    assert time.monotonic() - begun < stated(5)
    assert (end.code, end.lost) == (7, "")
    assert container.wait(0) == end
    container.remove()


def test_stop_kills_what_does_not_listen(bench: Bench) -> None:
    container = bench.start_up(DEAF)
    begun = time.monotonic()
    end = container.stop(0.5)
    assert 0.5 <= time.monotonic() - begun < stated(0.5 + KILL_S)
    assert (end.code, end.lost) == (137, "")
    container.remove()


def test_stop_without_grace_kills_at_once(bench: Bench) -> None:
    container = bench.start_up(POLITE)
    begun = time.monotonic()
    assert container.stop(0).code == (7 if bench.asks_always else 137)
    assert time.monotonic() - begun < stated(KILL_S)
    container.remove()


def test_stop_after_the_end_changes_nothing(bench: Bench) -> None:
    container = bench.start(EXIT_3)
    end = container.wait(10)
    assert container.stop(10) == end
    container.remove()


def test_a_second_stop_shortens_the_grace_of_the_first(bench: Bench) -> None:
    container = bench.start_up(DEAF)
    ends = []
    first = threading.Thread(target=lambda: ends.append(container.stop(60)))
    begun = time.monotonic()
    first.start()
    threading.Event().wait(0.1)
    ends.append(container.stop(0.3))
    first.join(10)
    assert time.monotonic() - begun < stated(0.4 + KILL_S)
    assert [end.code for end in ends] == [137, 137]
    container.remove()


def test_stats_while_it_runs_and_after(bench: Bench) -> None:
    container = bench.start_up(ENDLESS)
    stats = container.stats()
    assert stats.source
    assert stats.cpu_s is not None
    assert stats.rss is not None
    assert stats.rss > 0
    assert container.stop(0).code == (143 if bench.asks_always else 137)
    after = container.stats()
    assert not after.rss
    container.remove()
    container.stats()


def test_remove_is_idempotent(bench: Bench) -> None:
    container = bench.start(EXIT_0)
    assert container.wait(10)
    container.remove()
    container.remove()
    assert not bench.engine.leftovers(bench.labels)


def test_leftovers_are_found_by_all_labels(bench: Bench) -> None:
    mine = {**bench.labels, "job": "1"}
    container = bench.engine.start(bench.spec(ENDLESS, labels=mine))
    other = bench.engine.start(bench.spec(ENDLESS, labels={**bench.labels, "job": "2"}))
    (found,) = bench.engine.leftovers(mine)
    assert found.running
    assert {**found.labels, **mine} == found.labels
    assert len(bench.engine.leftovers(bench.labels)) == 2
    assert not bench.engine.leftovers({**mine, "job": "3"})
    bench.engine.remove_leftover(found)
    bench.engine.remove_leftover(found)
    end = container.wait(10)
    assert end is not None
    assert end.code == (143 if bench.asks_always else 137)
    (left,) = bench.engine.leftovers(bench.labels)
    assert left.labels["job"] == "2"
    assert other.wait(0) is None
    container.remove()
    assert other.stop(0).code == (143 if bench.asks_always else 137)
    other.remove()


def test_a_failed_start_leaves_nothing(bench: Bench) -> None:
    spec = bench.spec((EXIT_0[0], {"FAKE_START_FAIL": "refused"}))
    bad = ContainerSpec(
        name=spec.name,
        argv=("/no/such/program",),
        workdir="/",
        stdout=spec.stdout,
        stderr=spec.stderr,
        image=bench.image,
        environment=spec.environment,
        labels=spec.labels,
        init=False,
    )
    with pytest.raises(StartError, match=spec.name):
        bench.engine.start(bad)
    assert not bench.engine.leftovers(bench.labels)


@pytest.mark.parametrize("bench", ["process", DOCKER, "kubernetes"], indirect=True)
def test_an_output_file_that_cannot_be_made_is_a_failed_start(bench: Bench, tmp_path: Path) -> None:
    bench.stdout = tmp_path / "missing" / "payload.stdout"
    with pytest.raises(StartError, match="missing"):
        bench.start(EXIT_0)
    assert not bench.engine.leftovers(bench.labels)


@pytest.mark.parametrize("bench", ["process", DOCKER], indirect=True)
def test_no_thread_for_it_is_a_failed_start(bench: Bench) -> None:
    # No thread can have a stack larger than the address space, so none can be
    # started, as at a limit of tasks; root is under no other one.
    before = threading.stack_size(1 << 47)
    try:
        with pytest.raises(StartError, match="can't start new thread"):
            bench.start(("sleep 1000 & exec sleep 1000", {}))
    finally:
        threading.stack_size(before)
    assert not bench.engine.leftovers(bench.labels)


def test_an_image_that_is_there_is_not_asked_for(bench: Bench) -> None:
    seen: list[PullProgress] = []
    bench.engine.ensure_image(bench.image, timeout_s=10, on_progress=seen.append, cancelled=threading.Event())
    assert not seen


@pytest.mark.parametrize("bench", ["fake", DOCKER, "kubernetes"], indirect=True)
def test_an_image_that_cannot_be_had_is_an_error(bench: Bench) -> None:
    bench.image = "127.0.0.1:9/no/such:image"

    def have_and_start() -> None:
        bench.engine.ensure_image(bench.image, timeout_s=20, on_progress=print, cancelled=threading.Event())
        # Kubernetes pulls when it starts a pod, and no earlier.
        bench.start(EXIT_0)

    with pytest.raises(ImageError):
        have_and_start()
    assert not bench.engine.leftovers(bench.labels)


CALLS = (
    *("check", "ensure_image", "start", "wait", "processes", "backtrace", "stop", "remove"),
    *("leftovers", "remove_leftover", "close"),
)


@pytest.mark.parametrize("failing", CALLS)
def test_the_fake_fails_any_call(failing: str, tmp_path: Path) -> None:
    def fail(name: str, spec: ContainerSpec | None) -> None:
        if name == failing:
            raise EngineUnavailable(f"{name} failed as told")

    engine = FakeEngine(clock=SystemClock())
    bench = Bench(engine, "", tmp_path)
    container = engine.start(bench.spec(EXIT_0))
    (left,) = engine.leftovers(bench.labels)
    engine.on_call = fail
    calls: dict[str, Callable[[], object]] = {
        "check": engine.check,
        "ensure_image": lambda: engine.ensure_image(
            "", timeout_s=1, on_progress=print, cancelled=threading.Event()
        ),
        "start": lambda: engine.start(bench.spec(EXIT_0)),
        "wait": lambda: container.wait(0),
        "processes": container.processes,
        "backtrace": lambda: container.backtrace(None),
        "stop": lambda: container.stop(0),
        "remove": container.remove,
        "leftovers": lambda: engine.leftovers({}),
        "remove_leftover": lambda: engine.remove_leftover(left),
        "close": engine.close,
    }
    assert set(calls) == set(CALLS)
    with pytest.raises(EngineUnavailable, match="failed as told"):
        calls.pop(failing)()
    if "backtrace" in calls:
        with pytest.raises(EngineError, match="gdb"):
            calls.pop("backtrace")()
    for call in calls.values():
        call()


def test_every_call_of_the_contract_can_be_failed() -> None:
    public = {name for kind in (Engine, Container) for name in vars(kind) if not name.startswith("_")}
    # `stats` never raises, by contract.
    assert public - {"name", "id", "pid", "stats"} == set(CALLS)


def test_the_fake_pulls_from_its_registry() -> None:
    engine = FakeEngine(clock=SystemClock(), registry=["a/b:1"])
    seen: list[PullProgress] = []
    with pytest.raises(ImageNotFound):
        engine.ensure_image("x", timeout_s=1, on_progress=seen.append, cancelled=threading.Event())
    engine.ensure_image("a/b:1", timeout_s=1, on_progress=seen.append, cancelled=threading.Event())
    assert seen[-1].layers_done == seen[-1].layers
    assert "a/b:1" in engine.images
