"""An API server on loopback, over TLS, with one node: as much of core/v1 as
pods need, checked and failed on demand.

What it insists on: the token; the rights of a Role (by default the one that is
deployed, and no more); manifests that the published schema allows; labels and
requests that a real server would take. `calls` keeps `verb resource name` of
each request in order. `fail` makes requests fail:

=========  ===================================================================
a number   that HTTP status, with a Status object
gone       410 inside a watch, as for a version that is no longer kept
hang       no answer, until the server is closed
reset      the connection is torn before the request is carried out
lost       the request is carried out, and the connection torn before the answer
cut        a stream is torn after its first piece
=========  ===================================================================
"""

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.fakes.kube_http import NAMESPACE, TOKEN, Refusal, make_server
from tests.fakes.kubelet import RunningPod, rfc3339
from tests.fakes.pki import Pki

__all__ = ["HOME", "KubeApi", "Refusal", "deployed_role"]

ROOT = Path(__file__).resolve().parents[2]
#: The pilot's own pod.
HOME = "grid-job-77-abcde"
NODE = "gke-node-1"
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

Json = dict[str, Any]


def deployed_role() -> set[tuple[str, str]]:
    """(resource, verb) of the Role in `deploy/`."""
    rights = set()
    for document in yaml.safe_load_all((ROOT / "deploy/cluster/payload-pods.yaml").read_text()):
        if document["kind"] == "Role":
            rights |= {
                (what, verb) for r in document["rules"] for what in r["resources"] for verb in r["verbs"]
            }
    return rights


class KubeApi:
    """The server, its one node, and the pilot's pod on it.

    Parameters
    ----------
    folder
        For the service account's files and the node's cgroups.
    pki
        Certificate of the server.
    shared
        Folder of the node that the pilot's pod has as a volume.
    """

    def __init__(self, folder: Path, pki: Pki, *, shared: Path) -> None:
        self.account = folder / "account"
        self.account.mkdir()
        (self.account / "token").write_text(TOKEN)
        (self.account / "namespace").write_text(NAMESPACE)
        (self.account / "ca.crt").write_text(pki.ca.read_text())
        self.cgroup_root = folder / "cgroup"
        self.cgroup_root.mkdir()
        self.rights = deployed_role()
        self.calls: list[str] = []
        self.pods: dict[str, Json] = {}
        self.running: dict[str, RunningPod] = {}
        self.events: list[Json] = []
        #: Words of a scheduler that finds no node; empty for one that does.
        self.unschedulable = ""
        #: True for a kubelet that has lost its node: pods do not end.
        self.node_lost = False
        self._failing: list[tuple[str, str | int, int]] = []
        self._version = 100
        self._history: list[tuple[int, str, Json]] = []
        self._changed = threading.Condition()
        self.closing = threading.Event()
        self._server = make_server(self, pki)
        self.environment = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._server.server_address[1]),
        }
        self.shared = shared
        self._add_home()

    def __enter__(self) -> "KubeApi":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for one in list(self.running.values()):
            one.kill()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, call: str, how: str | int, times: int = 1) -> None:
        """Let the next calls that begin with `call` fail: `get pods panda-1`."""
        self._failing += [(call, how, times)]

    def failing(self, call: str) -> str | int:
        """How this call is to fail; empty if it is not."""
        for i, (prefix, how, times) in enumerate(self._failing):
            if call.startswith(prefix):
                self._failing[i : i + 1] = [(prefix, how, times - 1)] if times > 1 else []
                return how
        return ""

    def payloads(self) -> list[Json]:
        """Pods that are not the pilot's."""
        return [pod for name, pod in list(self.pods.items()) if name != HOME]

    def _add_home(self) -> None:
        mount = {"name": "panda", "mountPath": str(self.shared)}
        self._store(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": HOME, "namespace": NAMESPACE, "uid": str(uuid.uuid4())},
                "spec": {
                    "nodeName": NODE,
                    "containers": [{"name": "pilot", "image": "pilot", "volumeMounts": [mount]}],
                    "volumes": [{"name": "panda", "hostPath": {"path": str(self.shared)}}],
                    "imagePullSecrets": [{"name": "registry"}],
                    "tolerations": [{"key": "cloud.google.com/gke-spot", "operator": "Exists"}],
                },
                "status": {"phase": "Running"},
            },
            "ADDED",
        )

    # --- the store ----------------------------------------------------------

    def _store(self, pod: Json, kind: str) -> None:
        with self._changed:
            self._version += 1
            pod["metadata"]["resourceVersion"] = str(self._version)
            if kind == "DELETED":
                self.pods.pop(pod["metadata"]["name"], None)
            else:
                self.pods[pod["metadata"]["name"]] = pod
            self._history.append((self._version, kind, json.loads(json.dumps(pod))))
            self._changed.notify_all()

    def pod(self, name: str) -> Json:
        """A pod; Refusal if there is none."""
        if name not in self.pods:
            raise Refusal(404, f'pods "{name}" not found')
        return self.pods[name]

    def create(self, pod: Json, *, dry_run: bool) -> Json:
        """POST of a pod."""
        self._check(pod)
        name = pod["metadata"]["name"]
        if name in self.pods:
            raise Refusal(409, f'pods "{name}" already exists')
        about = {
            "namespace": NAMESPACE,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": rfc3339(time.time_ns()),
        }
        pod = {**pod, "metadata": {**pod["metadata"], **about}, "status": {"phase": "Pending"}}
        if dry_run:
            return pod
        self._store(pod, "ADDED")
        if self.unschedulable:
            why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            self._update(name, {"phase": "Pending", "conditions": [{**why, "message": self.unschedulable}]})
            return pod
        self._event(name, "Scheduled", f"Successfully assigned {NAMESPACE}/{name} to {NODE}")
        self.running[name] = RunningPod(
            pod,
            update=lambda status: self._update(name, status),
            ended=lambda: self._ended(name),
            cgroup_root=self.cgroup_root,
        )
        return pod

    def _check(self, pod: Json) -> None:
        try:
            kubernetes_validate.validate(pod, "1.33", strict=True)
        except kubernetes_validate.ValidationError as err:
            raise Refusal(422, f"Pod is invalid: {err}") from err
        bad = [v for v in pod["metadata"].get("labels", {}).values() if not _LABEL.fullmatch(v)]
        if bad:
            raise Refusal(422, f"metadata.labels: Invalid value: {bad[0]!r}")

    def _event(self, name: str, reason: str, message: str) -> None:
        self.events.append({"involvedObject": {"name": name}, "reason": reason, "message": message})

    def _update(self, name: str, status: Json) -> None:
        pod = self.pods.get(name)
        if pod is not None and not self.node_lost:
            self._store({**pod, "status": status}, "MODIFIED")

    def _ended(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is not None and pod["metadata"].get("deletionTimestamp") and not self.node_lost:
            self._remove(pod)

    def delete(self, name: str, *, grace_s: float = 30, uid: str = "") -> Json:
        """DELETE of a pod; also what anybody else may do."""
        pod = self.pod(name)
        if uid and pod["metadata"]["uid"] != uid:
            raise Refusal(409, "the UID in the precondition does not match")
        one = self.running.get(name)
        terminal = pod["status"]["phase"] in ("Succeeded", "Failed")
        if grace_s == 0 or terminal or one is None:
            if one is not None:
                one.kill()
            self._remove(pod)
            return pod
        about = {**pod["metadata"], "deletionTimestamp": "now", "deletionGracePeriodSeconds": grace_s}
        self._store({**pod, "metadata": about}, "MODIFIED")
        one.stop(grace_s)
        return self.pods.get(name, pod)

    def _remove(self, pod: Json) -> None:
        self._store(pod, "DELETED")
        uid = pod["metadata"]["uid"]
        for other in list(self.pods.values()):
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences", ())):
                # The garbage collector.
                self.delete(other["metadata"]["name"])

    def update_home(self, **status: str) -> None:
        """A new status of the pilot's pod."""
        self._update(HOME, status)

    # --- streams ------------------------------------------------------------

    def changes(self, name: str, version: int, until: float) -> Iterator[bytes]:
        """Events of a watch."""
        while time.monotonic() < until and not self.closing.is_set():
            with self._changed:
                new = [
                    one for one in self._history if one[0] > version and one[2]["metadata"]["name"] == name
                ]
                if not new:
                    self._changed.wait(0.05)
            for number, kind, pod in new:
                version = number
                yield json.dumps({"type": kind, "object": pod}).encode() + b"\n"

    def log(self, name: str, *, since_s: int | None, follow: bool) -> Iterator[bytes]:
        """Lines of a log, those that are there at once."""
        self.pod(name)
        one = self.running.get(name)
        if one is None:
            raise Refusal(400, f'container "payload" in pod "{name}" is waiting to start')
        return self._lines(one, since_s, follow)

    def _lines(self, one: RunningPod, since_s: int | None, follow: bool) -> Iterator[bytes]:
        first = "" if since_s is None else rfc3339(time.time_ns() - since_s * 10**9)
        at = 0
        while not self.closing.is_set():
            with one.changed:
                new = one.lines[at:]
                over = one.over
                if not new and follow and not over:
                    one.changed.wait(0.05)
            at += len(new)
            if lines := [line for line in new if line.decode("latin-1") >= first]:
                yield b"".join(lines)
            if not new and (over or not follow):
                return
