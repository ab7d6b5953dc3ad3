"""The manifests: up to date, valid as Harvester sends them, within their
machines.
"""

import copy
import dataclasses
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
#: Oldest that is still met, and newest that GKE's regular channel has.
VERSIONS = ("1.27", "1.30", "1.33")


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


render = _module(DEPLOY / "render.py")
TEMPLATES = sorted(path for path in render.render() if path.parent.parent.name == "harvester")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def harvested(template: dict[str, Any], *, worker: int, queue: str, push: bool) -> dict[str, Any]:
    """What the cluster gets: the rules of harvester d561b72,
    `create_job_from_yaml`.

    For a queue of one core whose CRIC parameters are all default, and a worker
    of
    1000 MB: what the template says must win.
    """
    job = copy.deepcopy(template)
    job["metadata"]["name"] += f"-{worker}"
    pod = job["spec"]["template"]
    pod.setdefault("metadata", {})["labels"] = {
        "resourceType": "SCORE",
        "prodSourceLabel": "managed",
        "pq": queue,
    }
    spec = pod["spec"]
    del spec["containers"][1:]
    container = spec["containers"][0]
    container.setdefault("image", "atlasadc/atlas-grid-centos7")
    if "command" not in container:
        container.update(command=["/usr/bin/bash"], args=["-c", "python3 $EXEC_DIR/pilots_starter.py"])
    resources = container.setdefault("resources", {})
    requests, limits = resources.setdefault("requests", {}), resources.setdefault("limits", {})
    requests.setdefault("cpu", "0.9")
    limits.setdefault("cpu", "1")
    requests.setdefault("memory", "1000.0Mi")
    env = container.setdefault("env", [])
    for part, variable in ((requests, "storageRequestMiB"), (limits, "storageLimitMiB")):
        if "ephemeral-storage" not in part:
            part["ephemeral-storage"] = "16336.0Mi"
            env.append({"name": variable, "value": "16336.0"})
    volumes, mounts = spec.setdefault("volumes", []), container.setdefault("volumeMounts", [])
    if not any(volume["name"] == "pilot-dir" for volume in volumes):
        volumes.append({"name": "pilot-dir", "emptyDir": {}})
    if not any(mount["name"] == "pilot-dir" for mount in mounts):
        mounts.append({"name": "pilot-dir", "mountPath": "/pilotdir"})
    given = {
        "computingSite": queue,
        "pandaQueueName": queue,
        "resourceType": "SCORE",
        "pilotType": "PR",
        "pilotUrlOpt": "",
        "pythonOption": "--pythonversion 3",
        "pilotVersion": "1",
        "proxySecretPath": "/proxy/x509up_u25606",
        "PANDA_AUTH_ORIGIN": "atlas.pilot",
        "workerID": str(worker),
        "HARVESTER_WORKER_ID": str(worker),
        "HARVESTER_ID": "harvester",
        "PANDA_JSID": "harvester-harvester",
        "logs_frontend_w": "https://panda:443/server/panda",
        "logs_frontend_r": "https://panda:443/cache",
        "submit_mode": "PUSH" if push else "PULL",
        "EXEC_DIR": "/scratch/executables",
        "TMPDIR": "/pilotdir",
        "HOME": "/pilotdir",
        "K8S_JOB_ID": job["metadata"]["name"],
        "prodSourceLabel": "unified",
        "jobType": "unified",
    }
    env.extend({"name": name, "value": value} for name, value in given.items())
    # A token that is not configured is a variable without a value.
    env.extend({"name": name} for name in ("PANDA_AUTH_DIR", "PANDA_AUTH_TOKEN", "PANDA_AUTH_TOKEN_KEY"))
    env.append({"name": "PANDA_HOSTNAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})
    volumes.append({"name": "pilots-starter", "configMap": {"name": "pilots-starter"}})
    mounts.append({"name": "pilots-starter", "mountPath": "/scratch/executables"})
    if push:
        volumes.append({"name": "job-config", "configMap": {"name": str(worker)}})
        mounts.append({"name": "job-config", "mountPath": "/scratch/jobconfig"})
    spec.setdefault("affinity", {})
    spec.setdefault("activeDeadlineSeconds", 4 * 24 * 23600)
    return job


def mib(text: str) -> int:
    found = re.fullmatch(r"(\d+)Mi", text)
    assert found, f"{text} is not in Mi"
    return int(found[1])


def allocatable_mib(machine_mib: int) -> float:
    """Of a GKE node's memory, what pods may have.

    Google's rule: 25 % of the first 4 GiB, 20 % of the next 4, 10 % of the
    next
    8, 6 % of the next 112, 2 % above 128 GiB, and 100 MiB for eviction.
    """
    reserved, left = 100.0, float(machine_mib)
    for size, part in ((4, 0.25), (4, 0.2), (8, 0.1), (112, 0.06), (10**6, 0.02)):
        step = min(left, size * 1024.0)
        reserved, left = reserved + part * step, left - step
    return machine_mib - reserved


def test_files_are_what_the_generator_writes() -> None:
    for path, text in render.render().items():
        assert path.read_text() == text, f"{path}: run deploy/render.py"
    assert sorted((DEPLOY / "harvester").rglob("*.yaml")) == TEMPLATES


def test_each_queue_has_a_template_and_cric_s_memory() -> None:
    shipped = {
        path.stem: json.loads(path.read_text())[path.stem]["maxrss"]
        for path in (ROOT / "pilot_core/local/queues").glob("DOMA_LSST_*.json")
    }
    assert {queue.name: queue.maxrss_mib for queue in render.queues()} == shipped
    assert len(shipped) == 7


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_valid_as_harvester_sends_it(path: Path, version: str) -> None:
    mode = {queue.name: queue.mode for queue in render.queues()}[path.stem]
    job = harvested(load(path), worker=123456789, queue=path.stem, push=mode == "PUSH")
    kubernetes_validate.validate(job, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "name", ["debug-pod", "cluster/pilot", "cluster/payload-pods", "cluster/harvester", "cluster/operator"]
)
def test_the_others_are_valid(name: str, version: str) -> None:
    for document in yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_refuses_what_is_wrong() -> None:
    job = load(TEMPLATES[0])
    job["spec"]["template"]["spec"]["terminationGraceSeconds"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_a_template_must_say(path: Path) -> None:
    job = load(path)
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["command"][:2] == ["/usr/bin/tini", "--"], "a shell as pid 1 swallows SIGTERM"
    assert container["command"][-1] == "pilot-starter"
    assert "args" not in container
    assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 3600)
    assert spec["terminationGracePeriodSeconds"] == 60
    variant = path.parent.name
    assert spec["automountServiceAccountToken"] is (variant == "own-pod")
    assert spec["serviceAccountName"] == ("panda-pilot-pods" if variant == "own-pod" else "panda-pilot")
    (port,) = container["ports"]
    assert {"name": "PILOT_HEALTH_PORT", "value": f"0.0.0.0:{port['containerPort']}"} in container["env"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
        assert container[probe]["timeoutSeconds"] == 10
        assert "exec" not in container[probe]
    names = [variable["name"] for variable in container["env"]]
    assert len(set(names)) == len(names)
    assert {"POD_NAME", "POD_NAMESPACE", "CONTAINER_NAME", "PANDA_HOSTNAME"} <= set(names)
    assert not [v for v in container["env"] if str(v.get("value", "")).startswith("$")]
    secrets = {volume["name"] for volume in spec["volumes"] if "secret" in volume}
    assert secrets == {"proxy-secret", "gcs-access", "credentials"}
    for mount in container["volumeMounts"]:
        assert mount.get("readOnly", False) == (mount["name"] in {*secrets, "cgroup"}), mount
    assert bool(container["securityContext"].get("privileged")) == (variant == "own-docker")
    assert ("docker-socket" in {v["name"] for v in spec["volumes"]}) == (variant == "node-docker")
    assert "prune" not in path.read_text()
    assert "|| true" not in path.read_text()


def test_without_a_port_the_probes_run_a_command() -> None:
    queue = dataclasses.replace(render.queues()[0], health_port=0)
    (container,) = render.job(queue, "node-docker")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["pilot-starter", "healthcheck"]
        assert "httpGet" not in container[probe]
    assert "ports" not in container
    assert "PILOT_HEALTH_PORT" not in [variable["name"] for variable in container["env"]]


@pytest.mark.parametrize("queue", render.queues(), ids=lambda queue: queue.name)
@pytest.mark.parametrize("variant", render.VARIANTS)
def test_as_many_fit_on_a_machine_as_the_table_says(queue: Any, variant: str) -> None:
    resources = load(DEPLOY / "harvester" / variant / f"{queue.name}.yaml")["spec"]["template"]["spec"][
        "containers"
    ][0]["resources"]
    request, limit = mib(resources["requests"]["memory"]), mib(resources["limits"]["memory"])
    # 300 MiB: what GKE's own pods ask for on each node.
    free = allocatable_mib(queue.machine_mib) - 300
    assert request >= queue.maxrss_mib
    assert queue.pods_per_node * request <= free < (queue.pods_per_node + 1) * request
    assert queue.maxrss_mib < limit <= free, "the payload's limit comes before the pod's"


def test_merge() -> None:
    base = {"a": {"x": 1, "y": 2}, "list": [{"name": "p", "v": 1}, {"name": "q"}], "plain": [1, 2], "gone": 1}
    patch = {"a": {"y": 3}, "list": [{"name": "p", "w": 2}, {"name": "r"}], "plain": [3], "gone": None}
    assert render.merge(base, patch) == {
        "a": {"x": 1, "y": 3},
        "list": [{"name": "p", "v": 1, "w": 2}, {"name": "q"}, {"name": "r"}],
        "plain": [3],
    }


def test_an_old_file_is_named_and_written_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    copied = _module(tmp_path / "deploy/render.py")
    old = tmp_path / "deploy/harvester/own-docker/DOMA_LSST_DEV.yaml"
    text = old.read_text()
    old.write_text("")
    assert copied.main(["--check"]) == 1
    assert capsys.readouterr().out == "out of date: deploy/harvester/own-docker/DOMA_LSST_DEV.yaml\n"
    assert old.read_text() == ""
    assert copied.main([]) == 0
    assert old.read_text() == text
    assert copied.main(["--check"]) == 0


def test_secrets_hold_nothing() -> None:
    for secret in yaml.safe_load_all((DEPLOY / "cluster/secrets.yaml").read_text()):
        assert not any(secret["data"].values())
        assert "stringData" not in secret


def test_least_privilege() -> None:
    (account,) = yaml.safe_load_all((DEPLOY / "cluster/pilot.yaml").read_text())
    assert account["kind"] == "ServiceAccount", "pilots need no role"
    assert account["automountServiceAccountToken"] is False
    for name in ("harvester", "operator", "payload-pods"):
        for document in yaml.safe_load_all((DEPLOY / f"cluster/{name}.yaml").read_text()):
            assert not document["kind"].startswith("Cluster")
            assert "*" not in json.dumps(document)
