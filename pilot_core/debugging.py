"""Debug commands of the back-channel: what an operator may look at while a job
runs.

Nothing goes through a shell, nothing leaves the job's folders, and the answer
is text of at most `LIMIT` bytes: the server keeps 2048 in its old releases.
"""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from container.contract import Container
from container.errors import EngineError
from pilot_core.base.files import tail_bytes
from pilot_core.errors import PayloadError
from pilot_core.model.payload import JobPaths

__all__ = ["LIMIT", "DebugMode", "debug_output"]

LIMIT = 2048

#: A look goes no further than so many entries of folders, and lasts no longer:
#: it is taken between two heartbeats.
MOST_ENTRIES = 20_000
LONGEST_S = 10.0

_CUT = f"\n[there is more: a look ends after {MOST_ENTRIES} entries or {LONGEST_S:g} s]"

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


def debug_output(
    text: str, paths: JobPaths, container: Container | None = None, *, longest_s: float = LONGEST_S
) -> str:
    """Answer to one command such as `tail payload.stderr`; `debug` alone shows
    the youngest log.

    Parameters
    ----------
    container
        The payload while it runs.
    longest_s
        Seconds for a look at folders.

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
    look = _Look(paths, longest_s)
    try:
        return (handler(arguments, look, container) + look.cut)[-LIMIT:]
    except EngineError as err:
        raise PayloadError(f"{name}: {err}") from err


class _Look:
    """What one command sees of a job's folders; no more than is good for the
    thread that looks, which is the heartbeat's.

    Attributes
    ----------
    cut
        Words if there is more than was looked at.
    """

    def __init__(self, paths: JobPaths, longest_s: float) -> None:
        # `Path.resolve` raises RuntimeError for a link in a loop, `realpath`
        # does not.
        self._roots = [Path(os.path.realpath(root)) for root in (paths.work, paths.shared) if root.is_dir()]
        self._own_log = paths.log.name
        self._left = MOST_ENTRIES
        # The real time: the answer to a look hangs on it, and no job.
        self._end = time.monotonic() + longest_s
        self.cut = ""

    def matches(self, pattern: str) -> list[Path]:
        """Paths of a pattern below the job's folders; a link that leads out of
        them does not count.
        """
        parts = Path(pattern).parts
        if Path(pattern).is_absolute() or ".." in parts:
            raise PayloadError(f"debug path {pattern!r} leaves the job's folder")
        if parts.count("**") > 1:
            raise PayloadError(f"debug path {pattern!r}: more than one ** is not looked for")
        found = [path for root in self._roots for path in self._find(root, parts)]
        # A link from one folder to the other leads to a file that is found
        # there.
        inside = {Path(os.path.realpath(path)): path for path in found}
        return [path for end, path in inside.items() if any(end.is_relative_to(root) for root in self._roots)]

    def logs(self) -> list[Path]:
        """What the payload has written, and not the pilot."""
        found = [path for pattern in _LOGS for path in self.matches(pattern) if path.is_file()]
        return [path for path in found if path.name != self._own_log]

    def entries(self, folder: Path) -> list["os.DirEntry[str]"]:
        """What is in a folder, as far as the look goes; nothing if it cannot
        be read.
        """
        seen: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    if self._left <= 0 or time.monotonic() >= self._end:
                        self.cut = _CUT
                        break
                    self._left -= 1
                    seen.append(entry)
        except OSError:
            # It came and went, is a file, or is not ours to read.
            pass
        return seen

    def below(self, folder: Path) -> Iterator["os.DirEntry[str]"]:
        """All that is below a folder; links are not followed."""
        todo = [folder]
        while todo:
            for entry in self.entries(todo.pop()):
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
                yield entry

    def _find(self, folder: Path, parts: Sequence[str]) -> Iterator[Path]:
        """As `Path.glob` does it, which looks at everything before it finds
        nothing.
        """
        if not parts:
            yield folder
            return
        first, rest = parts[0], parts[1:]
        if first == "**":
            yield from self._find(folder, rest)
            for entry in self.below(folder):
                if entry.is_dir(follow_symlinks=False):
                    yield from self._find(Path(entry.path), rest)
        elif any(sign in first for sign in "*?["):
            for entry in self.entries(folder):
                if fnmatchcase(entry.name, first):
                    yield from self._find(Path(entry.path), rest)
        elif os.path.lexists(folder / first):
            yield from self._find(folder / first, rest)


def _debug(_: Sequence[str], look: _Look, _container: Container | None) -> str:
    return _show_tail(look.logs(), "any log of the payload", look)


def _tail(arguments: Sequence[str], look: _Look, _container: Container | None) -> str:
    names = [word for word in arguments if not word.startswith("-")]
    if not names:
        return _debug((), look, None)
    return _show_tail([path for path in look.matches(names[0]) if path.is_file()], names[0], look)


def _show_tail(found: Sequence[Path], what: str, look: _Look) -> str:
    if not found:
        raise PayloadError(f"there is no {what} in the job's folder{look.cut}")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    head = f"[{newest.name}]\n"
    return head + tail_bytes(Path(os.path.realpath(newest)), LIMIT - len(head)).decode("utf-8", "replace")


def _ls(arguments: Sequence[str], look: _Look, _container: Container | None) -> str:
    names = [word for word in arguments if not word.startswith("-")] or ["."]
    lines = []
    for path in sorted(look.matches(names[0])):
        folder = path.is_dir() and not path.is_symlink()
        for entry in sorted(Path(one.path) for one in look.entries(path)) if folder else [path]:
            info = entry.lstat()
            lines.append(f"{info.st_mode & 0o7777:04o} {info.st_size:>12} {entry.name}")
    return "\n".join(lines)


def _du(arguments: Sequence[str], look: _Look, _container: Container | None) -> str:
    names = [word for word in arguments if not word.startswith("-")] or ["."]
    lines = []
    for path in sorted(look.matches(names[0])):
        below = (Path(entry.path) for entry in look.below(path)) if path.is_dir() else [path]
        size = sum(p.lstat().st_size for p in below if p.is_file() and not p.is_symlink())
        lines.append(f"{size:>14}{'+' if look.cut else ''} {path.name or path}")
    return "\n".join(lines)


def _ps(_: Sequence[str], __: _Look, container: Container | None) -> str:
    return _running(container).processes()


def _gdb(arguments: Sequence[str], _: _Look, container: Container | None) -> str:
    """Stack traces of the payload's first process, or of the one named."""
    named = [int(word) for word in arguments if word.isascii() and word.isdecimal() and len(word) < 10]
    return _running(container).backtrace(named[0] if named else None)


def _running(container: Container | None) -> Container:
    if container is None:
        raise PayloadError("the payload does not run")
    return container


_COMMANDS: dict[str, Callable[[Sequence[str], _Look, Container | None], str]] = {
    "debug": _debug,
    "tail": _tail,
    "ls": _ls,
    "du": _du,
    "ps": _ps,
    "gdb": _gdb,
}
