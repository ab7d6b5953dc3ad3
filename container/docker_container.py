"""One container: its output read as it comes, its end seen, stopped for good."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from container.contract import KILL_S, QUICK_S
from container.docker_api import Daemon, Refused
from container.docker_stats import Meter
from container.errors import EngineError, EngineUnavailable
from container.look import docker_backtrace, docker_processes
from container.output import OutputFile
from container.spec import ContainerExit, Stats
from container.stopping import Stopping
from container.stream import Demultiplexer, Readable, ready
from pilot_core.base.clock import Clock
from pilot_core.base.scope import Scope

__all__ = ["LOST_AFTER_S", "DockerContainer", "attach", "events", "remove"]

log = logging.getLogger(__name__)

#: Seconds a daemon may be silent, or away for a restart, until its container
#: counts as lost.
LOST_AFTER_S = 60.0

# Seconds between two looks at CPU time and memory; also how soon the reader
# notices that it should stop.
_LOOK_S = 0.2
# Seconds between two attempts to reach a daemon that does not answer.
_PAUSE_S = 0.5
_CHUNK = 256 * 1024
# Exit codes after SIGKILL and SIGTERM, and what a daemon that comes back says
# of a container whose end it has not seen.
_KILLED = (137, 143, 255)


class _Attached:
    """The SDK's attach socket, and the HTTP response that must be closed with
    it.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._response = getattr(socket, "_response", None)

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def read(self, size: int) -> bytes | None:
        data: bytes | None = self._socket.read(size)
        return data

    def close(self) -> None:
        # The response owns the socket and closes it with itself; the other way
        # round it finds its file closed and raises.
        owner = self._socket if self._response is None else self._response
        owner.close()


def attach(daemon: Daemon, container_id: str) -> Readable:
    """The output of a container as one stream of frames.

    Done before the start: nothing can be printed before we listen, and nothing
    can hide in the buffer of the HTTP response, which is by-passed.
    """
    return daemon.call("attach", lambda api: _Attached(api.attach_socket(container_id)))


class DockerContainer:
    """Built by `DockerEngine.start`, which has created, attached and started
    it.

    The `docker-<name>` thread reads the output until the daemon closes the
    stream, which it does when the container has ended and all is sent.
    """

    def __init__(
        self,
        daemon: Daemon,
        name: str,
        description: Mapping[str, Any],
        *,
        stream: Readable,
        stdout: Path,
        stderr: Path,
        clock: Clock,
    ) -> None:
        self.id = str(description["Id"])
        self.pid = int(description["State"].get("Pid") or 0)
        self._name = name
        self._signal = description["Config"].get("StopSignal") or "SIGTERM"
        self._daemon = daemon
        self._clock = clock
        self._meter = Meter(daemon, self.id, self.pid)
        self._stream: Readable | None = stream
        self._files = OutputFile(stdout), OutputFile(stderr)
        self._frames = Demultiplexer(*self._files)
        self._silent_since: float | None = None
        self._away = ""
        self._born = clock.time()
        self._asked = False
        self._end: ContainerExit | None = None
        self._ended = threading.Event()
        self._kills = 0
        self._stopping = Stopping(name, ask=self._ask, over=self._over, kill=self._kill, clock=clock)
        self._scope = Scope("docker", join_s=_LOOK_S + 1.0, on_death=self._watch_died, clock=clock)
        try:
            self._scope.spawn(name, self._watch)
        except OSError:
            self._close()
            raise

    def wait(self, timeout_s: float) -> ContainerExit | None:
        return self._end if self._over(timeout_s) else None

    def stats(self) -> Stats:
        return Stats() if self._ended.is_set() else self._meter.stats()

    def processes(self) -> str:
        return docker_processes(self._daemon, self.id)

    def backtrace(self, pid: int | None) -> str:
        return docker_backtrace(self._daemon, self.id, pid)

    def stop(self, grace_s: float) -> ContainerExit:
        self._stopping.run(grace_s)
        lost = f"container {self.id[:12]}: no end seen {KILL_S:g} s after the kill"
        return self._end or ContainerExit(137, lost=lost)

    def remove(self) -> None:
        remove(self._daemon, self.id)
        self._over(KILL_S)
        self._scope.stop()

    def _over(self, timeout_s: float) -> bool:
        return self._clock.wait(self._ended, timeout_s)

    def _ask(self) -> None:
        self._asked = True
        self._try("stop", lambda api: api.kill(self.id, signal=self._signal))

    def _kill(self) -> None:
        # Removing by force reaches containers that a plain kill does not, such
        # as one whose first process the daemon has lost sight of.
        self._asked = True
        if self._kills == 0:
            self._try("kill", lambda api: api.kill(self.id, signal="SIGKILL"))
        else:
            self._try("remove", lambda api: api.remove_container(self.id, force=True, v=True))
        self._kills += 1

    def _try(self, what: str, function: Callable[[Any], object]) -> None:
        try:
            self._daemon.call(f"{what} {self._name}", function, within_s=QUICK_S)
        except Refused as err:
            # Ended meanwhile, most likely: the watcher will say so.
            log.debug("%s", err)
        except EngineUnavailable as err:
            log.warning("%s", err)

    def _watch(self) -> None:
        """Until its end is seen: read all there is, then ask how it ended."""
        while not self._scope.stopping.is_set():
            self._read()
            end = self._look()
            if end is not None:
                self._finish(end)
                return
            # The stream broke though the container runs: the daemon went away.
            if self._clock.wait(self._scope.stopping, _PAUSE_S):
                return
            self._attach_again()

    def _read(self) -> None:
        """Copy output to the files until the stream ends or breaks."""
        look_at = 0.0
        while self._stream is not None and not self._scope.stopping.is_set():
            now = self._clock.monotonic()
            if now >= look_at:
                self._meter.look()
                look_at = now + _LOOK_S
            try:
                data = self._stream.read(_CHUNK) if self._readable(self._stream) else None
            except OSError as err:
                log.warning("%s: output stream broke: %s", self._name, err)
                return
            if data == b"":
                return
            if data:
                self._frames.feed(data)

    def _readable(self, stream: Readable) -> bool:
        """Wait for output, for a while; if it ends meanwhile count what it has
        used, while that is still there.
        """
        first, output = self._meter.fileno(), stream.fileno()
        found = ready((first, output), _LOOK_S)
        if first in found:
            self._meter.last_look()
        return output in found

    def _attach_again(self) -> None:
        self._close_stream()
        try:
            self._stream = attach(self._daemon, self.id)
        except EngineError as err:
            log.debug("%s: %s", self._name, err)
            return
        self._frames = Demultiplexer(*self._files)
        log.warning("%s: attached again; what it printed meanwhile may be missing", self._name)

    def _look(self) -> ContainerExit | None:
        """How it ended, or None if it still runs or the daemon may yet come
        back.
        """
        try:
            state = self._daemon.call("inspect", lambda api: api.inspect_container(self.id))["State"]
        except Refused as err:
            if not err.missing:
                raise
            return self._lost("removed by somebody else")
        except EngineUnavailable as err:
            now = self._clock.monotonic()
            self._away = str(err)
            self._silent_since = self._silent_since or now
            if now - self._silent_since < LOST_AFTER_S:
                return None
            return self._lost(str(err))
        self._silent_since = None
        if state["Status"] not in ("exited", "dead"):
            self._away = ""
            return None
        code, out_of_memory = int(state["ExitCode"]) & 0xFF, bool(state.get("OOMKilled"))
        by_others = "" if out_of_memory or code not in _KILLED else self._killer()
        return ContainerExit(
            code,
            out_of_memory=out_of_memory,
            lost=by_others and f"container {self.id[:12]}: {by_others}",
            cpu_s=self._meter.cpu_s,
            max_rss_bytes=self._meter.max_rss,
            refused_forks=self._meter.refused,
        )

    def _killer(self) -> str:
        """Who killed it through the daemon, in words; empty if it was us, or
        nobody.

        A daemon that is shut down closes its door first and then stops its
        containers: if it did not answer when the container ended, that was
        why. All other kills are among its events, if only the last 256.
        """
        if self._asked:
            return ""
        if self._away:
            return f"ended with its daemon ({self._away})"
        try:
            kills = events(self._daemon, [self.id], "kill", since=self._born, until=self._clock.time())
        except EngineError as err:
            return f"ended with its daemon ({err})"
        signals = [str(kill.get("Actor", {}).get("Attributes", {}).get("signal", "?")) for kill in kills]
        if not signals:
            return ""
        return f"stopped through the daemon, not by us (signal {', '.join(signals)})"

    def _lost(self, why: str) -> ContainerExit:
        return ContainerExit(
            137,
            lost=f"container {self.id[:12]}: {why}",
            cpu_s=self._meter.cpu_s,
            max_rss_bytes=self._meter.max_rss,
            refused_forks=self._meter.refused,
        )

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _close(self) -> None:
        self._close_stream()
        self._meter.close()
        for file in self._files:
            file.close()

    def _finish(self, end: ContainerExit) -> None:
        self._close()
        if not self._frames.complete:
            log.warning("%s: the last piece of its output was cut off", self._name)
        self._end = self._end or end
        self._ended.set()

    def _watch_died(self, name: str, error: BaseException) -> None:
        self._finish(self._lost(f"{name}: {type(error).__name__}: {error}"))


def events(
    daemon: Daemon, container_ids: Iterable[str], kind: str, *, since: float, until: float
) -> list[Mapping[str, Any]]:
    """What the daemon remembers (its last 256 events) of containers, between
    two epoch seconds; those may be gone.
    """
    filters = {"container": list(container_ids), "event": [kind]}
    # Not beyond now: the daemon would wait for it.
    span = {"since": f"{since:.9f}", "until": f"{until:.9f}"}

    def ask(api: Any) -> list[Mapping[str, Any]]:
        return list(api.events(**span, filters=filters, decode=True))

    return daemon.call("events", ask)


def remove(daemon: Daemon, container_id: str, *, within_s: float | None = None) -> None:
    """Kill and delete a container and its anonymous volumes; harmless if it is
    gone.
    """
    what = f"remove {container_id[:12]}"
    try:
        daemon.call(
            what, lambda api: api.remove_container(container_id, force=True, v=True), within_s=within_s
        )
    except Refused as err:
        # 409: somebody else's removal is under way, which is as good.
        if err.status not in (404, 409):
            raise
