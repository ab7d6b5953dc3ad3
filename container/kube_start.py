"""The start of a pod: created once, however often it is asked for, and waited
for as long as there is a point.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from container.errors import Cancelled, EngineError, EngineUnavailable, ImageError, Refused, StartError
from container.kube_api import Cluster
from container.kube_container import remove_pod
from container.kube_manifest import MARK_ANNOTATION
from container.kube_status import PodState
from container.spec import PullProgress
from pilot_core.base.clock import Clock

__all__ = ["Patience", "Pull", "create_pod"]

log = logging.getLogger(__name__)

# Seconds a pull may go on failing: a registry that hiccups is asked again by
# the kubelet after 10, 20, 40 s.
_PULL_FAILS_S = 90.0
_LOOK_S = 0.2
# Seconds between two questions for events, while a pod is being prepared.
_EVENTS_S = 5.0
_PAUSE_S = 0.5
# The server's passing troubles: a create that met one is tried again.
_PASSING = (429, 500, 502, 503, 504)

Json = dict[str, Any]


def _say_nothing(_: PullProgress) -> None:
    return


@dataclass(frozen=True, slots=True)
class Pull:
    """What `ensure_image` was asked; the pull itself is part of the start."""

    image: str = ""
    timeout_s: float = 1_800.0
    on_progress: Callable[[PullProgress], None] = _say_nothing
    cancelled: threading.Event = field(default_factory=threading.Event)


class Starting(Protocol):
    """The part of a `KubeContainer` that is waited for."""

    state: PodState
    changed: threading.Event


def create_pod(
    cluster: Cluster, manifest: Json, *, cancelled: threading.Event, within_s: float, clock: Clock
) -> Json:
    """Create a pod, once: a request whose answer was lost is recognised by its
    mark when it is made again.

    Raises
    ------
    StartError
        The server refuses, or does not answer within `within_s` seconds.
    Cancelled
    """
    end = clock.monotonic() + within_s
    name = manifest["metadata"]["name"]
    while True:
        problem: EngineError
        try:
            return cluster.create(manifest)
        except Refused as err:
            if err.status == 409:
                return _ours(cluster, manifest, err)
            if err.status not in _PASSING:
                raise StartError(str(err)) from err
            problem = err
        except EngineUnavailable as err:
            problem = err
        log.warning("%s", problem)
        if cancelled.is_set() or clock.monotonic() >= end:
            _forget(cluster, manifest, clock)
            if cancelled.is_set():
                raise Cancelled(f"{name}: cancelled while it was being created")
            raise StartError(str(problem)) from problem
        clock.wait(cancelled, _PAUSE_S)


def _mark(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(MARK_ANNOTATION, ""))


def _ours(cluster: Cluster, manifest: Json, refusal: Refused) -> Json:
    pod = cluster.pod(manifest["metadata"]["name"])
    if _mark(pod) != _mark(manifest):
        raise StartError(f"{refusal}: somebody else's") from refusal
    return pod


def _forget(cluster: Cluster, manifest: Json, clock: Clock) -> None:
    """Remove the pod if a request was carried out that nobody answered."""
    name = manifest["metadata"]["name"]
    try:
        pod = cluster.pod(name)
        if _mark(pod) == _mark(manifest):
            remove_pod(cluster, name, pod["metadata"]["uid"], clock)
    except EngineError as err:
        if not (isinstance(err, Refused) and err.missing):
            log.error("pod %s may be left behind: %s", name, err)


class Patience:
    """The wait for one pod to run.

    Parameters
    ----------
    pull
        How long the image may take, who hears of it, who may cancel it.
    place_s
        Seconds to wait for a node with room.
    start_s
        Seconds for everything that is no pull.
    """

    def __init__(
        self, cluster: Cluster, pod: str, pull: Pull, *, place_s: float, start_s: float, clock: Clock
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._pull = pull
        self._place_s = place_s
        self._start_s = start_s
        self._clock = clock
        self._begun = clock.monotonic()
        self._placed: float | None = None
        self._failing_since: float | None = None
        self._failure = ""
        self._told = ""
        self._ask_at = self._begun + _LOOK_S

    def wait_for(self, container: Starting) -> None:
        """Until it runs or has ended; raises for everything that keeps it from
        that.

        Raises
        ------
        StartError, ImageError, EngineUnavailable, Cancelled
        """
        while True:
            container.changed.clear()
            state = container.state
            if state.refused:
                raise state.refused
            if state.end and state.end.lost and not state.container_id:
                raise StartError(state.end.lost)
            if state.running or state.end:
                return
            self._look(state)
            self._clock.wait(container.changed, _LOOK_S)

    def _look(self, state: PodState) -> None:
        now = self._clock.monotonic()
        if self._pull.cancelled.is_set():
            raise Cancelled("cancelled while the pod was being prepared")
        if state.unplaced:
            self._tell(state.unplaced)
            if now - self._begun >= self._place_s:
                raise EngineUnavailable(f"no node within {self._place_s:g} s: {state.unplaced}")
            return
        self._placed = self._placed or now
        if state.pull_failed:
            self._see_failure(state.pull_failed, now)
        if now - self._placed >= self._pull.timeout_s + self._start_s:
            why = self._failure or self._event() or "nobody says why"
            raise StartError(f"not started within {now - self._begun:.0f} s: {why}")
        if now >= self._ask_at:
            self._ask_at = now + _EVENTS_S
            self._tell(self._event())

    def _see_failure(self, text: str, now: float) -> None:
        # The first words are the registry's; later ones only say that the
        # kubelet waits.
        self._failing_since = self._failing_since or now
        self._failure = self._failure or text
        self._tell(self._failure)
        if now - self._failing_since >= min(_PULL_FAILS_S, self._pull.timeout_s):
            raise ImageError(self._failure)

    def _tell(self, text: str) -> None:
        if text and text != self._told:
            self._told = text
            self._pull.on_progress(PullProgress(0, 0, 0, 0, text))

    def _event(self) -> str:
        """The latest that happened to the pod, in the kubelet's words."""
        try:
            events = self._cluster.events(self._pod)
        except EngineError as err:
            log.debug("%s", err)
            return ""
        return f"{events[-1].get('reason')}: {events[-1].get('message')}" if events else ""
