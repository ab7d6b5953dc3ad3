"""Payloads as pods beside the pilot's own, through the API server.

Needs no privilege on the node: a service account that may create, see and
delete pods in its namespace. The payload has limits of its own, so the pilot
survives a payload that uses all of them; its pod belongs to the pilot's pod
and goes with it.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from container.cgroup import CGROUP
from container.contract import Leftover
from container.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    ImageError,
    Refused,
    StartError,
)
from container.kube_api import Cluster
from container.kube_container import KubeContainer, remove_pod
from container.kube_manifest import (
    LABELS_ANNOTATION,
    NODE_LABEL,
    POD_LABEL,
    UID_LABEL,
    Home,
    home_of,
    pod_manifest,
    selector,
)
from container.kube_start import Patience, Pull, create_pod
from container.labels import NAME_LABEL, carries, from_text
from container.spec import ContainerSpec, Mount, PullProgress
from pilot_core.base.clock import Clock

__all__ = ["KubeEngine"]

log = logging.getLogger(__name__)

# What a start may fail with, besides StartError.
_KEPT = (ImageError, Cancelled, EngineUnavailable)


class KubeEngine:
    """Runs payloads as pods.

    The kubelet pulls an image when a pod needs it, and no earlier: time limit,
    progress and `cancelled` of `ensure_image` are kept for the `start` that
    follows, which raises `ImageError` and `Cancelled` in its place.

    Parameters
    ----------
    cluster
        The API server and our namespace.
    pod
        Name of the pilot's own pod.
    clock
        Source of time.
    cgroup_root
        Where the node's cgroups can be seen, if anywhere.
    start_s
        Seconds for the server to take the pod, and for the kubelet to start a
        container whose image is there.
    place_s
        Seconds to wait for a node with room.
    lost_s
        Seconds the server may be away until a payload counts as lost. Long:
        the server of a small cluster is away for minutes while it is upgraded,
        and pods run on.
    deadline_s
        The kubelet ends a payload after so many seconds, if nobody else does.
    """

    name = "kubernetes"

    def __init__(
        self,
        cluster: Cluster,
        *,
        pod: str,
        clock: Clock,
        cgroup_root: Path = CGROUP,
        start_s: float = 120.0,
        place_s: float = 600.0,
        lost_s: float = 1_800.0,
        deadline_s: int = 345_600,
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._clock = clock
        self._cgroup_root = cgroup_root
        self._start_s = start_s
        self._place_s = place_s
        self._lost_s = lost_s
        self._deadline_s = deadline_s
        self._home: Home | None = None
        self._pull = Pull()

    def check(self) -> str:
        version = self._cluster.version()
        home = self._find_home()
        return (
            f"Kubernetes {version} at {self._cluster.url}, namespace {home.namespace}, "
            f"pod {home.name} on node {home.node}"
        )

    def try_folder(self, folder: str) -> None:
        """See whether the server would take a payload that mounts a folder.

        Raises
        ------
        EngineError
            Naming what is missing: a volume, a right, a policy.
        """
        spec = ContainerSpec(
            name="check",
            argv=("true",),
            workdir=folder,
            stdout=Path("/dev/null"),
            stderr=Path("/dev/null"),
            image="check",
            mounts=(Mount(folder, folder),),
        )
        self._cluster.create(self._manifest(spec, "check"), dry_run=True)

    def ensure_image(
        self,
        image: str,
        *,
        timeout_s: float,
        on_progress: Callable[[PullProgress], None],
        cancelled: threading.Event,
    ) -> None:
        if cancelled.is_set():
            raise Cancelled(f"pull of {image} was cancelled")
        self._pull = Pull(image, timeout_s, on_progress, cancelled)

    def start(self, spec: ContainerSpec) -> KubeContainer:
        pull = self._pull if self._pull.image == spec.image else Pull(spec.image)
        try:
            pod = create_pod(
                self._cluster,
                self._manifest(spec, uuid.uuid4().hex),
                cancelled=pull.cancelled,
                within_s=self._start_s,
                clock=self._clock,
            )
        except Cancelled:
            raise
        except (EngineError, ValueError) as err:
            raise StartError(f"{spec.name}: {err}") from err
        container: KubeContainer | None = None
        try:
            container = KubeContainer(
                self._cluster,
                pod,
                stdout=spec.stdout,
                stderr=spec.stderr,
                cgroup_root=self._cgroup_root,
                lost_s=self._lost_s,
                clock=self._clock,
            )
            patience = Patience(
                self._cluster,
                pod["metadata"]["name"],
                pull,
                place_s=self._place_s,
                start_s=self._start_s,
                clock=self._clock,
            )
            patience.wait_for(container)
        except (EngineError, OSError) as err:
            self._forget(pod, container)
            kind = type(err) if isinstance(err, _KEPT) else StartError
            raise kind(f"{spec.name}: {err}") from err
        return container

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        found = [_leftover(pod) for pod in self._cluster.pods(selector(labels))]
        return [one for one in found if carries(one.labels, labels)]

    def remove_leftover(self, leftover: Leftover) -> None:
        name, _, uid = leftover.id.partition("/")
        remove_pod(self._cluster, name, uid, self._clock)

    @property
    def here(self) -> dict[str, str]:
        """Labels of what pilots of this node started; empty before `check`.

        A namespace may hold thousands of payloads, and each pilot looks for
        leftovers when it starts.
        """
        return {NODE_LABEL: self._home.node} if self._home else {}

    def owner_gone(self, leftover: Leftover) -> bool:
        """True if the pilot's pod that a leftover belongs to is certainly
        gone, or has ended.

        The garbage collector removes what belongs to a pod that was deleted;
        one that has only ended may be kept for an hour, and its payload runs
        on.
        """
        name, uid = leftover.labels.get(POD_LABEL, ""), leftover.labels.get(UID_LABEL, "")
        if not name or not uid:
            return False
        try:
            pod = self._cluster.pod(name)
        except EngineError as err:
            return isinstance(err, Refused) and err.missing
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return ended or pod["metadata"]["uid"] != uid

    def close(self) -> None:
        self._cluster.close()

    # --- the start, step by step --------------------------------------------

    def _find_home(self) -> Home:
        if self._home is None:
            if not self._pod:
                raise EngineUnavailable("Kubernetes: the name of our own pod is not known (POD_NAME)")
            self._home = home_of(self._cluster.pod(self._pod))
        return self._home

    def _manifest(self, spec: ContainerSpec, mark: str) -> dict[str, Any]:
        return pod_manifest(spec, self._find_home(), mark=mark, deadline_s=self._deadline_s)

    def _forget(self, pod: Mapping[str, Any], container: KubeContainer | None) -> None:
        about = pod["metadata"]
        try:
            if container is not None:
                container.remove()
            else:
                remove_pod(self._cluster, about["name"], about["uid"], self._clock)
        except EngineError as err:
            log.error("pod %s may be left behind: %s", about["name"], err)


def _leftover(pod: Mapping[str, Any]) -> Leftover:
    about = pod["metadata"]
    labels = (
        from_text((about.get("annotations") or {}).get(LABELS_ANNOTATION, "")) or about.get("labels") or {}
    )
    return Leftover(
        id=f"{about['name']}/{about['uid']}",
        name=str(labels.get(NAME_LABEL, about["name"])),
        labels=dict(labels),
        running=(pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"),
    )
