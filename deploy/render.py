"""Write the Harvester job templates: base + variant + row of the table of
queues.

    .venv/bin/python deploy/render.py [--check]

writes `deploy/harvester/<variant>/<queue>.yaml` and `deploy/debug-pod.yaml`,
or
says which of them are out of date and exits with 1. Needs PyYAML.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["VARIANTS", "Queue", "debug_pod", "job", "merge", "queues", "render"]

HERE = Path(__file__).resolve().parent
#: Variant and what its image's tag ends in.
VARIANTS = {"node-docker": "", "own-docker": "-dockerd", "own-pod": "-kubernetes"}
#: MiB for starter and pilot beside the payload: 60 each, and log lines on
#: their way.
PILOT_MIB = 512
#: MiB for a Docker daemon in the pod.
DOCKERD_MIB = 512
#: Of the 3.9 cores for pods on a machine with 4, four pilots leave 0.5 to the
#: system.
CPU_REQUEST, CPU_LIMIT = "850m", "1"
TAINTS = ("cloud.google.com/gke-preemptible", "cloud.google.com/gke-spot")


@dataclass(frozen=True, slots=True)
class Queue:
    """A row of `queues.yaml`; memory in MiB."""

    name: str
    mode: str
    maxrss_mib: int
    machine: str
    machine_mib: int
    pods_per_node: int
    preemptible: bool
    server: str
    image: str
    tag: str
    health_port: int


def queues() -> list[Queue]:
    """The table."""
    table = yaml.safe_load((HERE / "queues.yaml").read_text())
    missing = [name for name in ("server", "image", "tag", "health_port") if table.get(name) in (None, "")]
    if missing:
        raise SystemExit(f"deploy/queues.yaml: {', '.join(missing)} must be set")
    common = {key: value for key, value in table.items() if key != "queues"}
    return [Queue(name=name, **{**common, **row}) for name, row in table["queues"].items()]


def merge(base: Any, patch: Any) -> Any:
    """A document with a patch on it.

    Mappings are merged, lists of mappings with a `name` as well (by name, new
    ones at the end); None removes; anything else replaces.
    """
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        merged = {**base, **{key: merge(base.get(key), value) for key, value in patch.items()}}
        return {key: value for key, value in merged.items() if value is not None}
    if _named(base) and _named(patch):
        by_name = {item["name"]: item for item in base}
        for item in patch:
            by_name[item["name"]] = merge(by_name.get(item["name"], {}), item)
        return list(by_name.values())
    return patch


def _named(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, Mapping) and "name" in item for item in value)


def job(queue: Queue, variant: str) -> dict[str, Any]:
    """The Job that Harvester is given."""
    document = merge(_load("job/base.yaml"), _load(f"job/{variant}.yaml"))
    document = merge(document, _of_queue(queue, variant))
    assert isinstance(document, dict)
    return document


def _of_queue(queue: Queue, variant: str) -> dict[str, Any]:
    """What the row of the table says, as a patch.

    The request is the queue's maxrss, so that as many pilots fit as the
    machine was chosen for. The limit leaves room for the pilot beside a
    payload
    that uses all of it: the pilot must live to report a payload that uses
    more.
    """
    beside = PILOT_MIB + (DOCKERD_MIB if variant == "own-docker" else 0)
    container = {
        "name": "pilot",
        "env": [{"name": "PANDA_SERVER_URL", "value": queue.server}],
        "image": f"{queue.image}:{queue.tag}{VARIANTS[variant]}",
        "resources": {
            "requests": {"cpu": CPU_REQUEST, "memory": f"{queue.maxrss_mib}Mi"},
            "limits": {"cpu": CPU_LIMIT, "memory": f"{queue.maxrss_mib + beside}Mi"},
        },
    }
    if queue.health_port:
        container = merge(container, _over_http(queue.health_port))
    pod: dict[str, Any] = {"containers": [container]}
    if queue.preemptible:
        pod["tolerations"] = [
            {"key": taint, "operator": "Equal", "value": "true", "effect": "NoSchedule"} for taint in TAINTS
        ]
    return {"spec": {"template": {"spec": pod}}}


def _over_http(port: int) -> dict[str, Any]:
    """Probes that ask the starter's port: a command of their own would need
    30 MB in the pod, beside a payload that may have taken all of it.
    """
    ask = {"exec": None, "httpGet": {"path": "/healthz", "port": "health"}}
    return {
        "name": "pilot",
        "env": [{"name": "PILOT_HEALTH_PORT", "value": f"0.0.0.0:{port}"}],
        "ports": [{"name": "health", "containerPort": port}],
        "startupProbe": ask,
        "livenessProbe": ask,
    }


def debug_pod() -> dict[str, Any]:
    """A pod of the development queue for `kubectl create -f` and `kubectl
    exec`.
    """
    (queue,) = (q for q in queues() if q.name == "DOMA_LSST_DEV")
    pod = job(queue, "node-docker")["spec"]["template"]["spec"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pilot-debug-", "labels": {"app": "panda-pilot-debug"}},
        "spec": merge(pod, _load("job/debug.yaml")),
    }


def render() -> dict[Path, str]:
    """Every generated file and its text."""
    files = {
        HERE / "harvester" / variant / f"{queue.name}.yaml": _text(
            job(queue, variant), f"{queue.name} ({queue.mode}), {queue.pods_per_node} on a {queue.machine}"
        )
        for variant in VARIANTS
        for queue in queues()
    }
    files[HERE / "debug-pod.yaml"] = _text(debug_pod(), "kubectl create -f deploy/debug-pod.yaml")
    return files


def _load(name: str) -> Any:
    return yaml.safe_load((HERE / name).read_text())


def _text(document: dict[str, Any], what: str) -> str:
    head = f"# {what}\n# Written by deploy/render.py from deploy/queues.yaml and deploy/job/: change those.\n"
    return head + str(yaml.safe_dump(document, sort_keys=False, width=110))


def main(argv: Sequence[str]) -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description="Write the Harvester job templates.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is out of date")
    check = parser.parse_args(argv).check
    files = render()
    old = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in old:
        print(f"{'out of date' if check else 'written'}: {path.relative_to(HERE.parent)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
