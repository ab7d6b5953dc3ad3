"""PURE: what the status of a pod with one container says.

Sources: Kubernetes API v1 (PodStatus, ContainerState), and the reasons that
kubelet and containerd 1.20 to 1.33 write; reasons are no part of the API's
promise, so one that is not known here means "wait", bounded by the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from container.errors import EngineError, ImageError, ImageNotFound, StartError, image_error, one_line
from container.spec import ContainerExit

__all__ = ["PodState", "gone", "state_of"]

Pod = Mapping[str, Any]

# Why a container waits for ever, or as good as: reason to error.
_REFUSED: Mapping[str, type[EngineError]] = {
    "InvalidImageName": ImageError,
    "ErrImageNeverPull": ImageError,
    "CreateContainerConfigError": StartError,
    "CreateContainerError": StartError,
    "RunContainerError": StartError,
}
# A pull that failed; the kubelet tries again, later and later.
_PULL_FAILED = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
# The runtime could not execute the command: containerd's and Docker's words.
_NOT_RUN = ("StartError", "ContainerCannotRun")
# The kubelet lost sight of the container.
_NOT_SEEN = ("ContainerStatusUnknown",)


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod in the words of a payload.

    Attributes
    ----------
    running
        Its process runs.
    container_id
        The runtime's id, without `containerd://`; empty before there is one.
    unplaced
        The scheduler finds no node for it, and says why.
    pull_failed
        The image could not be pulled so far; the registry's words if the
        kubelet passes them on.
    refused
        It will never run: what to raise.
    end
        It has ended.
    """

    running: bool = False
    container_id: str = ""
    unplaced: str = ""
    pull_failed: str = ""
    refused: EngineError | None = None
    end: ContainerExit | None = None

    @property
    def over(self) -> bool:
        """True if nothing of it runs, nor ever will."""
        return self.end is not None or self.refused is not None


def state_of(pod: Pod) -> PodState:
    """The state of a pod that has one container."""
    status = pod.get("status") or {}
    found = (status.get("containerStatuses") or [{}])[0]
    container_id = str(found.get("containerID") or "").rpartition("://")[2]
    state = found.get("state") or {}
    if ended := state.get("terminated"):
        return _ended(status, ended, container_id)
    if status.get("phase") in ("Failed", "Succeeded"):
        # Turned away by the kubelet, evicted before it ran, or its node is
        # gone: there is no word of the container.
        return PodState(end=gone(f"pod {_why(status) or status['phase']}"), container_id=container_id)
    if state.get("running"):
        return PodState(running=True, container_id=container_id)
    if waiting := state.get("waiting"):
        return _waiting(str(waiting.get("reason") or ""), str(waiting.get("message") or ""))
    return PodState(unplaced=_unplaced(status))


def gone(why: str) -> ContainerExit:
    """The end of a container that nobody saw end."""
    return ContainerExit(137, lost=why)


def _ended(status: Mapping[str, Any], ended: Mapping[str, Any], container_id: str) -> PodState:
    reason, message = str(ended.get("reason") or ""), one_line(str(ended.get("message") or ""))
    code = int(ended.get("exitCode") or 0) & 0xFF
    if reason in _NOT_RUN:
        return PodState(refused=StartError(message or reason))
    lost = ""
    if reason in _NOT_SEEN:
        lost = f"{reason}: {message}"
    elif code:
        # Ended by the kubelet, not by itself: the pod says so.
        lost = _why(status)
    end = ContainerExit(code, out_of_memory=reason == "OOMKilled", lost=f"pod {lost}" if lost else "")
    return PodState(end=end, container_id=container_id)


def _why(status: Mapping[str, Any]) -> str:
    """Why a pod was ended from outside: evicted, preempted, its deadline, its
    node shut down; empty if it was not.
    """
    disrupted = _condition(status, "DisruptionTarget", "True")
    if reason := status.get("reason"):
        return f"{reason}: {one_line(str(status.get('message') or ''))}".rstrip(": ")
    if disrupted:
        return f"{disrupted.get('reason')}: {one_line(str(disrupted.get('message') or ''))}".rstrip(": ")
    return ""


def _waiting(reason: str, message: str) -> PodState:
    text = f"{reason}: {one_line(message)}".rstrip(": ")
    if reason in _REFUSED:
        return PodState(refused=_REFUSED[reason](text))
    if reason in _PULL_FAILED:
        error = image_error(message, text)
        return PodState(refused=error) if isinstance(error, ImageNotFound) else PodState(pull_failed=text)
    return PodState()


def _unplaced(status: Mapping[str, Any]) -> str:
    found = _condition(status, "PodScheduled", "False")
    return f"{found.get('reason')}: {one_line(str(found.get('message') or ''))}".rstrip(": ") if found else ""


def _condition(status: Mapping[str, Any], kind: str, value: str) -> Mapping[str, Any]:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == value:
            found: Mapping[str, Any] = condition
            return found
    return {}
