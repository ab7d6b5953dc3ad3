"""Debug commands of the back-channel: what an operator may look at while a job
runs.

Nothing goes through a shell, nothing leaves the job's folders, and the answer
is text of at most `LIMIT` bytes: the server keeps 2048 in its old releases.
"""

import os
import shlex
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from container.contract import Container
from container.errors import EngineError
from pilot_core.base.files import tail_bytes
from pilot_core.errors import PayloadError
from pilot_core.model.payload import JobPaths

__all__ = ["LIMIT", "DebugMode", "debug_output"]

LIMIT = 2048

#: A look goes no further: it is taken between two heartbeats.
MOST_FILES = 20_000

# What `debug` shows the end of: the youngest of these.
_LOGS = ("payload.stdout", "payload.stderr", "payload-log.json", "*.log", "*.txt")

# Stops the payload for as long as it looks: once for each time it is asked
# for, not at each heartbeat.
_ONCE = "gdb"


class DebugMode:
    """What an operator asked to see of a job, for each of its heartbeats.

    Parameters
    ----------
    command
        Of the job's definition; empty for none.
    look
        Carries out a command; may raise anything.

    Attributes
    ----------
    command
        What is shown now; empty while nobody looks.
    """

    def __init__(self, command: str, look: Callable[[str], str]) -> None:
        self.command = command
        self._look = look
        self._taken = ("", "")

    def ask(self, command: str) -> bool:
        """Show this from now on; False if it is what is shown anyway."""
        if command == self.command:
            return False
        self.command, self._taken = command, ("", "")
        return True

    def text(self) -> str:
        """What the command shows; may take long, and never raises."""
        command = self.command
        if not command:
            return ""
        if self._taken[0] == command:
            return self._taken[1]
        try:
            text = _plain(self._look(command))
        except Exception as err:  # noqa: BLE001 - a look must never cost a job
            # The payload's files come and go, and a pattern is the operator's
            # own.
            return _plain(str(err) or type(err).__name__)
        if command.split()[:1] == [_ONCE]:
            self._taken = (command, text)
        return text


def _plain(text: str) -> str:
    """A file's name may hold bytes that are no text."""
    return text.encode("utf-8", "replace").decode()


def debug_output(text: str, paths: JobPaths, container: Container | None = None) -> str:
    """Answer to one command such as `tail payload.stderr`; `debug` alone shows
    the youngest log.

    Parameters
    ----------
    container
        The payload while it runs.

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
    try:
        return handler(arguments, paths, container)[-LIMIT:]
    except EngineError as err:
        raise PayloadError(f"{name}: {err}") from err


def _debug(_: Sequence[str], paths: JobPaths, _container: Container | None) -> str:
    found = [path for pattern in _LOGS for path in _matches(pattern, paths) if path.is_file()]
    found = [path for path in found if path.name != paths.log.name]
    return _show_tail(found, "any log of the payload")


def _tail(arguments: Sequence[str], paths: JobPaths, _container: Container | None) -> str:
    names = [word for word in arguments if not word.startswith("-")]
    if not names:
        return _debug((), paths, None)
    return _show_tail([path for path in _matches(names[0], paths) if path.is_file()], names[0])


def _show_tail(found: Sequence[Path], what: str) -> str:
    if not found:
        raise PayloadError(f"there is no {what} in the job's folder")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    head = f"[{newest.name}]\n"
    return head + tail_bytes(Path(os.path.realpath(newest)), LIMIT - len(head)).decode("utf-8", "replace")


def _ls(arguments: Sequence[str], paths: JobPaths, _container: Container | None) -> str:
    names = [word for word in arguments if not word.startswith("-")] or ["."]
    lines = []
    for path in sorted(_matches(names[0], paths)):
        folder = path.is_dir() and not path.is_symlink()
        for entry in sorted(islice(path.iterdir(), MOST_FILES)) if folder else [path]:
            info = entry.lstat()
            lines.append(f"{info.st_mode & 0o7777:04o} {info.st_size:>12} {entry.name}")
    return "\n".join(lines)


def _du(arguments: Sequence[str], paths: JobPaths, _container: Container | None) -> str:
    names = [word for word in arguments if not word.startswith("-")] or ["."]
    lines = []
    for path in sorted(_matches(names[0], paths)):
        below = list(islice(path.rglob("*"), MOST_FILES)) if path.is_dir() else [path]
        size = sum(p.lstat().st_size for p in below if p.is_file() and not p.is_symlink())
        more = "+" if len(below) == MOST_FILES else ""
        lines.append(f"{size:>14}{more} {path.name or path}")
    return "\n".join(lines)


def _ps(_: Sequence[str], __: JobPaths, container: Container | None) -> str:
    return _running(container).processes()


def _gdb(arguments: Sequence[str], _: JobPaths, container: Container | None) -> str:
    """Stack traces of the payload's first process, or of the one named."""
    named = [int(word) for word in arguments if word.isascii() and word.isdecimal() and len(word) < 10]
    return _running(container).backtrace(named[0] if named else None)


def _running(container: Container | None) -> Container:
    if container is None:
        raise PayloadError("the payload does not run")
    return container


def _matches(pattern: str, paths: JobPaths) -> list[Path]:
    """Paths of a pattern below the job's folders; a link that leads out of
    them does not count.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise PayloadError(f"debug path {pattern!r} leaves the job's folder")
    # `Path.resolve` raises RuntimeError for a link in a loop, `realpath` does
    # not.
    roots = [Path(os.path.realpath(root)) for root in (paths.work, paths.shared) if root.is_dir()]
    found = list(roots) if pattern in (".", "") else []
    for root in roots if not found else ():
        found += islice(root.glob(pattern), MOST_FILES)
    # A link from one folder to the other leads to a file that is found there.
    inside = {Path(os.path.realpath(path)): path for path in found}
    return [path for end, path in inside.items() if any(end.is_relative_to(root) for root in roots)]


_COMMANDS: dict[str, Callable[[Sequence[str], JobPaths, Container | None], str]] = {
    "debug": _debug,
    "tail": _tail,
    "ls": _ls,
    "du": _du,
    "ps": _ps,
    "gdb": _gdb,
}
