"""One pod: its state watched, its log written as it comes, stopped for good."""

import json
import logging
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from container.contract import KILL_S, QUICK_S
from container.errors import EngineError, EngineUnavailable, Refused
from container.kube_api import Cluster, Stream
from container.kube_log import LogLines
from container.kube_manifest import CONTAINER
from container.kube_meter import KubeMeter
from container.kube_status import PodState, gone, state_of
from container.output import OutputFile
from container.spec import ContainerExit, Stats
from container.stopping import Stopping
from pilot_core.base.clock import Clock
from pilot_core.base.scope import Scope

__all__ = ["KubeContainer", "remove_pod"]

log = logging.getLogger(__name__)

# Seconds between two attempts, and at most, if they go on failing.
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
# Seconds until the log of an ended container has to end, and to get its last
# lines by another connection if it does not.
_EOF_S = 2.0
_DRAIN_S = 20.0
# Seconds after the kill when the kubelet is no longer waited for.
_FORCE_S = 3.0
_LOOK_S = 0.1


class KubeContainer:
    """Built by `KubeEngine.start`, which has created the pod.

    The thread `kube-state` sees its end, `kube-log` writes what it prints.
    stdout and stderr come as one stream and are written to the file of stdout.
    """

    #: No number of ours: the pod has a pid namespace of its own.
    pid = 0

    def __init__(
        self,
        cluster: Cluster,
        pod: Mapping[str, Any],
        *,
        stdout: Path,
        stderr: Path,
        cgroup_root: Path,
        lost_s: float,
        clock: Clock,
    ) -> None:
        self.id = str(pod["metadata"]["name"])
        self._uid = str(pod["metadata"]["uid"])
        self._cluster = cluster
        self._clock = clock
        self._lost_s = lost_s
        self._meter = KubeMeter(cluster, self.id, self._uid, root=cgroup_root)
        # Made all the same: whoever collects logs looks for both.
        OutputFile(stderr).close()
        self._file = OutputFile(stdout)
        self._lines = LogLines(self._file.write)
        self._streams: dict[str, Stream] = {}
        self.state = state_of(pod)
        #: Set at each change of `state`; the one who waits clears it.
        self.changed = threading.Event()
        self._begun = threading.Event()
        self._over = threading.Event()
        self._drained = threading.Event()
        self._ended = threading.Event()
        self._end: ContainerExit | None = None
        self._silent_since: float | None = None
        self._grace_s = 0.0
        self._killed_at: float | None = None
        self._forced = False
        self._stopping = Stopping(self.id, ask=self._ask, over=self._is_over, kill=self._kill, clock=clock)
        self._scope = Scope("kube", join_s=KILL_S, on_death=self._thread_died, clock=clock)
        try:
            self._scope.spawn("state", self._see_it_end)
            self._scope.spawn("log", self._follow)
        except OSError:
            self._let_go("has nobody to follow it")
            self._file.close()
            raise

    # --- the contract -------------------------------------------------------

    def wait(self, timeout_s: float) -> ContainerExit | None:
        return self._end if self._is_over(timeout_s) else None

    def stats(self) -> Stats:
        return Stats() if self._ended.is_set() else self._meter.stats()

    def processes(self) -> str:
        # `pods/exec` would be needed, which lets its owner do anything there.
        raise EngineError(f"pod {self.id}: the pilot may not look into it")

    def backtrace(self, pid: int | None) -> str:
        del pid
        return self.processes()

    def stop(self, grace_s: float) -> ContainerExit:
        self._grace_s = grace_s
        self._stopping.run(grace_s)
        return self._end or gone(f"pod {self.id}: no end seen {KILL_S:g} s after the kill")

    def remove(self) -> None:
        try:
            remove_pod(self._cluster, self.id, self._uid, self._clock)
            self._is_over(KILL_S)
        finally:
            self._let_go("was removed before its end was seen")

    def _let_go(self, why: str) -> None:
        """Follow it no longer."""
        self._scope.stopping.set()
        self._finish(gone(f"pod {self.id} {why}"))
        for stream in list(self._streams.values()):
            stream.shutdown()
        self._scope.stop()

    # --- stopping -----------------------------------------------------------

    def _is_over(self, timeout_s: float) -> bool:
        return self._clock.wait(self._ended, timeout_s)

    def _ask(self) -> None:
        self._delete(max(1, math.ceil(self._grace_s)), within_s=min(QUICK_S, max(0.2, self._grace_s)))

    def _kill(self) -> None:
        """First within a second, which the kubelet confirms; by force, which
        nobody confirms, only if it does not.

        A grace of 0 would delete the pod from the server's memory while it
        runs. The kubelet asks and waits some two seconds, whatever it is told.
        """
        now = self._clock.monotonic()
        if self._killed_at is None:
            self._killed_at = now
            self._delete(1)
        elif now - self._killed_at >= _FORCE_S and not self._forced:
            self._forced = True
            log.warning("pod %s: the kubelet does not confirm its end; deleted by force", self.id)
            self._delete(0)

    def _delete(self, grace_s: int, *, within_s: float = QUICK_S) -> None:
        try:
            self._cluster.delete(self.id, self._uid, grace_s=grace_s, within_s=within_s)
        except EngineError as err:
            log.warning("%s", err)

    # --- its state ----------------------------------------------------------

    def _see_it_end(self) -> None:
        """Thread body: look, then watch from there, until its end is seen."""
        pause_s = 0.0
        while not self.state.over and not self._clock.wait(self._scope.stopping, pause_s):
            begun = self._clock.monotonic()
            try:
                pod = self._cluster.pod(self.id)
                self._silent_since = None
                self._note(pod)
                if not self.state.over:
                    self._watch(str(pod["metadata"]["resourceVersion"]))
            except EngineError as err:
                self._away(err)
            quick = self._clock.monotonic() - begun < _LONGEST_PAUSE_S
            pause_s = min(_LONGEST_PAUSE_S, max(_PAUSE_S, pause_s * 2)) if quick else 0.0
        self._settle()

    def _watch(self, version: str) -> None:
        """Note each change; returns when the watch ends or breaks, or at the
        end of the pod.
        """
        try:
            with self._open("state", self._cluster.watch(self.id, version)) as stream:
                for line in stream.lines():
                    if not self._take(json.loads(line)):
                        return
        except (EngineUnavailable, ValueError) as err:
            log.debug("%s", err)

    def _take(self, event: Mapping[str, Any]) -> bool:
        """One event of a watch; False if there is no point in reading on."""
        kind, pod = event.get("type"), event.get("object") or {}
        # ERROR carries a Status, such as 410 for a version that the server no
        # longer has: looking anew helps.
        if kind == "ERROR" or pod.get("metadata", {}).get("uid") != self._uid:
            return False
        self._note(pod)
        if kind == "DELETED":
            self._gone("was deleted and is gone")
        return not self.state.over

    def _open(self, name: str, stream: Stream) -> Stream:
        self._streams[name] = stream
        if self._scope.stopping.is_set():
            stream.shutdown()
        return stream

    def _note(self, pod: Mapping[str, Any]) -> None:
        if not pod.get("status"):
            return
        self.state = state_of(pod)
        if self.state.container_id:
            self._meter.found(self.state.container_id)
        if self.state.running or self.state.end:
            self._begun.set()
        self.changed.set()

    def _gone(self, why: str) -> None:
        if not self.state.over:
            self.state = PodState(end=gone(f"pod {self.id} {why}"))
            self.changed.set()

    def _away(self, err: EngineError) -> None:
        if isinstance(err, Refused) and err.missing:
            self._gone("was deleted by somebody else")
            return
        now = self._clock.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            log.warning("%s", err)
        if now - self._silent_since >= self._lost_s:
            self._gone(f"is not heard of: {err}")

    def _settle(self) -> None:
        """The end is known: have the last lines, then say so."""
        self._over.set()
        self._begun.set()
        if not self._clock.wait(self._drained, _EOF_S):
            # The connection hangs: the last lines come by another.
            if stream := self._streams.get("log"):
                stream.shutdown()
            if not self._clock.wait(self._drained, _DRAIN_S):
                log.warning("pod %s: its last lines did not come", self.id)
        end = self.state.end or gone(str(self.state.refused or "not seen"))
        self._finish(self._meter.add_to(end))

    def _finish(self, end: ContainerExit) -> None:
        if self._end is None:
            self._end = end
            for event in (self._begun, self._over, self._ended, self.changed):
                event.set()

    def _thread_died(self, name: str, error: BaseException) -> None:
        self._finish(gone(f"{name}: {type(error).__name__}: {error}"))

    # --- its log ------------------------------------------------------------

    def _follow(self) -> None:
        """Thread body: write the log as it comes; after the end, what is left."""
        pause_s = _PAUSE_S
        try:
            while not self._clock.wait(self._begun, _LONGEST_PAUSE_S):
                pass
            while not self._ended.is_set():
                # Known before it is asked for: what comes then is all.
                over = self._over.is_set()
                place = self._lines.place
                if self._read(follow=not over) and over:
                    return
                pause_s = _PAUSE_S if self._lines.place != place else min(_LONGEST_PAUSE_S, pause_s * 2)
                self._clock.wait(self._ended if over else self._over, _PAUSE_S if over else pause_s)
        finally:
            self._file.close()
            self._drained.set()

    def _read(self, *, follow: bool) -> bool:
        """One connection to the log; True if it came to its end."""
        since_s = self._lines.since_s(self._clock.time())
        self._lines.begin()
        try:
            with self._open(
                "log", self._cluster.log(self.id, CONTAINER, since_s=since_s, follow=follow)
            ) as stream:
                while piece := stream.read():
                    self._lines.feed(piece)
                    self._meter.look()
        except Refused as err:
            # 404 is no news: the pod is deleted, and its last lines with it.
            log.log(logging.DEBUG if err.missing else logging.WARNING, "%s", err)
            return err.status < 500 and err.status != 429
        except EngineUnavailable as err:
            log.debug("%s", err)
        else:
            return True
        return False


def remove_pod(cluster: Cluster, name: str, uid: str, clock: Clock) -> None:
    """Delete a pod and wait until it is gone; by force, if the kubelet does
    not confirm its end. Harmless if it is gone.

    Raises
    ------
    EngineError
        If the server refuses or does not answer.
    """
    never = threading.Event()
    begun = clock.monotonic()
    cluster.delete(name, uid, grace_s=1)
    while clock.monotonic() - begun < _FORCE_S:
        if _is_gone(cluster, name, uid):
            return
        clock.wait(never, _LOOK_S)
    cluster.delete(name, uid, grace_s=0)


def _is_gone(cluster: Cluster, name: str, uid: str) -> bool:
    try:
        return str(cluster.pod(name)["metadata"]["uid"]) != uid
    except Refused as err:
        if err.missing:
            return True
        raise
