"""The kubernetes engine with each of its calls failed in turn, by an API
server of our own that the official client talks to.

Whatever fails in passing changes nothing: the payload's end, its code and each
line of its output arrive. What goes on failing costs a bounded time and then
an error that says why; nothing is left behind that a call could still reach.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.contract import KILL_S
from container.errors import Cancelled, EngineError, EngineUnavailable, ImageError, ImageNotFound, StartError
from container.kube_api import Cluster
from container.kube_container import KubeContainer
from container.kube_engine import KubeEngine
from container.spec import ContainerExit, ContainerSpec, Mount, PullProgress
from pilot_core.base.clock import SystemClock
from tests.fakes.kube_api import HOME, KubeApi
from tests.fakes.patience import stated
from tests.fakes.pki import Pki, make_pki

LABELS = {"org.panda.pilot.family": "panda", "org.panda.pilot.job": "7"}
POD = "panda-7"
#: Prints, lives for a while, prints again: a stream that broke has something
#: to lose.
TALKS = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.05; done; exit 3"
SAID = b"".join(b"line %d\n" % i for i in range(1, 9))
ENDLESS = "echo up; exec sleep 1000"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def api(tmp_path: Path, pki: Pki) -> Iterator[KubeApi]:
    (tmp_path / "panda" / "7").mkdir(parents=True)
    with KubeApi(tmp_path, pki, shared=tmp_path / "panda") as server:
        yield server


@pytest.fixture
def engine(api: KubeApi) -> Iterator[KubeEngine]:
    made = make_engine(api)
    yield made
    made.close()


def make_engine(
    api: KubeApi, *, call_s: float = 1.0, start_s: float = 5.0, place_s: float = 0.5
) -> KubeEngine:
    cluster = Cluster(account=api.account, environment=api.environment, call_s=call_s, silent_s=1.0)
    return KubeEngine(
        cluster,
        pod=HOME,
        clock=SystemClock(),
        cgroup_root=api.cgroup_root,
        start_s=start_s,
        place_s=place_s,
        lost_s=1.0,
    )


def spec(api: KubeApi, script: str, *, image: str = "busybox") -> ContainerSpec:
    folder = str(api.shared / "7")
    return ContainerSpec(
        name=POD,
        argv=("/bin/sh", "-c", script),
        workdir=folder,
        stdout=api.shared.parent / "payload.stdout",
        stderr=api.shared.parent / "payload.stderr",
        image=image,
        environment={"PATH": "/usr/bin:/bin"},
        labels=LABELS,
        mounts=(Mount(folder, folder),),
        memory_bytes=10**9,
        cpus=1.0,
    )


def output(api: KubeApi) -> bytes:
    return (api.shared.parent / "payload.stdout").read_bytes()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not reached"
        threading.Event().wait(0.01)


# --- what passes ------------------------------------------------------------

PASSING: list[tuple[str, str | int]] = [
    *((f"create pods {POD}", how) for how in (500, 503, 429, "hang", "reset", "lost")),
    *((f"get pods {POD}", how) for how in (500, 403, "hang", "reset", "lost")),
    *((f"watch pods {POD}", how) for how in (500, 403, 410, "gone", "hang", "reset", "cut")),
    *((f"get pods/log {POD}", how) for how in (500, 403, 400, "hang", "reset", "cut")),
    *((f"delete pods {POD}", how) for how in (500, "hang", "reset", "lost")),
]


@pytest.mark.parametrize(("call", "how"), PASSING)
def test_what_fails_once_changes_nothing(api: KubeApi, engine: KubeEngine, call: str, how: str | int) -> None:
    api.fail(call, how)
    container = engine.start(spec(api, TALKS))
    end = container.wait(30)
    assert end is not None
    assert (end.code, end.lost) == (3, "")
    assert output(api) == SAID
    try:
        container.remove()
    except EngineError:
        container.remove()
    assert not api.payloads()
    assert any(line.startswith(call) for line in api.calls), "the call was not made at all"


def test_a_log_that_breaks_again_and_again(api: KubeApi, engine: KubeEngine) -> None:
    api.fail("get pods/log", "cut", times=6)
    script = (
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; [ $((i % 20)) = 0 ] && sleep 0.2; done; true"
    )
    container = engine.start(spec(api, script))
    assert container.wait(60) is not None
    assert output(api) == b"".join(b"line %d\n" % i for i in range(1, 301))
    container.remove()


# --- what goes on failing ----------------------------------------------------


@pytest.mark.parametrize("how", [403, 422, 500, "hang", "reset"])
def test_a_create_that_goes_on_failing_is_a_failed_start(api: KubeApi, how: str | int) -> None:
    engine = make_engine(api, call_s=0.3, start_s=1.0)
    api.fail(f"create pods {POD}", how, times=99)
    begun = time.monotonic()
    with pytest.raises(StartError, match=POD):
        engine.start(spec(api, TALKS))
    assert time.monotonic() - begun < stated(8)
    assert not api.payloads()
    engine.close()


def test_a_create_whose_answer_is_always_lost_leaves_nothing(api: KubeApi) -> None:
    """The second attempt finds the first one's pod and takes it for its own;
    with nobody to say so, it is removed.
    """
    engine = make_engine(api, start_s=0.0)
    api.fail(f"create pods {POD}", "lost", times=99)
    with pytest.raises(StartError):
        engine.start(spec(api, ENDLESS))
    until(lambda: not api.payloads())
    engine.close()


@pytest.mark.parametrize("call", ["watch pods", "get pods/log"])
def test_a_payload_ends_without_watch_or_log(api: KubeApi, engine: KubeEngine, call: str) -> None:
    api.fail(call, 403, times=99)
    container = engine.start(spec(api, TALKS))
    end = container.wait(30)
    assert end is not None
    assert (end.code, end.lost) == (3, "")
    assert output(api) == (b"" if "log" in call else SAID)
    container.remove()


def test_a_stop_is_bounded_when_the_server_hangs(api: KubeApi, engine: KubeEngine) -> None:
    container = engine.start(spec(api, ENDLESS))
    until(lambda: output(api) == b"up\n")
    for call in ("delete", "get", "watch"):
        api.fail(call, "hang", times=99)
    begun = time.monotonic()
    container.stop(1.0)
    assert time.monotonic() - begun < stated(1.0 + KILL_S + 1.0)
    # Left to the reaper, the owner's end and the deadline.
    with contextlib.suppress(EngineError):
        container.remove()


def test_a_server_that_is_away_for_good(api: KubeApi, engine: KubeEngine) -> None:
    container = engine.start(spec(api, ENDLESS))
    for call in (f"get pods {POD}", "watch"):
        api.fail(call, "reset", times=999)
    api.running[next(iter(api.running))].kill()
    end = container.wait(30)
    assert end is not None
    # Either the open watch told it, or nobody did.
    assert end.code == 137
    with contextlib.suppress(EngineError):
        container.remove()


def test_no_package_no_token_no_server(api: KubeApi, tmp_path: Path) -> None:
    nowhere = Cluster(account=tmp_path / "none", environment=api.environment, call_s=1)
    with pytest.raises(EngineUnavailable, match="token"):
        KubeEngine(nowhere, pod=HOME, clock=SystemClock()).check()
    outside = Cluster(account=api.account, environment={}, call_s=1)
    with pytest.raises(EngineUnavailable, match="KUBERNETES_SERVICE_HOST"):
        KubeEngine(outside, pod=HOME, clock=SystemClock()).check()
    closed = {**api.environment, "KUBERNETES_SERVICE_PORT": "9"}
    with pytest.raises(EngineUnavailable, match="refused"):
        KubeEngine(
            Cluster(account=api.account, environment=closed, call_s=1), pod=HOME, clock=SystemClock()
        ).check()
    (api.account / "token").write_text("stolen")
    stranger = Cluster(account=api.account, environment=api.environment, call_s=1)
    with pytest.raises(EngineError, match="401 Unauthorized"):
        KubeEngine(stranger, pod=HOME, clock=SystemClock()).check()
    for cluster in (nowhere, outside, stranger):
        cluster.close()


# --- what the cluster does to a pod -----------------------------------------


@pytest.mark.parametrize(
    ("reason", "status", "code", "memory", "words"),
    [
        ("OOMKilled", {}, 137, True, ""),
        (
            "Error",
            {"reason": "Evicted", "message": "low on memory"},
            137,
            False,
            "pod Evicted: low on memory",
        ),
        ("Error", {"reason": "Terminated", "message": "imminent node shutdown"}, 137, False, "node shutdown"),
        ("ContainerStatusUnknown", {}, 137, False, "ContainerStatusUnknown"),
    ],
)
def test_ends_from_outside_are_told_apart(
    api: KubeApi, engine: KubeEngine, reason: str, status: dict[str, str], code: int, memory: bool, words: str
) -> None:
    container = engine.start(spec(api, ENDLESS))
    api.running[container.id].kill(reason, **status)
    end = container.wait(20)
    assert end is not None
    assert (end.code, end.out_of_memory) == (code, memory)
    assert words in end.lost
    assert bool(end.lost) == bool(words)
    assert (end.cpu_s, end.max_rss_bytes) == (1.5, 4096000)
    container.remove()


@pytest.mark.parametrize("grace_s", [0, 1])
def test_a_pod_that_somebody_deletes(api: KubeApi, engine: KubeEngine, grace_s: int) -> None:
    container = engine.start(spec(api, ENDLESS))
    api.delete(container.id, grace_s=grace_s)
    end = container.wait(20)
    assert end is not None
    assert end.code == (143 if grace_s else 137)
    assert ("deleted" in end.lost) == (grace_s == 0)
    container.remove()


def test_the_pilot_s_pod_takes_its_payload_along(api: KubeApi, engine: KubeEngine) -> None:
    container = engine.start(spec(api, ENDLESS))
    api.delete(HOME, grace_s=0)
    end = container.wait(20)
    assert end is not None
    assert end.code == 143
    assert not api.pods
    container.remove()


def test_a_kubelet_that_does_not_confirm_is_not_waited_for(api: KubeApi, engine: KubeEngine) -> None:
    container = engine.start(spec(api, ENDLESS))
    api.node_lost = True
    begun = time.monotonic()
    end = container.stop(0)
    assert time.monotonic() - begun < stated(KILL_S)
    assert end.code == 137
    assert "deleted" in end.lost
    graces = [line for line in api.calls if line.startswith("delete")]
    assert len(graces) == 2, "once with a grace, once by force"
    container.remove()


# --- before it runs ---------------------------------------------------------


def start_with(engine: KubeEngine, what: ContainerSpec, **more: object) -> KubeContainer:
    settings = {"timeout_s": 5.0, "on_progress": lambda _: None, "cancelled": threading.Event(), **more}
    engine.ensure_image(what.image, **settings)  # type: ignore[arg-type]
    return engine.start(what)


def test_no_node_is_said_in_the_scheduler_s_words(api: KubeApi, engine: KubeEngine) -> None:
    api.unschedulable = "0/3 nodes are available: 3 Insufficient memory."
    with pytest.raises(EngineUnavailable, match=r"no node within 0\.5 s: Unschedulable: 0/3 nodes"):
        engine.start(spec(api, TALKS))
    assert not api.payloads()


def test_no_image_is_said_in_the_registry_s_words(api: KubeApi, engine: KubeEngine) -> None:
    with pytest.raises(
        ImageNotFound, match=r'failed to pull and unpack image "127\.0\.0\.1:9/no:1": not found'
    ):
        start_with(engine, spec(api, TALKS, image="127.0.0.1:9/no:1"))
    assert not api.payloads()


def test_a_registry_that_hiccups_is_waited_for(api: KubeApi, engine: KubeEngine) -> None:
    told: list[PullProgress] = []
    container = start_with(engine, spec(api, TALKS, image="flaky/x:1"), on_progress=told.append)
    assert container.wait(20) is not None
    assert any("i/o timeout" in one.text for one in told)
    container.remove()


def test_a_registry_that_never_answers(api: KubeApi, engine: KubeEngine) -> None:
    with pytest.raises(ImageError, match="i/o timeout"):
        start_with(engine, spec(api, TALKS, image="never/x:1"), timeout_s=1.0)
    assert not api.payloads()


def test_a_pull_can_be_cancelled(api: KubeApi, engine: KubeEngine) -> None:
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(Cancelled, match=POD):
        start_with(engine, spec(api, TALKS, image="never/x:1"), timeout_s=60.0, cancelled=cancelled)
    assert not api.payloads()


def test_a_name_that_is_taken(api: KubeApi, engine: KubeEngine) -> None:
    first = engine.start(spec(api, ENDLESS))
    with pytest.raises(StartError, match="already exists"):
        engine.start(spec(api, ENDLESS))
    assert first.wait(0) is None
    assert isinstance(first.stop(0), ContainerExit)
    first.remove()


def test_what_the_server_would_refuse_is_known_at_the_start(api: KubeApi, engine: KubeEngine) -> None:
    engine.try_folder(str(api.shared / "7"))
    with pytest.raises(EngineError, match="/elsewhere is on no volume of pod"):
        engine.try_folder("/elsewhere")
    api.rights.discard(("pods", "create"))
    with pytest.raises(EngineError, match=r"403 .*cannot create"):
        engine.try_folder(str(api.shared / "7"))
    assert not api.payloads()


def test_a_payload_gets_its_words_as_they_are(api: KubeApi, engine: KubeEngine) -> None:
    """Kubernetes would turn `$$` into `$`, and `$(PATH)` into a value."""
    container = engine.start(spec(api, "[ $$ -gt 1 ] && echo '$$ $(PATH) $(NO)' $(echo sub)"))
    assert container.wait(20) is not None
    assert output(api) == b"$$ $(PATH) $(NO) sub\n"
    container.remove()


# --- leftovers --------------------------------------------------------------


def test_whose_owner_is_gone(api: KubeApi, engine: KubeEngine) -> None:
    container = engine.start(spec(api, ENDLESS))
    (left,) = engine.leftovers(LABELS)
    assert left.name == POD
    assert not engine.owner_gone(left)
    api.fail("get pods", 500, times=2)
    assert not engine.owner_gone(left), "not known is not gone"
    until(lambda: not api.failing("get pods"))
    api.update_home(phase="Failed")
    assert engine.owner_gone(left)
    engine.remove_leftover(left)
    engine.remove_leftover(left)
    assert not api.payloads()
    assert container.wait(10) is not None
    container.remove()


def test_memory_comes_from_the_metrics_api_where_no_cgroup_is_seen(api: KubeApi, tmp_path: Path) -> None:
    cluster = Cluster(account=api.account, environment=api.environment, call_s=5)
    engine = KubeEngine(cluster, pod=HOME, clock=SystemClock(), cgroup_root=tmp_path / "none")
    container = engine.start(spec(api, ENDLESS))
    stats = container.stats()
    assert (stats.rss, stats.cpu_s, stats.source) == (5000 * 1024, None, "metrics API (working set)")
    api.rights.discard(("pods", "get"))
    api.fail("get pods.metrics", 403, times=1)
    asked = len(api.calls)
    assert container.stats().source == ""
    assert container.stats().source == ""
    assert sum(line.startswith("get pods.metrics") for line in api.calls[asked:]) == 1
    api.rights.add(("pods", "get"))
    end = container.stop(0)
    assert (end.code, end.cpu_s, end.max_rss_bytes) == (143, None, 5000 * 1024)
    container.remove()
    engine.close()
