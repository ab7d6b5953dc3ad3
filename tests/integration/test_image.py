"""The image as a pod runs it: an outer container with the node's Docker
socket.
"""

import contextlib
import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from pilot_core.local.worker import INHERITED, WorkerPlan, worker_environment
from tests.fakes.images import TEST_LABEL, busybox_image
from tests.fakes.pilot_image import PILOT, PILOT_USER, pilot_images

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
SOCKET = "/var/run/docker.sock"


def docker(*arguments: str, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s)


@pytest.fixture(scope="module")
def images() -> None:
    pilot_images()


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@dataclass
class Pod:
    """One outer container: `pilotdir` is its emptyDir, `shared` the node's
    folder.
    """

    panda: LocalPanda
    pilotdir: Path
    shared: Path
    image: str = PILOT
    engine: str = "docker"
    options: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"pilot-test-{uuid.uuid4().hex[:12]}")

    def start(self) -> None:
        self.pilotdir.mkdir(mode=0o777)
        self.pilotdir.chmod(0o777)
        small = "[Pilot]\nheartbeat: 1\nfree_space_limit: 10 MB\nfree_space_limit_running: 10 MB\n"
        (self.pilotdir / "pilot.cfg").write_text(small)
        command = [
            "run",
            "--detach",
            "--name",
            self.name,
            "--label",
            f"{TEST_LABEL}=pod",
            "--network",
            "host",
        ]
        command += [*security(), "--volume", f"{self.pilotdir}:/pilotdir"]
        # The queue's storage, a folder here.
        logs = self.panda.folder / "logs"
        logs.mkdir(exist_ok=True)
        logs.chmod(0o777)
        command += ["--volume", f"{logs}:{logs}"]
        if self.engine == "docker":
            command += ["--volume", f"{SOCKET}:{SOCKET}", "--volume", f"{self.shared}:{self.shared}"]
        for name, value in self.environment().items():
            command += ["--env", f"{name}={value}"]
        done = docker(*command, *self.options, self.image)
        assert done.returncode == 0, done.stderr

    def environment(self) -> Mapping[str, str]:
        plan = WorkerPlan(
            url=self.panda.url,
            folder=Path("/pilotdir"),
            engine=self.engine,
            shared=self.shared,
            heartbeat_s=1,
        )
        given = worker_environment(plan)
        return {
            **{k: v for k, v in given.items() if k not in INHERITED and k != "PYTHONPATH"},
            "TMPDIR": "/pilotdir",
            "HOME": "/pilotdir",
            "PILOT_EXTRA_OPTIONS": "-v 1 -x 2 --cleanup no --realtime-interval 0.5 --payload-grace 2",
            "CRIC_URL": "",
        }

    def wait(self, timeout_s: float = 90.0) -> int:
        try:
            return int(docker("wait", self.name, timeout_s=timeout_s).stdout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the pod still runs after {timeout_s} s\n{self.logs()[-6000:]}") from None

    def logs(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def exec(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return docker("exec", self.name, *command)


def security() -> list[str]:
    """The rights that the job template gives."""
    job = yaml.safe_load((ROOT / "deploy/job/node-docker.yaml").read_text())
    context = job["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    options = ["--security-opt", "no-new-privileges"]
    options += [word for right in context["capabilities"]["drop"] for word in ("--cap-drop", right)]
    return options + [word for right in context["capabilities"]["add"] for word in ("--cap-add", right)]


@contextlib.contextmanager
def running(pod: Pod) -> Iterator[Pod]:
    pod.start()
    try:
        yield pod
    finally:
        docker("rm", "--force", pod.name)


def of_job(job: int, shared: Path) -> list[str]:
    """Containers that have a job's folder mounted; the pod itself has its
    parent.
    """
    return docker("ps", "-aq", "--filter", f"volume={shared / str(job)}").stdout.split()


def inner_run(shared: Path, image: str, script: str) -> str:
    """How Rubin's runner starts its inner container, without `--privileged`."""
    return (
        f"logDir={shared}/${{PANDAID}}; mkdir -p $logDir; chmod ugo+w $logDir; "
        f'docker run --rm -v $logDir:$logDir --network host {image} /bin/sh -c "cd $logDir; {script}"'
    )


def submit_inner(panda: LocalPanda, shared: Path, script: str) -> int:
    text = inner_run(shared, busybox_image(), script)
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=text, encode=True)
    )


def stored(panda: LocalPanda, job: int, name: str) -> str:
    return (panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / name).read_text()


def test_image_job_and_inner_docker_run(images: None, panda: LocalPanda, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    first = panda.store.submit(make(image=busybox_image(), parameters="pwd; echo of an image >made"))
    second = submit_inner(panda, shared, "pwd; echo of an inner container >made")
    with running(Pod(panda, tmp_path / "pilotdir", shared)) as pod:
        code = pod.wait()
        said = pod.logs()
    assert code == 0, said
    for job, made in ((first, "of an image\n"), (second, "of an inner container\n")):
        assert panda.store.job(job).status == "finished", (panda.store.job(job).pilot_error, said)
        # The payload's path is the node's, and what it wrote is there.
        assert stored(panda, job, "payload.stdout") == f"{shared}/{job}\n"
        assert (shared / str(job) / "made").read_text() == made
        assert of_job(job, shared) == []


STUBBORN = "trap '' TERM; echo started; while :; do sleep 1; done"


@pytest.mark.parametrize("kind", ["image", "inner"])
def test_a_removed_pod_s_payload_goes_with_the_next_pod(
    images: None, panda: LocalPanda, tmp_path: Path, kind: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    if kind == "image":
        job = panda.store.submit(make(image=busybox_image(), parameters=STUBBORN))
    else:
        job = submit_inner(panda, shared, STUBBORN)
    with running(Pod(panda, tmp_path / "first", shared)) as pod:
        panda.store.wait_status(job, "running", 60)
        assert panda.store.wait_for(lambda: bool(of_job(job, shared)), 20), pod.logs()
        well = pod.exec("pilot-starter", "healthcheck")
        assert well.returncode == 0, well.stdout + well.stderr
        assert json.loads(pod.exec("pilot-starter", "status").stdout)["job"]["PandaID"] == job
        assert docker("rm", "--force", pod.name).returncode == 0
    assert of_job(job, shared), "the test must leave a payload behind"
    # As in Kubernetes: the next pod has the node's folder, and an emptyDir of
    # its own.
    with running(Pod(panda, tmp_path / "second", shared)) as pod:
        assert pod.wait() == 0, pod.logs()
    assert of_job(job, shared) == []


def test_sigterm_to_the_pod(images: None, panda: LocalPanda, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    job = submit_inner(panda, shared, STUBBORN)
    with running(Pod(panda, tmp_path / "pilotdir", shared)) as pod:
        panda.store.wait_status(job, "running", 60)
        assert panda.store.wait_for(lambda: bool(of_job(job, shared)), 20), pod.logs()
        docker("kill", "--signal", "TERM", pod.name)
        assert pod.wait(60) == 143, pod.logs()
    assert panda.store.job(job).pilot_error[0] == 1201
    assert of_job(job, shared) == []


def test_without_root_and_without_docker(images: None, panda: LocalPanda, tmp_path: Path) -> None:
    job = panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters="id -u; echo done", encode=True)
    )
    pod = Pod(panda, tmp_path / "pilotdir", Path("/pilotdir/panda"), image=PILOT_USER, engine="process")
    pod.options = ("--cap-drop", "ALL")
    with running(pod):
        assert pod.wait() == 0, pod.logs()
        said = pod.logs()
    assert panda.store.job(job).status == "finished", (panda.store.job(job).pilot_error, said)
    assert stored(panda, job, "payload.stdout") == "10001\ndone\n"
