"""Payloads as plain processes: production at batch sites, where there is no
Docker.

The end of the first process is the end of the payload, as in a container:
what it left running is killed before `wait` returns.
"""

import logging
import os
import platform
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from container.contract import KILL_S, Leftover
from container.errors import StartError
from container.labels import LABELS_VARIABLE, NAME_LABEL, carries, from_text, to_text
from container.proctree import ProcessTree
from container.spec import ContainerExit, ContainerSpec, PullProgress, Stats
from container.stopping import Stopping
from pilot_core.base.clock import Clock
from pilot_core.base.procs import (
    PROC,
    ProcStat,
    environment,
    processes,
    read_stat,
    signal_group,
    signal_process,
)
from pilot_core.base.scope import Scope

__all__ = ["ProcessContainer", "ProcessEngine"]

log = logging.getLogger(__name__)

# Pause between two looks for processes that have the grace of a stop.
_REST_S = 0.2
# Pause between two looks for processes that were just killed.
_LOOK_S = 0.02


class ProcessContainer:
    """A payload that runs as a session of its own.

    Built by `ProcessEngine.start`. The `process-<name>` thread waits for the
    first process; the end of that process frees it.
    """

    def __init__(
        self, spec: ContainerSpec, popen: "subprocess.Popen[bytes]", mark: str, *, clock: Clock, proc: Path
    ) -> None:
        self.pid = popen.pid
        self.id = str(popen.pid)
        self._name = spec.name
        self._popen = popen
        self._clock = clock
        self._proc = proc
        # Not reaped before the thread below starts, so its entry is still
        # there.
        stat = read_stat(popen.pid, proc)
        self._tree = ProcessTree(popen.pid, mark, stat.start_ticks if stat else 0, proc=proc)
        self._tree_lock = threading.Lock()
        self._exited = threading.Event()
        self._ended = threading.Event()
        self._never = threading.Event()
        self._stop_asked = threading.Event()
        self._stop_done = threading.Event()
        self._end: ContainerExit | None = None
        self._stopping = Stopping(spec.name, ask=self.ask, over=self.over, kill=self.kill, clock=clock)
        self._scope = Scope("process", join_s=1.0, on_death=self._watch_died, clock=clock)
        self._scope.spawn(spec.name, self._watch)

    def members(self) -> list[ProcStat]:
        """Its living processes, looked for with care."""
        with self._tree_lock:
            return self._tree.members(thorough=True)

    def wait(self, timeout_s: float) -> ContainerExit | None:
        return self._end if self._clock.wait(self._ended, timeout_s) else None

    def stats(self) -> Stats:
        with self._tree_lock:
            return self._tree.stats()

    def stop(self, grace_s: float) -> ContainerExit:
        self._stop_asked.set()
        try:
            gone = self._stopping.run(grace_s)
        finally:
            self._stop_done.set()
        if gone and self._clock.wait(self._ended, KILL_S) and self._end is not None:
            return self._end
        return self._end or ContainerExit(137, lost=f"process {self.pid} still runs after SIGKILL")

    def remove(self) -> None:
        if self._ended.is_set():
            self._scope.stop()

    def ask(self) -> None:
        """SIGTERM to the group and to those that left it; the stopped are
        woken.
        """
        self._stop_asked.set()
        # Looked for before anybody dies: with its parent goes the only sign of
        # a process that left the session and cleared its environment.
        members = self.members()
        for signum in (signal.SIGTERM, signal.SIGCONT):
            self._signal_group(signum)
        for stat in members:
            if stat.pgid != self.pid:
                signal_process(stat.pid, stat.start_ticks, signal.SIGTERM, self._proc)
                signal_process(stat.pid, stat.start_ticks, signal.SIGCONT, self._proc)

    def kill(self) -> None:
        """SIGKILL to all of it that can be found now."""
        members = self.members()
        self._signal_group(signal.SIGKILL)
        for stat in members:
            signal_process(stat.pid, stat.start_ticks, signal.SIGKILL, self._proc)

    def _signal_group(self, signum: signal.Signals) -> None:
        # While the first process is not reaped nobody else can have its
        # number.
        if not self._exited.is_set():
            signal_group(self.pid, signum)

    def over(self, timeout_s: float) -> bool:
        """True as soon as nothing of it runs; waits at most so many seconds."""
        if not self._clock.wait(self._exited, timeout_s):
            return False
        with self._tree_lock:
            if not self._tree.members(thorough=False) and not self._tree.members(thorough=True):
                return True
        self._clock.wait(self._never, min(timeout_s, _LOOK_S))
        return False

    def _watch(self) -> None:
        """Reap the first process, see to what it left, say how it ended."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        # Popen must not look for a process that is reaped already.
        self._popen.returncode = code
        self._exited.set()
        if self._stop_asked.is_set():
            # The rest has the grace of the stop that is under way.
            while not self.over(_LOOK_S) and not self._stop_done.is_set():
                self._clock.wait(self._stop_done, _REST_S)
        else:
            self._sweep()
        self._finish(ContainerExit(code if code >= 0 else 128 - code, cpu_s=self._cpu_s(used)))

    def _sweep(self) -> None:
        left = self.members()
        if not left:
            return
        names = ", ".join(f"{stat.command} ({stat.pid})" for stat in left[:5])
        log.warning("%s ended and left %d processes, which are killed: %s", self._name, len(left), names)
        end = self._clock.monotonic() + KILL_S
        while not self.over(_LOOK_S) and self._clock.monotonic() < end:
            self.kill()

    def _cpu_s(self, used: resource.struct_rusage) -> float:
        # The kernel's count holds every process that was waited for; the last
        # sample may hold others, which lost their parent.
        return max(used.ru_utime + used.ru_stime, self._tree.cpu_s)

    def _finish(self, end: ContainerExit) -> None:
        if self._end is None:
            self._end = end
        self._ended.set()

    def _watch_died(self, name: str, error: BaseException) -> None:
        self._exited.set()
        self._finish(ContainerExit(137, lost=f"{name}: {type(error).__name__}: {error}"))


class ProcessEngine:
    """Runs `spec.argv` here: own session, declared environment, stdin from
    /dev/null.

    `image`, `mounts`, `network`, `init` and the limits of a spec mean nothing
    to it: the batch system is what limits here.

    Parameters
    ----------
    clock
        Source of time.
    proc
        Root of the proc file system.
    """

    name = "process"

    def __init__(self, *, clock: Clock, proc: Path = PROC) -> None:
        self._clock = clock
        self._proc = proc

    def check(self) -> str:
        return f"processes on Linux {platform.release()}"

    def ensure_image(
        self,
        image: str,  # noqa: ARG002 - the engine has no images
        *,
        timeout_s: float,  # noqa: ARG002
        on_progress: Callable[[PullProgress], None],  # noqa: ARG002
        cancelled: threading.Event,  # noqa: ARG002
    ) -> None:
        return

    def start(self, spec: ContainerSpec) -> ProcessContainer:
        try:
            mark = to_text({**spec.labels, NAME_LABEL: spec.name})
            with spec.stdout.open("ab") as out, spec.stderr.open("ab") as err:
                popen = _popen(spec, {**spec.environment, LABELS_VARIABLE: mark}, out, err)
        except (OSError, ValueError, subprocess.SubprocessError) as err_:
            # An OSError names the file: program, working directory or output.
            raise StartError(f"{spec.name}: cannot start {spec.argv[:1]}: {err_}") from err_
        return ProcessContainer(spec, popen, mark, clock=self._clock, proc=self._proc)

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        found = {}
        for stat, mark in self._marked():
            theirs = from_text(mark)
            if carries(theirs, labels):
                found[mark] = Leftover(str(stat.pid), theirs.get(NAME_LABEL, ""), theirs, running=True)
        return list(found.values())

    def remove_leftover(self, leftover: Leftover) -> None:
        end = self._clock.monotonic() + KILL_S
        pause = threading.Event()
        mine = dict(leftover.labels)
        while self._clock.monotonic() < end:
            left = [stat for stat, mark in self._marked() if from_text(mark) == mine]
            if not left:
                return
            for stat in left:
                signal_process(stat.pid, stat.start_ticks, signal.SIGKILL, self._proc)
            self._clock.wait(pause, _LOOK_S)
        log.error("leftover %s: processes still run %.0f s after SIGKILL", leftover.name, KILL_S)

    def close(self) -> None:
        return

    def _marked(self) -> list[tuple[ProcStat, str]]:
        """Living processes with labels; never ourselves, nor those that
        started us.
        """
        table = processes(self._proc)
        pid = os.getpid()
        while pid in table:
            pid = table.pop(pid).ppid
        marks = (
            (stat, environment(stat.pid, self._proc).get(LABELS_VARIABLE.encode()))
            for stat in table.values()
            if stat.living
        )
        return [(stat, mark.decode("utf-8", "replace")) for stat, mark in marks if mark]


def _popen(
    spec: ContainerSpec, environ: Mapping[str, str], out: IO[bytes], err: IO[bytes]
) -> "subprocess.Popen[bytes]":
    uid, _, gid = spec.user.partition(":")
    return subprocess.Popen(
        spec.argv,
        cwd=spec.workdir or None,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
        user=int(uid) if uid else None,
        group=int(gid) if gid else None,
        # Without it a named user would keep the groups of ours.
        extra_groups=[] if uid else None,
    )
