"""Processes and /proc, without any helper process.

Every function takes the root of the proc file system, so that recorded trees
test them. A process that vanishes while it is read is simply not there.
"""

import contextlib
import ctypes
import os
import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PROC",
    "ProcStat",
    "adopt_orphans",
    "alive",
    "boot_id",
    "caught",
    "descendants",
    "environment",
    "few_heaps",
    "group_members",
    "living",
    "pid_file",
    "processes",
    "read_bytes",
    "read_stat",
    "signal_at_death_of",
    "signal_group",
    "signal_name",
    "signal_process",
    "start_ticks",
]

PROC = Path("/proc")

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# malloc.h of glibc
_M_ARENA_MAX = -8

#: Bytes of a /proc file read at once; `stat` has about 300, `io` about 100.
_CHUNK = 65536
# A list (cgroup.procs) comes a page at a time, less what of a record does not
# fit: anything that is shorter is the whole.
_SHORT = 2048


@dataclass(frozen=True, slots=True)
class ProcStat:
    """What `/proc/PID/stat` says; the fields that somebody here needs.

    Attributes
    ----------
    cpu_ticks
        User and system time of the process and of the children it has waited
        for, in clock ticks.
    start_ticks
        Start in clock ticks since boot: with the pid it names a process for
        good.
    vsize
        Virtual memory in bytes.
    rss_pages
        Resident pages, those shared with files included.
    """

    pid: int
    command: str
    state: str
    ppid: int
    pgid: int
    sid: int
    cpu_ticks: int
    threads: int
    start_ticks: int
    vsize: int
    rss_pages: int

    @property
    def living(self) -> bool:
        """False for a zombie, which only waits for its parent to look at it."""
        return self.state not in "ZX"


def read_bytes(path: str) -> bytes:
    """A /proc file whole; empty if it is gone or not ours to read.

    Three system calls: `Path.read_bytes` takes twice the time, and this runs
    for each process of the node at each sample.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = os.read(fd, _CHUNK)
        if len(data) < _SHORT:
            return data
        parts = [data]
        while data := os.read(fd, _CHUNK):
            parts.append(data)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_stat(pid: int, proc: Path = PROC) -> ProcStat | None:
    """One process, or None if there is none of that number."""
    return _parse_stat(read_bytes(f"{proc}/{pid}/stat"))


def _parse_stat(line: bytes) -> ProcStat | None:
    # The command name stands in parentheses and may itself hold some: fields
    # count from the last one (proc(5): field 3 is the state).
    end = line.rfind(b")")
    start = line.find(b"(")
    if start < 0 or end < 0:
        return None
    field = line[end + 2 :].split()
    if len(field) < 22:
        return None
    return ProcStat(
        pid=int(line[:start]),
        command=line[start + 1 : end].decode("utf-8", "replace"),
        state=field[0].decode(),
        ppid=int(field[1]),
        pgid=int(field[2]),
        sid=int(field[3]),
        cpu_ticks=int(field[11]) + int(field[12]) + int(field[13]) + int(field[14]),
        threads=int(field[17]),
        start_ticks=int(field[19]),
        vsize=int(field[20]),
        rss_pages=int(field[21]),
    )


def processes(proc: Path = PROC) -> dict[int, ProcStat]:
    """Every process of this pid namespace by its pid, zombies included."""
    found = {}
    for name in os.listdir(proc):
        if name.isdigit():
            stat = _parse_stat(read_bytes(f"{proc}/{name}/stat"))
            if stat is not None:
                found[stat.pid] = stat
    return found


def descendants(table: Mapping[int, ProcStat], roots: Iterable[int]) -> set[int]:
    """The roots that exist and everything below them."""
    children: dict[int, list[int]] = {}
    for stat in table.values():
        children.setdefault(stat.ppid, []).append(stat.pid)
    found: set[int] = set()
    todo = [pid for pid in roots if pid in table]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(children.get(pid, ()))
    return found


def environment(pid: int, proc: Path = PROC) -> dict[bytes, bytes]:
    """The environment a process was started with; empty if it is not ours to
    read.
    """
    pairs = (entry.partition(b"=") for entry in read_bytes(f"{proc}/{pid}/environ").split(b"\0"))
    return {name: value for name, sep, value in pairs if sep}


def caught(pid: int, signum: signal.Signals, proc: Path = PROC) -> bool:
    """True if a process has a handler for that signal (proc(5): SigCgt)."""
    found = re.search(rb"^SigCgt:\s*(\w+)$", read_bytes(f"{proc}/{pid}/status"), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> signum - 1 & 1)


def start_ticks(pid: int, proc: Path = PROC) -> int | None:
    """Start of a process in clock ticks since boot; None if there is none."""
    stat = read_stat(pid, proc)
    return None if stat is None else stat.start_ticks


def living(pid: int, ticks: int | None = None, proc: Path = PROC) -> ProcStat | None:
    """The process if it exists, is no zombie and, with `ticks`, is still the
    same.
    """
    stat = read_stat(pid, proc)
    if stat is None or not stat.living or (ticks is not None and stat.start_ticks != ticks):
        return None
    return stat


def alive(pid: int, ticks: int | None = None, proc: Path = PROC) -> bool:
    """True if the process exists, is no zombie and, with `ticks`, is still the
    same.
    """
    return living(pid, ticks, proc) is not None


def group_members(pgid: int, proc: Path = PROC) -> list[int]:
    """Living processes of a process group, zombies left out."""
    return [stat.pid for stat in processes(proc).values() if stat.pgid == pgid and stat.living]


def signal_at_death_of(parent: int, signum: signal.Signals) -> bool:
    """Have the kernel signal us when our parent ends, however it ends.

    Returns
    -------
    bool
        False if it will not: `parent` is not our parent (any more), or the
        kernel does not allow it.
    """
    if os.getppid() != parent:
        return False
    try:
        _prctl(_PR_SET_PDEATHSIG, signum)
    except OSError:
        return False
    # It may have died before we asked.
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Become the parent of descendants that lose their own, as process 1 is.

    Raises
    ------
    OSError
        The kernel does not allow it.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def few_heaps(count: int = 1) -> None:
    """Let all threads of this process share so many heaps.

    Of its own accord glibc gives each thread one, and each keeps what it once
    needed. Where there is another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, count)


def signal_name(number: int) -> str:
    """`SIGTERM`, `SIGRTMIN+6`; empty where it has none: the C library keeps
    some to itself.
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        real_time = signal.SIGRTMIN < number < signal.SIGRTMAX
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if real_time else ""


def signal_group(pgid: int, signum: signal.Signals) -> bool:
    """Signal a process group; False if nobody is left in it that we may
    signal.
    """
    try:
        os.killpg(pgid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_process(pid: int, ticks: int, signum: signal.Signals, proc: Path = PROC) -> None:
    """Signal one process if it is still the one that started at `ticks`.

    Between the look and the signal the number could be given to another
    process: the kernel hands numbers out in a circle, so that takes tens of
    thousands of new processes within microseconds.
    """
    if living(pid, ticks, proc) is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def pid_file(pid: int) -> int:
    """A file number that can be read once the process has ended; -1 where
    there is no such thing (kernel before 5.3, or a python that does not know).

    The caller closes it.
    """
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return -1


def boot_id(proc: Path = PROC) -> str:
    """Name of this boot of the kernel; a pid from another boot means nothing."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
