"""What a payload's processes are, and what they use, from /proc alone.

A process belongs to the payload if it descends from the payload's first
process, is in its session, carries its mark in the environment, is in its
cgroup, or was seen to belong before. The last three keep those that left the
session or lost their parent. Without a cgroup a process that does all of it
between two looks, leaving the session, clearing its environment and losing
its parent, cannot be told from a stranger.
"""

import os
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from pathlib import Path

from container.labels import LABELS_VARIABLE
from container.spec import Stats
from container.taskgroup import TaskGroup
from pilot_core.base.procs import PROC, ProcStat, descendants, environment, processes, read_bytes

__all__ = ["ProcessTree", "PssReader", "usage"]

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_VARIABLE = LABELS_VARIABLE.encode()

# smaps_rollup makes the kernel walk the page table: about 1 ms for each GB
# mapped. It is read again only after 200 times what its last reading took, so
# that it never costs more than 0.5 % of a core.
_PSS_REST = 200.0


class ProcessTree:
    """The processes of one payload; remembers what it has seen.

    Parameters
    ----------
    root
        Pid of the first process, which leads its own session.
    mark
        Text of the labels variable of this payload.
    root_ticks
        Start of the first process, see `ProcStat.start_ticks`: nothing older
        belongs to the payload.
    group
        Its cgroup, if there is one.
    proc
        Root of the proc file system.
    """

    def __init__(
        self, root: int, mark: str, root_ticks: int, *, group: TaskGroup | None = None, proc: Path = PROC
    ) -> None:
        self._root = root
        self._group = group
        self._mark = mark.encode()
        self._root_ticks = root_ticks
        self._proc = proc
        self._mine: set[tuple[int, int]] = set()
        self._strangers: set[tuple[int, int]] = set()
        self._pss = PssReader(proc)
        self._cpu_s = 0.0

    def members(self, *, thorough: bool) -> list[ProcStat]:
        """Living processes of the payload.

        Parameters
        ----------
        thorough
            Look again at processes that were judged strangers before: one
            looked at in the middle of an `exec` has no environment.
        """
        table = processes(self._proc)
        if thorough:
            self._strangers.clear()
        roots = {pid for pid, stat in table.items() if self._belongs(stat)}
        if self._group is not None:
            # Our own thread is in it for the moment of the start.
            roots |= self._group.tasks() - {os.getpid()}
        found = [table[pid] for pid in descendants(table, roots)]
        self._mine = {(stat.pid, stat.start_ticks) for stat in found}
        # A child without a mark looked like a stranger until its parent was
        # known.
        self._strangers &= {(stat.pid, stat.start_ticks) for stat in table.values()}
        self._strangers -= self._mine
        return [stat for stat in found if stat.living]

    def _belongs(self, stat: ProcStat) -> bool:
        key = (stat.pid, stat.start_ticks)
        if stat.start_ticks < self._root_ticks or key in self._strangers:
            return False
        if key in self._mine or self._root in (stat.pid, stat.sid):
            return True
        if environment(stat.pid, self._proc).get(_VARIABLE) == self._mark:
            return True
        self._strangers.add(key)
        return False

    def stats(self, *, outside: Set[int] = frozenset()) -> Stats:
        """What all of them use now; the CPU time never goes back.

        Parameters
        ----------
        outside
            Processes whose memory is not the payload's.
        """
        members = self.members(thorough=False)
        now = usage(members, proc=self._proc, pss=self._pss.read, outside=outside)
        self._cpu_s = max(self._cpu_s, now.cpu_s or 0.0)
        if self._group is not None:
            now = replace(now, threads=self._group.count, refused_forks=self._group.refused)
        return now if now.cpu_s is None else replace(now, cpu_s=self._cpu_s)

    @property
    def cpu_s(self) -> float:
        """CPU seconds as of the last `stats`."""
        return self._cpu_s


def usage(
    members: Iterable[ProcStat],
    *,
    proc: Path = PROC,
    pss: Callable[[list[int]], tuple[int | None, int | None]],
    outside: Set[int] = frozenset(),
) -> Stats:
    """Sum over processes; the memory of those `outside` does not count.

    CPU and I/O hold those children, too, that a process has waited for: the
    kernel adds them to the parent. `rss` is resident less shared, in the
    kernel's words anonymous memory; pages shared after a fork count for each.
    A process that only borrows its parent's memory adds none.
    """
    members = list(members)
    left_out = _borrowers(members) | outside
    pids = []
    ticks = threads = vmem = rss = 0
    io = dict.fromkeys((b"rchar", b"wchar", b"read_bytes", b"write_bytes"), 0)
    io_seen = False
    for stat in members:
        pids.append(stat.pid)
        ticks += stat.cpu_ticks
        threads += stat.threads
        if stat.pid not in left_out:
            vmem += stat.vsize
            statm = read_bytes(f"{proc}/{stat.pid}/statm").split()
            rss += (int(statm[1]) - int(statm[2])) * _PAGE if len(statm) > 2 else stat.rss_pages * _PAGE
        for line in read_bytes(f"{proc}/{stat.pid}/io").splitlines():
            name, _, value = line.partition(b": ")
            if name in io:
                io[name] += int(value)
                io_seen = True
    if not pids:
        return Stats(processes=0, threads=0, source="proc")
    shared, swap = pss([pid for pid in pids if pid not in left_out])
    return Stats(
        cpu_s=ticks * _TICK_S,
        rss=rss,
        pss=shared,
        swap=swap,
        vmem=vmem,
        rchar=io[b"rchar"] if io_seen else None,
        wchar=io[b"wchar"] if io_seen else None,
        read_bytes=io[b"read_bytes"] if io_seen else None,
        write_bytes=io[b"write_bytes"] if io_seen else None,
        processes=len(pids),
        threads=threads,
        source="proc",
    )


def _borrowers(members: list[ProcStat]) -> set[int]:
    """Children between vfork and exec, whose memory is their parent's own.

    Every program started by Python's `subprocess` or by posix_spawn is one for
    some milliseconds, and a peak would show twice the memory of its parent.
    The
    mark is the very same size, to the page: a forked child has fewer pages.
    """
    by_pid = {stat.pid: stat for stat in members}
    found = set()
    for stat in members:
        parent = by_pid.get(stat.ppid)
        if parent is not None and (stat.vsize, stat.rss_pages) == (parent.vsize, parent.rss_pages):
            found.add(stat.pid)
    return found


class PssReader:
    """Proportional set size and swap of processes, read as often as it is
    cheap.
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._rested = 0.0
        self._last: tuple[int | None, int | None] = (None, None)

    def read(self, pids: list[int]) -> tuple[int | None, int | None]:
        # The clock here measures our own cost; no decision about a job hangs
        # on it.
        start = time.monotonic()
        if start < self._rested:
            return self._last
        cpu = time.thread_time()
        pss = swap = 0
        seen = False
        for pid in pids:
            for line in read_bytes(f"{self._proc}/{pid}/smaps_rollup").splitlines():
                if line.startswith(b"Pss:"):
                    pss += int(line.split()[1]) * 1024
                    seen = True
                elif line.startswith(b"SwapPss:"):
                    swap += int(line.split()[1]) * 1024
        self._rested = start + (time.thread_time() - cpu) * _PSS_REST
        self._last = (pss, swap) if seen else (None, None)
        return self._last
