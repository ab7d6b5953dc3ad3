"""A pod's status in the words of a payload."""

from typing import Any

import pytest

from container.errors import EngineError, ImageError, ImageNotFound, StartError
from container.kube_status import state_of


def pod(phase: str, state: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase, **more}
    if state is not None:
        status["containerStatuses"] = [{"containerID": "containerd://abc", "state": state}]
    return {"status": status}


def ended(code: int, reason: str = "Error", message: str = "", **more: object) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return pod("Failed" if code else "Succeeded", state, **more)


def condition(kind: str, status: str, reason: str, message: str) -> list[dict[str, str]]:
    return [{"type": kind, "status": status, "reason": reason, "message": message}]


def test_it_runs() -> None:
    state = state_of(pod("Running", {"running": {"startedAt": "now"}}))
    assert (state.running, state.over, state.container_id) == (True, False, "abc")


@pytest.mark.parametrize(
    ("seen", "code", "memory", "lost"),
    [
        (ended(0, "Completed"), 0, False, ""),
        (ended(3), 3, False, ""),
        (ended(255), 255, False, ""),
        (ended(137, "OOMKilled"), 137, True, ""),
        # A part of it was killed, and the rest went on (cgroup v1).
        (ended(0, "OOMKilled"), 0, True, ""),
        (ended(137, "ContainerStatusUnknown", "gone"), 137, False, "pod ContainerStatusUnknown: gone"),
        (pod("Failed", reason="Evicted", message="low on disk"), 137, False, "pod Evicted: low on disk"),
        (pod("Failed", reason="OutOfmemory", message="m"), 137, False, "pod OutOfmemory: m"),
        (pod("Failed"), 137, False, "pod Failed"),
    ],
)
def test_ends(seen: dict[str, Any], code: int, memory: bool, lost: str) -> None:
    end = state_of(seen).end
    assert end is not None
    assert (end.code, end.out_of_memory, end.lost) == (code, memory, lost)


@pytest.mark.parametrize("reason", ["Evicted", "DeadlineExceeded", "Terminated", "Preempting"])
def test_whoever_ended_it_is_named_unless_it_had_ended_well(reason: str) -> None:
    seen = ended(137)
    seen["status"] |= {"reason": reason, "message": "words"}
    end = state_of(seen).end
    assert end is not None
    assert end.lost == f"pod {reason}: words"
    fine = ended(0, "Completed")
    fine["status"] |= {"reason": reason}
    end = state_of(fine).end
    assert end is not None
    assert (end.code, end.lost) == (0, "")


def test_preempted_by_the_scheduler() -> None:
    seen = ended(
        143, conditions=condition("DisruptionTarget", "True", "PreemptionByScheduler", "a better pod")
    )
    end = state_of(seen).end
    assert end is not None
    assert end.lost == "pod PreemptionByScheduler: a better pod"


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("ErrImagePull", 'failed to pull "x": not found', ImageNotFound),
        ("ErrImagePull", "pull access denied, repository does not exist", ImageNotFound),
        ("InvalidImageName", "couldn't parse image", ImageError),
        ("ErrImageNeverPull", "not present", ImageError),
        ("CreateContainerConfigError", 'secret "x" not found', StartError),
        ("RunContainerError", "m", StartError),
    ],
)
def test_what_will_never_run(reason: str, message: str, kind: type[EngineError]) -> None:
    state = state_of(pod("Pending", {"waiting": {"reason": reason, "message": message}}))
    assert type(state.refused) is kind
    assert str(state.refused) == f"{reason}: {message}"


def test_what_may_yet_run() -> None:
    assert not state_of(pod("Pending", {"waiting": {"reason": "ContainerCreating"}})).over
    assert not state_of(pod("Pending")).over
    again = state_of(pod("Pending", {"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}}))
    assert (again.over, again.pull_failed) == (False, "ErrImagePull: i/o timeout")
    digest = {"reason": "ErrImagePull", "message": "dial tcp: lookup reg.io: no answer (sha256:40364a)"}
    assert state_of(pod("Pending", {"waiting": digest})).pull_failed
    full = condition("PodScheduled", "False", "Unschedulable", "0/3 nodes")
    assert state_of(pod("Pending", conditions=full)).unplaced == "Unschedulable: 0/3 nodes"
    assert state_of(pod("Pending", {"waiting": {"reason": "SomethingNew"}})).over is False


def test_a_command_that_is_not_there() -> None:
    state = state_of(ended(128, "StartError", 'exec: "/no": no such file'))
    assert isinstance(state.refused, StartError)
    assert "no such file" in str(state.refused)
