"""The debug pod of docs/howto-deploy-gke.md: each of its commands as it is
written there, typed on a terminal, with a PanDA server on this machine.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes.howto import Terminal, blocks, commands
from tests.fakes.images import TEST_LABEL, busybox_image
from tests.fakes.kubectl import install
from tests.fakes.pilot_image import PILOT, pilot_images
from tests.fakes.pki import make_pki

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
HOWTO = ROOT / "docs/howto-deploy-gke.md"
CREATE, MEANWHILE, LOCALLY = (commands(block) for block in blocks(HOWTO, "3. Look around in a pod"))


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    pilot_images()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Reader:
    """Somebody with a shell in the checkout who does what the document says.

    Parameters
    ----------
    replaced
        What is different here, by the words of the document.
    """

    def __init__(self, environment: dict[str, str], replaced: dict[str, str]) -> None:
        self.environment = environment
        self.replaced = replaced

    def types(self, command: str) -> Terminal:
        for words, here in self.replaced.items():
            command = command.replace(words, here)
        return Terminal(command, self.environment, cwd=ROOT)

    def does(self, command: str, code: int = 0) -> str:
        with self.types(command) as terminal:
            assert terminal.end() == code, f"{command}\n{terminal.said}"
            return terminal.said


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@pytest.fixture
def reader(tmp_path: Path, panda: LocalPanda) -> Iterator[Reader]:
    """With a pod; a cluster where the queue LOCAL is served."""
    port = free_port()
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    secret.mkdir()
    (secret / "x509up_u25606").write_bytes(make_pki(tmp_path / "secret").proxy.read_bytes())
    manifest = yaml.safe_load((ROOT / "deploy/debug-pod.yaml").read_text())
    logs = panda.folder / "logs"
    logs.mkdir(exist_ok=True)
    cluster = {
        "images": {manifest["spec"]["containers"][0]["image"]: PILOT},
        "secrets": {"proxy-secret": str(secret)},
        "paths": {"/tmp/panda": str(shared)},
        "variables": {
            "pandaQueueName": "LOCAL",
            "computingSite": "LOCAL",
            "PILOT_SHARED_ROOT": str(shared),
            "PANDA_SERVER_URL": panda.url,
            "PILOT_CRIC_URL": panda.url,
            "PANDA_BASE_URLS": f"{panda.url}/trf",
            "CRIC_URL": "",
            "PILOT_HEALTH_PORT": str(port),
            "REALTIME_LOGGING_SERVER": "file;/pilotdir/records.jsonl",
        },
        "options": ["--network", "host", "--label", f"{TEST_LABEL}=pod", "--volume", f"{logs}:{logs}"],
    }
    given = Reader(install(tmp_path, cluster), {})
    created = given.does(CREATE[0])
    name = created.removeprefix("pod/").removesuffix(" created\n")
    try:
        given.replaced = {"$POD": name, ":9090": f":{port}"}
        yield given
    finally:
        subprocess.run(["docker", "rm", "-fv", name], capture_output=True, timeout=60)


def test_a_worker_in_the_debug_pod(reader: Reader, panda: LocalPanda, tmp_path: Path) -> None:
    wait = "echo started; while [ ! -e go ]; do sleep 0.1; done; echo done"
    job = panda.store.submit(make(image=busybox_image(), parameters=wait))

    def status(terminal: Terminal) -> None:
        assert terminal.end() == 0, terminal.said
        told = json.loads(terminal.said)
        assert (told["phase"], told["queue"], told["health"]["well"]) == ("running", "LOCAL", True)
        assert told["job"]["PandaID"] == job
        assert told["job"]["folder"].endswith(f"/PanDA_Pilot-{job}")
        listed = subprocess.run(
            ["docker", "inspect", told["job"]["payload"]], capture_output=True, timeout=60
        )
        assert listed.returncode == 0

    def output(terminal: Terminal) -> None:
        terminal.until("started")

    def healthcheck(terminal: Terminal) -> None:
        assert terminal.end() == 0
        assert terminal.said.startswith("running, moved ")

    def shell(terminal: Terminal) -> None:
        terminal.type("pwd; ls -d PanDA_Pilot-*; head -c 27 $X509_USER_PROXY; exit\n")
        assert terminal.end() == 0, terminal.said
        for words in ("/pilotdir/panda_", f"PanDA_Pilot-{job}\n", "-----BEGIN CERTIFICATE-----"):
            assert words in terminal.said

    def tail(terminal: Terminal) -> None:
        terminal.until("payload runs in engine docker")

    def settings(terminal: Terminal) -> None:
        assert terminal.end() == 0
        assert "DOMA_LSST_DEV" in terminal.said

    def containers(terminal: Terminal) -> None:
        assert terminal.end() == 0
        assert busybox_image() in terminal.said

    def metrics(terminal: Terminal) -> None:
        assert terminal.end() == 0
        number = re.search(r"^panda_pilot_job_id (\S+)$", terminal.said, re.MULTILINE)
        assert number is not None
        assert float(number[1]) == job

    checks: dict[str, Callable[[Terminal], None]] = {
        "kubectl exec $POD -- pilot-starter status": status,
        "kubectl exec $POD -- sh -c 'tail -f /pilotdir/*/PanDA_Pilot-*/payload.std*'": output,
        "kubectl exec $POD -- pilot-starter healthcheck": healthcheck,
        "kubectl exec -it $POD -- pilot-starter shell": shell,
        "kubectl exec $POD -- tail -f /tmp/wrapper-wid.log": tail,
        "kubectl exec $POD -- pilot.py -q DOMA_LSST_DEV --show-config": settings,
        "kubectl exec $POD -- docker ps --filter label=org.panda.pilot.family=panda": containers,
        "kubectl exec $POD -- curl -s localhost:9090/metrics": metrics,
    }
    *meanwhile, delete = MEANWHILE
    assert meanwhile == list(checks), "the document and this test name the same commands"
    for words in ("status", "shell"):
        said = reader.does(f"kubectl exec $POD -- pilot-starter {words}", code=1)
        assert said == "there is no worker at /tmp/wrapper-wid.json\n"
    with reader.types(CREATE[2]) as worker:
        panda.store.wait_status(job, "running", 60)
        for command, check in checks.items():
            with reader.types(command) as terminal:
                check(terminal)
        (tmp_path / "shared" / str(job) / "go").touch()
        assert worker.end() == 0, worker.said
        assert "the pilot exited with 0" in worker.said
    assert panda.store.job(job).status == "finished"
    assert json.loads(reader.does("kubectl exec $POD -- pilot-starter status"))["phase"] == "ended"
    assert "worker has ended" in reader.does("kubectl exec $POD -- pilot-starter shell", code=1)
    assert reader.does(delete).endswith(" deleted\n")


def test_without_a_cluster(tmp_path: Path) -> None:
    name = f"pilot-debug-{tmp_path.name}-{os.getpid()}"
    port = free_port()
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), "TERM": "dumb"}
    here = Reader(environment, {"serve &": f"serve --port {port}", "25080": str(port)})
    here.replaced |= {"rubin-panda-pilot:local": PILOT, "pilot-debug": name}
    here.replaced |= {"/tmp/panda:/tmp/panda": f"{tmp_path}/panda:/tmp/panda"}
    serve, submit, run, work, status, jobs, logs, remove = LOCALLY
    try:
        with here.types(serve) as server:
            server.until("in another terminal")
            here.replaced["PANDAID"] = here.does(submit).strip()
            here.does(run)
            assert "the pilot exited with 0" in here.does(work)
            assert json.loads(here.does(status))["phase"] == "ended"
            assert "finished" in here.does(jobs)
            assert "\nhello\n" in here.does(logs)
            assert here.does(remove) == f"{name}\n"
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, timeout=60)
