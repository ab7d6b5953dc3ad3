"""The whole pilot with `--engine kubernetes`: the official client over TLS
against an API server of our own, whose kubelet runs the payload for real.
"""

import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from container.kube_api import Cluster
from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.config import StorageConfig
from pilot_core.ledger import Ledger
from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from pilot_starter.remains import Remains
from tests.fakes.kube_api import HOME, KubeApi
from tests.fakes.patience import stated
from tests.fakes.pilot_process import start_pilot
from tests.fakes.pki import Pki, make_pki

PODS = ("--engine", "kubernetes", "--payload-grace", "2")
STUBBORN = "trap '' TERM; echo started; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@pytest.fixture
def api(tmp_path: Path, pki: Pki) -> Iterator[KubeApi]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with KubeApi(folder, pki, shared=tmp_path / "home" / "shared") as server:
        yield server


def environment(api: KubeApi) -> Mapping[str, str]:
    """What the template and Kubernetes itself put into a pilot's pod."""
    return {
        **api.environment,
        "POD_NAME": HOME,
        "PILOT_SERVICE_ACCOUNT": str(api.account),
        "PILOT_CGROUP_ROOT": str(api.cgroup_root),
        "REALTIME_LOGFILES": "payload-log.json",
    }


def finals(panda: LocalPanda, job: int) -> list[str]:
    return [u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")]


def stored(panda: LocalPanda, job: int, name: str) -> Path:
    return panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / name


def submit(panda: LocalPanda, command: str, *, image: str = "busybox") -> int:
    return panda.store.submit(make(image=image, parameters=command))


def test_a_job_from_start_to_finish(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    line = r"""echo "{\"message\": \"n$i\"}" >> payload-log.json"""
    job = submit(
        panda, f"i=0; while [ $i -lt 50 ]; do {line}; i=$((i+1)); done; echo $PANDAID; echo oops >&2; pwd"
    )
    target = tmp_path / "records.jsonl"
    options = (*PODS, "--use-realtime-logging", "--realtime-logging-server", f"file;{target}")
    home = tmp_path / "home"
    with start_pilot(panda, home, *options, environment=environment(api)) as pilot:
        assert pilot.wait() == 0, pilot.text()
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, pilot.text())
    assert finals(panda, job) == ["finished"]
    assert stored(panda, job, "payload.stdout").read_text() == f"{job}\noops\n{home}/shared/{job}\n"
    assert len(target.read_text().splitlines()) == 50
    assert not api.payloads()
    asked = [call for call in api.calls if f"panda-{job}" in call and not call.startswith("get pods.metrics")]
    verbs = list(dict.fromkeys(call.split()[0] + " " + call.split()[1] for call in asked))
    assert verbs[:2] == ["create pods", "get pods"]
    # A payload that ends before anybody looks needs no watching.
    assert set(verbs[2:]) - {"watch pods", "list events"} == {"get pods/log", "delete pods"}


def test_what_the_pod_may_do(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    """Limits of the job, our owner, no token, no privilege."""
    job = submit(panda, "sleep 60")
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        panda.store.wait_status(job, "running", 30)
        (pod,) = api.payloads()
        panda.store.kill(job)
        assert pilot.wait() == 0
    spec, about = pod["spec"], pod["metadata"]
    (container,) = spec["containers"]
    assert about["ownerReferences"][0]["uid"] == api.pods[HOME]["metadata"]["uid"]
    assert about["labels"]["org.panda.pilot.job"] == str(job)
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert container["securityContext"]["privileged"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    limits = container["resources"]["limits"]
    assert int(limits["memory"]) > 2**20
    assert limits["cpu"] == "1000m"
    assert [mount["subPath"] for mount in container["volumeMounts"]] == [str(job)]
    names = {row["name"] for row in container["env"]}
    assert "PANDAID" in names
    assert not names & set(environment(api)) - {"REALTIME_LOGFILES"}, "nothing of the pilot's own pod"


def test_a_payload_out_of_memory(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    job = submit(panda, "sleep 60")
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        panda.store.wait_status(job, "running", 30)
        (pod,) = api.payloads()
        api.running[pod["metadata"]["name"]].kill("OOMKilled")
        assert pilot.wait() == 0
    row = panda.store.job(job)
    assert (row.status, row.pilot_error[0]) == ("failed", 1212), row.pilot_error
    assert finals(panda, job) == ["failed"]


def test_a_payload_that_is_evicted(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    job = submit(panda, "sleep 60")
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        panda.store.wait_status(job, "running", 30)
        (pod,) = api.payloads()
        api.running[pod["metadata"]["name"]].kill(
            "Error", reason="Evicted", message="low on resource: memory"
        )
        assert pilot.wait() == 0
    row = panda.store.job(job)
    assert (row.status, row.pilot_error[0]) == ("failed", 1324)
    assert "Evicted: low on resource: memory" in row.pilot_error[1]


def test_an_image_that_is_not_there(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    job = submit(panda, "true", image="127.0.0.1:9/no:1")
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        assert pilot.wait() == 0
    code, diag = panda.store.job(job).pilot_error
    assert code == 1360, diag
    assert "failed to pull and unpack image" in diag
    assert finals(panda, job) == ["failed"]
    assert not api.payloads()


@pytest.mark.parametrize("ending", ["tobekilled", "SIGTERM", "SIGINT"])
def test_nothing_is_left_after_a_kill(panda: LocalPanda, api: KubeApi, tmp_path: Path, ending: str) -> None:
    job = submit(panda, STUBBORN)
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        panda.store.wait_status(job, "running", 30)
        began = time.monotonic()
        if ending == "tobekilled":
            panda.store.kill(job)
            panda.store.wait_status(job, "cancelled", 30)
            assert pilot.wait(30) == 0
        else:
            number = signal.Signals[ending]
            pilot.signal(number)
            assert pilot.wait(12) == 128 + number
        assert time.monotonic() - began < stated(15)
    assert not api.payloads()
    assert finals(panda, job) == ["failed"]
    assert (
        panda.store.job(job).pilot_error[0] == {"tobekilled": 1144, "SIGTERM": 1201, "SIGINT": 1208}[ending]
    )
    assert stored(panda, job, "payload.stdout").read_text() == "started\n"


def test_sigterm_while_the_image_is_pulled(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    job = submit(panda, "true", image="never/x:1")
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        pilot.wait_text("i/o timeout")
        pilot.signal(signal.SIGTERM)
        assert pilot.wait(12) == 143
    assert not api.payloads()
    assert finals(panda, job) == ["failed"]
    assert panda.store.job(job).pilot_error[0] == 1201


def test_a_killed_pilot_is_settled_by_the_next_one(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    """Also where the pilot's pod lives on: its restart finds the payload by
    the lock that is free, and another pod's pilot by the same.
    """
    job = submit(panda, "sleep 300")
    home = tmp_path / "home"
    with start_pilot(panda, home, *PODS, environment=environment(api)) as pilot:
        panda.store.wait_status(job, "running", 30)
        pilot.signal(signal.SIGKILL)
        pilot.wait()
    assert len(api.payloads()) == 1
    other = submit(panda, "true")
    with start_pilot(panda, home, *PODS, environment=environment(api)) as pilot:
        assert pilot.wait() == 0, pilot.text()
    assert not api.payloads()
    assert finals(panda, job) == ["failed"]
    assert panda.store.job(other).status == "finished"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("right", "cannot create"),
        ("volume", "is on no volume of pod"),
        ("token", "Service token file does not exist"),
    ],
)
def test_what_is_missing_is_said_before_a_job_is_taken(
    panda: LocalPanda, api: KubeApi, tmp_path: Path, broken: str, words: str
) -> None:
    job = submit(panda, "true")
    if broken == "right":
        api.rights.discard(("pods", "create"))
    elif broken == "token":
        (api.account / "token").unlink()
    else:
        api.pods[HOME]["spec"]["containers"][0]["volumeMounts"] = []
    with start_pilot(panda, tmp_path / "home", *PODS, environment=environment(api)) as pilot:
        assert pilot.wait() != 0
    assert "--engine kubernetes: " in pilot.text()
    assert words in pilot.text()
    assert panda.store.job(job).status not in ("running", "failed", "finished")
    assert "Traceback" not in pilot.text()


def test_the_starter_removes_the_pod_of_a_dead_pilot(panda: LocalPanda, api: KubeApi, tmp_path: Path) -> None:
    """As its last will does: from the job state file, with the pod's rights."""
    job = submit(panda, "sleep 300")
    home = tmp_path / "home"
    with start_pilot(panda, home, *PODS, environment=environment(api)) as pilot:
        panda.store.wait_status(job, "running", 30)
        pilot.signal(signal.SIGKILL)
        pilot.wait()
    held = Ledger(home).held()
    assert held is not None
    clock = SystemClock()
    remains = Remains(
        docker_url="unix:///nowhere",
        storage=StorageConfig(),
        clock=clock,
        pods=lambda call_s: Cluster(account=api.account, environment=api.environment, call_s=call_s),
        redactor=Redactor(),
    )
    secrets = Path(held.work) / "panda_secrets.json"
    secrets.write_text("{}")
    remains.tidy(held, Budget(clock, 10.0, "last will"))
    assert not api.payloads()
    assert not secrets.exists()
