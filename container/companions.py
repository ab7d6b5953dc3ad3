"""A script beside the caller that calls `docker run`: its containers are ours,
too.

The trap: SIGTERM to the script's group reaches `docker run`, which passes it
to process 1 of the container, which as process 1 ignores it; SIGKILL removes
`docker run`, and the container goes on. Only the daemon can stop it. So the
script finds `shim/docker` first on its PATH, which labels what it starts, and
what it starts past the shim is found by the folder of the payload it mounts.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from container.contract import KILL_S, Leftover
from container.docker_engine import DockerEngine
from container.errors import EngineError, StartError
from container.labels import NAME_LABEL
from container.payload_containers import PayloadContainers, total
from container.process_engine import ProcessContainer, ProcessEngine
from container.spec import ContainerExit, ContainerSpec, PullProgress, Stats, highest
from container.stopping import Stopping
from pilot_core.base.clock import Clock
from pilot_core.base.procs import pid_file

__all__ = ["SHIM", "CompanionContainer", "CompanionEngine"]

log = logging.getLogger(__name__)

#: The folder to put first on a payload's PATH.
SHIM = Path(__file__).resolve().parent / "shim"

# A request that a killed client had sent may still be carried out: seconds of
# quiet before we believe that no more containers come. Creating one took
# 0.03 to 0.2 s on an idle node; a busy disk takes longer.
_QUIET_S = 1.0
_LOOK_S = 0.1
# How soon a container that a script starts is seen: its id is known 0.2 s or
# so before it runs.
_WATCH_S = 0.25
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


class CompanionContainer:
    """A process payload and the containers it started.

    Built by `CompanionEngine.start`.
    """

    def __init__(
        self,
        script: ProcessContainer,
        containers: PayloadContainers,
        *,
        name: str,
        clock: Clock,
    ) -> None:
        self.id = script.id
        self.pid = script.pid
        self._script = script
        self._script_file = pid_file(script.pid)
        self._containers = containers
        self._clock = clock
        self._quiet_since: float | None = None
        self._had_client = False
        self._stop_asked = False
        self._end: ContainerExit | None = None
        self._end_lock = threading.Lock()
        self._stopping = Stopping(name, ask=self._ask, over=self._over, kill=self._kill, clock=clock)

    def wait(self, timeout_s: float) -> ContainerExit | None:
        deadline = self._clock.monotonic() + timeout_s
        while True:
            left = max(0.0, deadline - self._clock.monotonic())
            # Without Docker there is nothing to see before its end.
            rest = min(left, _WATCH_S) if self._containers.possible or self._script_file < 0 else left
            # The containers and the script are waited for together, where the
            # kernel can; in turn elsewhere, and once the script has ended but
            # not all of it.
            if self._containers.watch(rest if self._script_file >= 0 else 0.0, self._script_file):
                self._close_file()
            end = self._script.wait(0.0 if self._script_file >= 0 else rest)
            if end is not None:
                return self._finish(end)
            if left <= 0:
                return None

    def stats(self) -> Stats:
        script = self._script.stats(outside=self._containers.clients())
        return total(script, *self._containers.stats())

    def processes(self) -> str:
        return "\n".join([self._script.processes(), *self._containers.processes()])

    def backtrace(self, pid: int | None) -> str:
        return self._script.backtrace(pid)

    def stop(self, grace_s: float) -> ContainerExit:
        self._stop_asked = True
        try:
            gone = self._stopping.run(grace_s)
        finally:
            end = self._script.stop(0.0)
        if not gone and not end.lost:
            return replace(end, lost=f"a container still runs {KILL_S:g} s after the kill")
        return end if end.lost else self._finish(end)

    def remove(self) -> None:
        if self._script.wait(0.0) is not None:
            self._containers.clear()
            self._containers.close()
        self._close_file()
        self._script.remove()

    def _close_file(self) -> None:
        number, self._script_file = self._script_file, -1
        if number >= 0:
            os.close(number)

    def _finish(self, end: ContainerExit) -> ContainerExit:
        """The script's end with what its containers add; they are removed."""
        with self._end_lock:
            if self._end is None:
                left = self._containers.clear()
                if left:
                    log.warning("the payload ended and left %d containers, removed: %s", len(left), left)
                cpu_s = self._containers.cpu_s
                lost = self._containers.unknown
                if end.code and not lost and not self._stop_asked:
                    # A client hands on the 143 of a container that its daemon
                    # has stopped: it looks as if the payload were killed.
                    gone = self._containers.gone_with_daemon()
                    lost = gone and f"ended with its daemon ({gone})"
                self._end = replace(
                    end,
                    lost=lost,
                    out_of_memory=end.out_of_memory or self._containers.out_of_memory(),
                    cpu_s=end.cpu_s if cpu_s is None else (end.cpu_s or 0.0) + cpu_s,
                    max_rss_bytes=self._max_rss(end),
                    refused_forks=end.refused_forks + self._containers.refused,
                )
            return self._end

    def _max_rss(self, end: ContainerExit) -> int | None:
        # A client is no part of the payload, and not small.
        own = None if self._containers.clients() else end.max_rss_bytes
        return highest(own, self._containers.max_rss)

    def _clients(self) -> bool:
        return any(stat.command == "docker" for stat in self._script.members())

    def _ask(self) -> None:
        """Ask processes and containers, but no container twice.

        A living `docker run` passes the signal on itself, and a second SIGTERM
        makes many programs give up their orderly end.
        """
        self._had_client = self._clients()
        self._script.ask()
        if not self._had_client:
            for container_id in self._containers.running():
                self._containers.signal(container_id, "SIGTERM")

    def _kill(self) -> None:
        self._had_client = self._had_client or self._clients()
        self._script.kill()
        self._containers.clear()

    def _over(self, timeout_s: float) -> bool:
        """True once no process is left and no container has shown up for a
        while.
        """
        if not self._script.over(timeout_s):
            self._quiet_since = None
            return False
        now = self._clock.monotonic()
        if self._containers.running():
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        quiet = _QUIET_S if self._had_client else 0.0
        if self._quiet_since is not None and now - self._quiet_since >= quiet:
            return True
        self._clock.wait(threading.Event(), min(timeout_s, _LOOK_S))
        return False


class CompanionEngine:
    """The process engine for payloads that may start containers on their own.

    `spec.mounts` of such a payload are the host folders that belong to it
    alone, as `/tmp/panda/<PandaID>`: any container that mounts one of them is
    taken for the payload's. Read-only ones are shared data and say nothing.
    `spec.memory_bytes`, `spec.cpus` and `spec.processes` limit each container
    it starts.

    Parameters
    ----------
    process
        Runs the script.
    docker
        Where its containers run; None if there is no Docker here.
    clock
        Source of time.
    shim
        Folder with the `docker` that goes first on PATH.
    """

    name = "process"

    def __init__(
        self, process: ProcessEngine, docker: DockerEngine | None, *, clock: Clock, shim: Path = SHIM
    ) -> None:
        self._process = process
        self._docker = docker
        self._clock = clock
        self._shim = shim
        self._init: bool | None = None

    def check(self) -> str:
        words = self._process.check()
        return words if self._docker is None else f"{words}, with {self._docker.check()}"

    def ensure_image(
        self,
        image: str,
        *,
        timeout_s: float,
        on_progress: Callable[[PullProgress], None],
        cancelled: threading.Event,
    ) -> None:
        self._process.ensure_image(image, timeout_s=timeout_s, on_progress=on_progress, cancelled=cancelled)

    def start(self, spec: ContainerSpec) -> CompanionContainer:
        try:
            # Beside the output, so that it goes with the job's folder if we
            # are killed.
            ids = tempfile.TemporaryDirectory(
                prefix=".containers-", dir=spec.stdout.parent, ignore_cleanup_errors=True
            )
        except OSError as err:
            raise StartError(f"{spec.name}: {err}") from err
        if self._docker is not None:
            spec = replace(spec, environment={**spec.environment, **self._shim_environment(spec, ids.name)})
        containers = PayloadContainers(
            self._docker,
            {**spec.labels, NAME_LABEL: spec.name},
            frozenset(mount.source for mount in spec.mounts if not mount.read_only),
            ids=ids,
            clock=self._clock,
        )
        try:
            script = self._process.start(spec)
        except StartError:
            containers.close()
            raise
        return CompanionContainer(script, containers, name=spec.name, clock=self._clock)

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        found = list(self._process.leftovers(labels))
        if self._docker is not None:
            found += self._docker.leftovers(labels)
        return found

    def remove_leftover(self, leftover: Leftover) -> None:
        # A process leftover has a pid for an id, a container 64 hex digits.
        if leftover.id.isdigit() and len(leftover.id) < 20:
            self._process.remove_leftover(leftover)
        elif self._docker is not None:
            self._docker.remove_leftover(leftover)

    def close(self) -> None:
        self._process.close()
        if self._docker is not None:
            self._docker.close()

    def _shim_environment(self, spec: ContainerSpec, ids: str) -> dict[str, str]:
        extra = {
            "PATH": f"{self._shim}:{spec.environment.get('PATH', _DEFAULT_PATH)}",
            "CONTAINER_CIDDIR": ids,
        }
        if not spec.init or not self._has_init():
            extra["CONTAINER_INIT"] = "no"
        if spec.memory_bytes:
            extra["CONTAINER_MEMORY"] = str(spec.memory_bytes)
        if spec.cpus:
            extra["CONTAINER_CPUS"] = f"{spec.cpus:g}"
        if spec.processes:
            extra["CONTAINER_PIDS"] = str(spec.processes)
        return extra

    def _has_init(self) -> bool:
        """Asked once; a daemon that is away gets no `--init`: it might not
        have one.
        """
        if self._init is None and self._docker is not None:
            try:
                self._init = self._docker.has_init()
            except EngineError as err:
                log.warning("containers of payloads get no init: %s", err)
                return False
        return bool(self._init)
