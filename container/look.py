"""What an operator asks of a running payload: its processes, and where one of
them stands. Text for people, no data.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from container.docker_api import Daemon
from container.errors import EngineError
from pilot_core.base.procs import PROC, ProcStat, read_bytes

__all__ = ["backtrace", "docker_backtrace", "docker_processes", "process_table"]

# The payload stands still while gdb looks at it.
_GDB_S = 20.0
# For the daemon to start a program in a container, and to say how it ended.
_EXEC_S = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_COMMAND = 100
# `ps` of the daemon's node makes this; its RSS is in kB.
_COLUMNS = "pid,ppid,cputimes,rss,args"


def process_table(members: Iterable[ProcStat], proc: Path = PROC) -> str:
    """Processes of this node, one a line."""
    rows = [
        (
            stat.pid,
            stat.ppid,
            stat.cpu_ticks / _TICKS,
            stat.rss_pages * _PAGE_MB,
            read_bytes(f"{proc}/{stat.pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
            or f"[{stat.command}]",
        )
        for stat in sorted(members, key=lambda stat: stat.pid)
    ]
    return _table(rows)


def docker_processes(daemon: Daemon, container_id: str) -> str:
    """Processes of a container, by the numbers of the daemon's node.

    Raises
    ------
    EngineError
    """
    top = daemon.call(
        f"top {container_id[:12]}", lambda api: api.top(container_id, ps_args=f"-eo {_COLUMNS}")
    )
    rows = []
    for pid, ppid, cpu_s, rss_kb, *command in top.get("Processes") or ():
        rows.append((int(pid), int(ppid), float(cpu_s), int(rss_kb) / 1024, " ".join(command)))
    return _table(rows)


def _table(rows: Iterable[tuple[int, int, float, float, str]]) -> str:
    lines = ["    PID    PPID  CPU_S  RSS_MB COMMAND"]
    for pid, ppid, cpu_s, rss_mb, command in rows:
        lines.append(f"{pid:7} {ppid:7} {cpu_s:6.1f} {rss_mb:7.1f} {command[:_COMMAND]}")
    return "\n".join(lines)


def _gdb(program: str, pid: int) -> Sequence[str]:
    """gdb's own commands are not for the server to choose."""
    return [program, "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt"]


def backtrace(members: Iterable[ProcStat], pid: int) -> str:
    """Stack traces of one of these processes of this node.

    Raises
    ------
    EngineError
        gdb is missing, gave no answer, or the process is no member.
    """
    program = shutil.which("gdb")
    if program is None:
        raise EngineError("gdb is not installed here")
    if all(stat.pid != pid for stat in members):
        raise EngineError(f"gdb: no process {pid} of the payload")
    try:
        done = subprocess.run(
            _gdb(program, pid),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GDB_S,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise EngineError(f"gdb gave no answer in {_GDB_S:.0f} s") from err
    return (done.stdout or done.stderr).decode("utf-8", "replace")


def docker_backtrace(daemon: Daemon, container_id: str, pid: int | None) -> str:
    """The same inside a container, with its own gdb.

    Parameters
    ----------
    pid
        As the container numbers its processes; None for the payload itself.

    Raises
    ------
    EngineError
        There is no gdb in the image, or the daemon said no.
    """
    if pid is None:
        pid = _payload_pid(daemon, container_id)
    # `timeout`, since a gdb that outlives this call holds the payload still.
    argv = ["timeout", "-s", "KILL", f"{_GDB_S:.0f}", *_gdb("gdb", pid)]
    code, output = _run_in(daemon, container_id, argv)
    if code in (126, 127):
        raise EngineError(f"gdb cannot be run in the payload's image: {output.strip()}")
    return output


def _payload_pid(daemon: Daemon, container_id: str) -> int:
    """1, or the first child of the small init that Docker puts there."""
    about = daemon.call("inspect", lambda api: api.inspect_container(container_id))
    if not about["HostConfig"].get("Init"):
        return 1
    _, children = _run_in(daemon, container_id, ["cat", "/proc/1/task/1/children"])
    first = children.split(" ", 1)[0]
    return int(first) if first.isascii() and first.isdecimal() else 1


def _run_in(daemon: Daemon, container_id: str, argv: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a program inside a container."""
    what = f"{argv[0]} in {container_id[:12]}"
    began = daemon.call(what, lambda api: api.exec_create(container_id, argv))
    within_s = _GDB_S + _EXEC_S
    output: bytes = daemon.call(what, lambda api: api.exec_start(began["Id"]), within_s=within_s)
    ended = daemon.call(what, lambda api: api.exec_inspect(began["Id"]))
    return int(ended.get("ExitCode") or 0), output.decode("utf-8", "replace")
