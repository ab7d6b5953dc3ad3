"""Payloads as plain processes: production at batch sites, where there is no
Docker.

The end of the first process is the end of the payload, as in a container:
what it left running is killed before `wait` returns.
"""

import contextlib
import logging
import os
import platform
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import IO

from container.cgroup import CGROUP
from container.contract import KILL_S, Leftover
from container.errors import StartError
from container.labels import LABELS_VARIABLE, NAME_LABEL, carries, from_text, to_text
from container.look import backtrace, process_table
from container.proctree import ProcessTree
from container.spec import ContainerExit, ContainerSpec, PullProgress, Stats
from container.stopping import Stopping
from container.taskgroup import TaskGroup, find_groups, make_group, remove_stale
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
# With more tasks than that in its group a payload is not over, whatever they
# are.
_CROWD = 100


class ProcessContainer:
    """A payload that runs as a session of its own.

    Built by `ProcessEngine.start`. The `process-<name>` thread waits for the
    first process; the end of that process frees it.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        popen: "subprocess.Popen[bytes]",
        mark: str,
        *,
        group: TaskGroup | None,
        clock: Clock,
        proc: Path,
    ) -> None:
        self.pid = popen.pid
        self.id = str(popen.pid)
        self._name = spec.name
        self._popen = popen
        self._group = group
        self._clock = clock
        self._proc = proc
        # Not reaped before the thread below starts, so its entry is still
        # there.
        stat = read_stat(popen.pid, proc)
        ticks = stat.start_ticks if stat else 0
        self._tree = ProcessTree(popen.pid, mark, ticks, group=group, proc=proc)
        self._tree_lock = threading.Lock()
        self._exited = threading.Event()
        self._ended = threading.Event()
        self._never = threading.Event()
        self._stop_asked = threading.Event()
        self._stop_done = threading.Event()
        self._end: ContainerExit | None = None
        self._stopping = Stopping(spec.name, ask=self.ask, over=self.over, kill=self.kill, clock=clock)
        self._scope = Scope("process", join_s=1.0, on_death=self._watch_died, clock=clock)
        try:
            self._scope.spawn(spec.name, self._watch)
        except OSError:
            # Nobody would own it: killed, and seen to its end by this thread.
            self.kill()
            self._watch()
            raise

    def members(self) -> list[ProcStat]:
        """Its living processes, looked for with care."""
        with self._tree_lock:
            return self._tree.members(thorough=True)

    def wait(self, timeout_s: float) -> ContainerExit | None:
        return self._end if self._clock.wait(self._ended, timeout_s) else None

    def stats(self, *, outside: Set[int] = frozenset()) -> Stats:
        """See the contract; the memory of processes `outside` does not count."""
        with self._tree_lock:
            return self._tree.stats(outside=outside)

    def processes(self) -> str:
        return process_table(self.members(), self._proc)

    def backtrace(self, pid: int | None) -> str:
        return backtrace(self.members(), self.pid if pid is None else pid)

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
            self._signal(members, signum)

    def kill(self) -> None:
        """SIGKILL to all of it that can be found now."""
        if self._group is not None:
            self._group.shut()
        self._signal(self.members(), signal.SIGKILL)

    def _signal(self, members: Sequence[ProcStat], signum: signal.Signals) -> None:
        """One call for the whole process group; those that left it one by one."""
        # While the first process is not reaped nobody else can have its
        # number.
        reached = not self._exited.is_set() and signal_group(self.pid, signum)
        for stat in members:
            if not reached or stat.pgid != self.pid:
                signal_process(stat.pid, stat.start_ticks, signum, self._proc)

    def over(self, timeout_s: float) -> bool:
        """True as soon as nothing of it runs; waits at most so many seconds."""
        if not self._clock.wait(self._exited, timeout_s):
            return False
        # To look at ten thousand processes one by one takes half a second, which
        # they need for dying; the group's list takes a millisecond.
        crowded = self._group is not None and len(self._group.tasks()) > _CROWD
        with self._tree_lock:
            if (
                not crowded
                and not self._tree.members(thorough=False)
                and not self._tree.members(thorough=True)
            ):
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
        refused = 0
        if self._group is not None:
            refused = self._group.refused
            self._group.remove(self._clock)
        code = code if code >= 0 else 128 - code
        self._finish(
            ContainerExit(
                code, cpu_s=self._cpu_s(used), max_rss_bytes=_max_rss_bytes(used), refused_forks=refused
            )
        )

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

    `image`, `mounts`, `network`, `init` and most limits of a spec mean nothing
    to it: the batch system is what limits here. `processes` is kept by a
    cgroup, where we may make one.

    Parameters
    ----------
    clock
        Source of time.
    proc, cgroup_root
        Where /proc and /sys/fs/cgroup are.
    """

    name = "process"

    def __init__(self, *, clock: Clock, proc: Path = PROC, cgroup_root: Path = CGROUP) -> None:
        self._clock = clock
        self._proc = proc
        self._cgroup_root = cgroup_root

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
        group: TaskGroup | None = None
        try:
            mark = to_text({**spec.labels, NAME_LABEL: spec.name})
            group = self._make_group(spec, mark)
            environ = {**spec.environment, LABELS_VARIABLE: mark}
            inside = contextlib.nullcontext() if group is None else group.entered()
            with spec.stdout.open("ab") as out, spec.stderr.open("ab") as err, inside:
                popen = _popen(spec, environ, out, err)
        except (OSError, ValueError, subprocess.SubprocessError) as err_:
            if group is not None:
                group.remove(self._clock)
            # An OSError names the file: program, working directory or output.
            raise StartError(f"{spec.name}: cannot start {spec.argv[:1]}: {err_}") from err_
        try:
            return ProcessContainer(spec, popen, mark, group=group, clock=self._clock, proc=self._proc)
        except OSError as err_:
            raise StartError(f"{spec.name}: it was started and had to be killed: {err_}") from err_

    def _make_group(self, spec: ContainerSpec, mark: str) -> TaskGroup | None:
        """A cgroup that the calling thread can enter, if there is a limit and
        we may.
        """
        if not spec.processes:
            return None
        remove_stale(self._clock.time(), proc=self._proc, root=self._cgroup_root)
        group = make_group(spec.processes, mark, proc=self._proc, root=self._cgroup_root)
        if group is None:
            log.info("no cgroup limits the processes of %s: none can be made here", spec.name)
            return None
        try:
            with group.entered():
                return group
        except OSError as err:
            log.info("no cgroup limits the processes of %s: %s", spec.name, err)
            group.remove(self._clock)
            return None

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        # A group that a dead owner left empty has no process: 0 stands for it.
        found = {group.labels: 0 for group in self._groups()}
        found.update((mark, stat.pid) for stat, mark in self._marked())
        marks = [(from_text(mark), pid) for mark, pid in found.items() if mark]
        return [
            Leftover(str(pid), theirs.get(NAME_LABEL, ""), theirs, running=pid > 0)
            for theirs, pid in marks
            if carries(theirs, labels)
        ]

    def remove_leftover(self, leftover: Leftover) -> None:
        end = self._clock.monotonic() + KILL_S
        pause = threading.Event()
        mine = dict(leftover.labels)
        while self._clock.monotonic() < end:
            groups = [group for group in self._groups() if from_text(group.labels) == mine]
            for group in groups:
                group.shut()
            left = [stat for stat, mark in self._marked() if from_text(mark) == mine]
            if not left:
                # One that is still busy is empty for the next who looks.
                for group in groups:
                    group.remove(self._clock)
                return
            for stat in left:
                signal_process(stat.pid, stat.start_ticks, signal.SIGKILL, self._proc)
            self._clock.wait(pause, _LOOK_S)
        log.error("leftover %s: processes still run %.0f s after SIGKILL", leftover.name, KILL_S)

    def close(self) -> None:
        return

    def _groups(self) -> list[TaskGroup]:
        return find_groups(proc=self._proc, root=self._cgroup_root)

    def _marked(self) -> list[tuple[ProcStat, str]]:
        """Living processes with labels; never ourselves, nor those that
        started us.
        """
        grouped = {tid: group.labels for group in self._groups() for tid in group.tasks()}
        table = processes(self._proc)
        pid = os.getpid()
        while pid in table:
            pid = table.pop(pid).ppid
        marks = (
            (stat, grouped.get(stat.pid) or self._mark(stat.pid)) for stat in table.values() if stat.living
        )
        return [(stat, mark) for stat, mark in marks if mark]

    def _mark(self, pid: int) -> str:
        mark = environment(pid, self._proc).get(LABELS_VARIABLE.encode(), b"")
        return mark.decode("utf-8", "replace")


def _max_rss_bytes(used: resource.struct_rusage) -> int | None:
    """Highest memory of one process that was waited for.

    None where it may be ours: until its `exec` a child has borrowed our
    memory, and the kernel remembers that.
    """
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used.ru_maxrss * 1024 if used.ru_maxrss > ours else None


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
