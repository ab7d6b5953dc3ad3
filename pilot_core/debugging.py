"""Debug commands of the back-channel: what an operator may look at while a job
runs.

Nothing goes through a shell, nothing leaves the job's folders, and the answer
is text of at most `LIMIT` bytes: the server keeps 2048 in its old releases.
"""

import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from pilot_core.base.files import tail_bytes
from pilot_core.errors import PayloadError
from pilot_core.model.payload import JobPaths

__all__ = ["LIMIT", "debug_output"]

LIMIT = 2048

#: A look goes no further: it is taken between two heartbeats.
MOST_FILES = 20_000

#: The payload stands still while gdb looks at it.
GDB_S = 20.0

# What `debug` shows the end of: the youngest of these.
_LOGS = ("payload.stdout", "payload.stderr", "payload-log.json", "*.log", "*.txt")


def debug_output(text: str, paths: JobPaths) -> str:
    """Answer to one command such as `tail payload.stderr`; `debug` alone shows
    the youngest log.

    Raises
    ------
    PayloadError
        For a command that is not one of ours, or a path outside the job.
    OSError, ValueError
        A file that vanished meanwhile or may not be read; a pattern that is
        none.
    """
    try:
        words = shlex.split(text)
    except ValueError as err:
        raise PayloadError(f"debug command {text!r}: {err}") from err
    name, arguments = (words[0], words[1:]) if words else ("debug", [])
    handler = _COMMANDS.get(name)
    if handler is None:
        raise PayloadError(f"debug command {name!r} is not one of {', '.join(sorted(_COMMANDS))}")
    return handler(arguments, paths)[-LIMIT:]


def _debug(_: Sequence[str], paths: JobPaths) -> str:
    found = [path for pattern in _LOGS for path in _matches(pattern, paths) if path.is_file()]
    found = [path for path in found if path.name != paths.log.name]
    return _show_tail(found, "any log of the payload")


def _tail(arguments: Sequence[str], paths: JobPaths) -> str:
    names = [word for word in arguments if not word.startswith("-")]
    if not names:
        return _debug((), paths)
    return _show_tail([path for path in _matches(names[0], paths) if path.is_file()], names[0])


def _show_tail(found: Sequence[Path], what: str) -> str:
    if not found:
        raise PayloadError(f"there is no {what} in the job's folder")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    head = f"[{newest.name}]\n"
    return head + tail_bytes(newest.resolve(), LIMIT - len(head)).decode("utf-8", "replace")


def _ls(arguments: Sequence[str], paths: JobPaths) -> str:
    names = [word for word in arguments if not word.startswith("-")] or ["."]
    lines = []
    for path in sorted(_matches(names[0], paths)):
        folder = path.is_dir() and not path.is_symlink()
        for entry in sorted(islice(path.iterdir(), MOST_FILES)) if folder else [path]:
            info = entry.lstat()
            lines.append(f"{info.st_mode & 0o7777:04o} {info.st_size:>12} {entry.name}")
    return "\n".join(lines)


def _du(arguments: Sequence[str], paths: JobPaths) -> str:
    names = [word for word in arguments if not word.startswith("-")] or ["."]
    lines = []
    for path in sorted(_matches(names[0], paths)):
        below = list(islice(path.rglob("*"), MOST_FILES)) if path.is_dir() else [path]
        size = sum(p.lstat().st_size for p in below if p.is_file() and not p.is_symlink())
        more = "+" if len(below) == MOST_FILES else ""
        lines.append(f"{size:>14}{more} {path.name or path}")
    return "\n".join(lines)


def _ps(_: Sequence[str], __: JobPaths) -> str:
    import psutil

    lines = ["    PID    PPID  CPU_S  RSS_MB COMMAND"]
    for process in psutil.Process().children(recursive=True):
        try:
            with process.oneshot():
                cpu, rss = sum(process.cpu_times()[:2]), process.memory_info().rss / 2**20
                command = " ".join(process.cmdline())[:100] or process.name()
                lines.append(f"{process.pid:7} {process.ppid():7} {cpu:6.1f} {rss:7.1f} {command}")
        except psutil.Error:
            continue
    return "\n".join(lines)


def _gdb(arguments: Sequence[str], _: JobPaths) -> str:
    """Stack traces of one of the pilot's descendants, the oldest one if none
    is named; gdb's own commands are not for the server to choose.
    """
    import psutil

    gdb = shutil.which("gdb")
    if gdb is None:
        raise PayloadError("gdb is not installed here")
    children = [process.pid for process in psutil.Process().children(recursive=True)]
    wanted = [int(word) for word in arguments if word.isdigit()] or children[:1]
    if not wanted or wanted[0] not in children:
        raise PayloadError(f"gdb: no process {wanted[0] if wanted else ''} of the payload")
    argv = [gdb, "-p", str(wanted[0]), "-batch", "-nx", "-ex", "thread apply all bt"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=GDB_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise PayloadError(f"gdb gave no answer in {GDB_S:.0f} s") from err
    return done.stdout.decode("utf-8", "replace") or done.stderr.decode("utf-8", "replace")


def _matches(pattern: str, paths: JobPaths) -> list[Path]:
    """Paths of a pattern below the job's folders; a link that leads out of
    them does not count.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise PayloadError(f"debug path {pattern!r} leaves the job's folder")
    roots = [root.resolve() for root in (paths.work, paths.shared) if root.is_dir()]
    found = list(roots) if pattern in (".", "") else []
    for root in roots if not found else ():
        found += islice(root.glob(pattern), MOST_FILES)
    # A link from one folder to the other leads to a file that is found there.
    inside = {path.resolve(): path for path in found}
    return [path for end, path in inside.items() if any(end.is_relative_to(root) for root in roots)]


_COMMANDS: dict[str, Callable[[Sequence[str], JobPaths], str]] = {
    "debug": _debug,
    "tail": _tail,
    "ls": _ls,
    "du": _du,
    "ps": _ps,
    "gdb": _gdb,
}
