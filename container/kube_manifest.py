"""PURE: a `ContainerSpec` as a pod beside the pilot's own.

The pod belongs to the pilot's (ownerReference), has no token, no privilege
and no network of the node, and mounts of the pilot's volumes what the spec
names: its own folder. A folder of the node binds it to the pilot's node.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from container.errors import EngineError
from container.labels import NAME_LABEL, to_text
from container.spec import ContainerSpec, Mount

__all__ = [
    "CONTAINER",
    "LABELS_ANNOTATION",
    "MARK_ANNOTATION",
    "NODE_LABEL",
    "POD_LABEL",
    "UID_LABEL",
    "Home",
    "home_of",
    "pod_manifest",
    "pod_name",
    "selector",
]

#: The payload's container in its pod.
CONTAINER = "payload"
#: Annotation with all labels, as lines: not every value may be a label.
LABELS_ANNOTATION = "container/labels"
#: Labels with the node and the pod of the pilot that a payload belongs to.
NODE_LABEL, POD_LABEL, UID_LABEL = "container.node", "container.pod", "container.pod-uid"
#: Annotation that no other start has.
MARK_ANNOTATION = "container/start"

# What the API server takes for a label (apimachinery validation).
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")

# Beside a pilot on its node, whose request holds cores and memory for both:
# more would count them twice, and none would mean as much as the limit.
_BESIDE = {"cpu": "10m", "memory": "16Mi"}


@dataclass(frozen=True, slots=True)
class Home:
    """The pilot's own pod, as far as its payloads need it."""

    name: str
    uid: str
    namespace: str
    node: str
    tolerations: Sequence[Mapping[str, Any]] = ()
    pull_secrets: Sequence[Mapping[str, Any]] = ()
    priority_class: str = ""
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()

    @property
    def labels(self) -> dict[str, str]:
        """Whose a payload is."""
        return {NODE_LABEL: self.node, POD_LABEL: self.name, UID_LABEL: self.uid}


def home_of(pod: Mapping[str, Any]) -> Home:
    """The facts of the pilot's pod."""
    about, spec = pod["metadata"], pod["spec"]
    return Home(
        name=about["name"],
        uid=about["uid"],
        namespace=about["namespace"],
        node=spec.get("nodeName") or "",
        tolerations=spec.get("tolerations") or (),
        pull_secrets=spec.get("imagePullSecrets") or (),
        priority_class=spec.get("priorityClassName") or "",
        volumes=spec.get("volumes") or (),
        mounts=[mount for one in spec["containers"] for mount in one.get("volumeMounts") or ()],
    )


def pod_name(name: str, home: Home) -> str:
    """A pod's name for a payload's.

    Names are unique in a namespace, and two pilots there may hold the same job
    at a time (the second after the server gave up on the first).
    """
    word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].rstrip("-") or CONTAINER
    return f"{word}-{home.uid.replace('-', '')[:8]}"


def selector(labels: Mapping[str, str]) -> str:
    """The part of `labels` that the API server can look for."""
    return ",".join(f"{key}={value}" for key, value in _labels(labels).items())


def pod_manifest(spec: ContainerSpec, home: Home, *, mark: str, deadline_s: int) -> dict[str, Any]:
    """The pod to create.

    Parameters
    ----------
    mark
        Unlike that of any other start: tells the pod of a request whose answer
        was lost from somebody else's.
    deadline_s
        The kubelet ends it after so many seconds, if nobody else does.

    Raises
    ------
    EngineError
        If the pilot's pod has nothing that could be mounted for a folder, or
        the user is not a number.
    """
    volumes, mounts = _volumes(spec.mounts, home)
    labels = {**spec.labels, NAME_LABEL: spec.name, **home.labels}
    pinned = any("hostPath" in volume for volume in volumes)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": deadline_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The pause container as process 1 for all: signals get their default
        # action, and orphans are reaped, as with a small init.
        "shareProcessNamespace": spec.init,
        "containers": [_container(spec, mounts, pinned=pinned)],
        "volumes": volumes,
        "tolerations": list(home.tolerations),
    }
    if home.pull_secrets:
        pod["imagePullSecrets"] = list(home.pull_secrets)
    if home.priority_class:
        pod["priorityClassName"] = home.priority_class
    if pinned:
        pod["affinity"] = {"nodeAffinity": _on_node(home.node)}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": home.name, "uid": home.uid}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(spec.name, home),
            "labels": _labels(labels),
            "annotations": {LABELS_ANNOTATION: to_text(labels), MARK_ANNOTATION: mark},
            "ownerReferences": [owner],
        },
        "spec": pod,
    }


def _container(spec: ContainerSpec, mounts: list[dict[str, Any]], *, pinned: bool) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        # `args`, not `command`: the image's own entry point stays.
        "args": [_literal(word) for word in spec.argv],
        "workingDir": spec.workdir,
        "env": [
            {"name": name, "value": _literal(value)}
            for name, value in spec.environment.items()
            if _VARIABLE.fullmatch(name)
        ],
        "resources": _resources(spec, pinned=pinned),
        "volumeMounts": mounts,
        "securityContext": _security(spec.user),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _literal(text: str) -> str:
    """Text that Kubernetes passes on as it is: it expands `$(NAME)`, and turns
    `$$` into `$`.
    """
    return text.replace("$", "$$")


def _resources(spec: ContainerSpec, *, pinned: bool) -> dict[str, Any]:
    limits: dict[str, str] = {}
    if spec.cpus:
        limits["cpu"] = f"{round(spec.cpus * 1000)}m"
    if spec.memory_bytes:
        limits["memory"] = str(spec.memory_bytes)
    return {"limits": limits, "requests": dict(_BESIDE) if pinned else limits}


def _security(user: str) -> dict[str, Any]:
    context: dict[str, Any] = {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    uid, _, gid = user.partition(":")
    for key, number in (("runAsUser", uid), ("runAsGroup", gid)):
        if number and not number.isdigit():
            raise EngineError(f"user {user!r}: Kubernetes knows users by number only")
        if number:
            context[key] = int(number)
    return context


def _on_node(node: str) -> dict[str, Any]:
    """Through the scheduler, which waits for room; `nodeName` would go past it
    and fail where the last payload is not quite gone.
    """
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": terms}


def _volumes(wanted: Sequence[Mount], home: Home) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pilot's volumes that hold the wanted folders, and where to mount
    what part of them.
    """
    volumes: dict[str, dict[str, Any]] = {}
    mounts = []
    for one in wanted:
        mount = _mount_of(one.source, home)
        volume = next(dict(v) for v in home.volumes if v["name"] == mount["name"])
        kinds = [kind for kind in ("hostPath", "persistentVolumeClaim") if kind in volume]
        if not kinds or "subPathExpr" in mount:
            raise EngineError(
                f"{one.source} is in volume {mount['name']} of pod {home.name}, which no other pod can "
                "mount: it has to be a hostPath or a persistentVolumeClaim"
            )
        volumes[volume["name"]] = volume
        inside = one.source[len(mount["mountPath"].rstrip("/")) :].strip("/")
        parts = (mount.get("subPath") or "", inside)
        mounts.append(
            {
                "name": volume["name"],
                "mountPath": one.target,
                "subPath": "/".join(part.strip("/") for part in parts if part),
                "readOnly": one.read_only,
            }
        )
    return list(volumes.values()), mounts


def _mount_of(path: str, home: Home) -> Mapping[str, Any]:
    """The mount of the pilot's pod that holds a path; the deepest counts."""

    def holds(mount: Mapping[str, Any]) -> bool:
        place = mount["mountPath"].rstrip("/")
        return path == place or path.startswith(place + "/")

    found = max(filter(holds, home.mounts), key=lambda mount: len(mount["mountPath"]), default=None)
    if found is None:
        raise EngineError(f"{path} is on no volume of pod {home.name}: no other pod can see it")
    return found


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in labels.items()
        if _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)
    }
