"""Programs of others: run without a shell, fed and read by us, over with the
budget.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilot_core.base.budget import Budget
from pilot_core.base.procs import signal_group
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import TransferFailed, direction, one_line
from pilot_core.storage.source import FileSource

__all__ = ["Finished", "Runner", "run_program"]

_PIECE = 256 * 1024
# How often a program that neither reads nor writes is looked at; seconds.
_LOOK_S = 0.5
# Of what a program says; the end of it tells what went wrong.
_SAID = 4000
# Reads the script and becomes the program; what the script says is no answer
# of the program's.
_SETUP = '. "$0" >&2 && exec "$@"'
_NO_PROGRAM = 127
# Failures that another attempt meets again.
_FINAL = frozenset({"full", "refused", "missing", "taken"})


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended.

    Attributes
    ----------
    code
        Exit code; negative for a signal.
    said
        The end of its standard error, and of its output unless that was read.
    """

    code: int
    said: str


def run_program(
    argv: Sequence[str],
    *,
    budget: Budget,
    feed: FileSource | None = None,
    drain: Callable[[bytes], object] | None = None,
) -> Finished:
    """Run a program to its end, with the pilot's own environment.

    The program gets a process group of its own, which is killed when the
    budget is over or when `feed` or `drain` fails.

    Parameters
    ----------
    feed
        Written to its standard input; without it that is empty.
    drain
        Called with what comes from its standard output.

    Raises
    ------
    StorageError
        MIDDLEWAREIMPORTFAILURE if there is no such program, or what `feed`
        raises.
    BudgetSpent
    OSError
        What `drain` raises.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
                stdout=said if drain is None else subprocess.PIPE,
                stderr=said,
                start_new_session=True,
            )
        except FileNotFoundError as err:
            raise StorageError(
                f"the program {argv[0]} is not installed", ErrorCode.MIDDLEWAREIMPORTFAILURE
            ) from err
        with process:
            try:
                _pump(process, budget, feed, drain)
                code = _wait(process, budget)
            except BaseException:
                signal_group(process.pid, signal.SIGKILL)
                raise
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID))
        return Finished(code, said.read().decode("utf-8", "replace").strip())


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the programs of one transfer; their failures are `TransferFailed`s.

    Parameters
    ----------
    tool, what, put
        Copytool, transfer in words, direction.
    kind
        Tells what a failure means, in the words of `attempt.direction`.
    environment
        `env` and its arguments, put before each program.
    setup
        A script that bash reads before each program.
    good
        Exit codes of a good end.
    """

    tool: str
    what: str
    budget: Budget
    put: bool
    kind: Callable[[Finished], str]
    environment: tuple[str, ...] = ()
    setup: str = ""
    good: tuple[int, ...] = (0,)

    def __call__(
        self,
        *argv: str,
        feed: FileSource | None = None,
        drain: Callable[[bytes], object] | None = None,
    ) -> str:
        """Run one to a good end; returns what it said."""
        if not self.setup and shutil.which(argv[0]) is None:  # `env` would only say 127
            raise self._missing(argv[0])
        before = ("bash", "-c", _SETUP, self.setup) if self.setup else self.environment
        done = run_program((*before, *argv), budget=self.budget, feed=feed, drain=drain)
        if self.setup and done.code == _NO_PROGRAM:
            raise self._missing(argv[0])
        if done.code in self.good:
            return done.said
        kind = self.kind(done)
        raise TransferFailed(
            one_line(f"{self.what}: {argv[0]} ended with {done.code}: {done.said}"),
            direction(kind, put=self.put),
            again_s=None if kind in _FINAL else 0.0,
        )

    def _missing(self, program: str) -> StorageError:
        return StorageError(
            f"copytool {self.tool} needs the program {program}, which is not installed",
            ErrorCode.MIDDLEWAREIMPORTFAILURE,
        )


def _pump(
    process: "subprocess.Popen[bytes]",
    budget: Budget,
    feed: FileSource | None,
    drain: Callable[[bytes], object] | None,
) -> None:
    """Serve both pipes until they are closed."""
    with selectors.DefaultSelector() as ready:
        if feed is not None:
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
            ready.register(process.stdin, selectors.EVENT_WRITE)
        if drain is not None:
            assert process.stdout is not None
            ready.register(process.stdout, selectors.EVENT_READ)
        rest = memoryview(b"")
        while ready.get_map():
            for key, _ in ready.select(budget.timeout(_LOOK_S)):
                if key.fileobj is process.stdout:
                    assert drain is not None
                    data = os.read(key.fd, _PIECE)
                    drain(data)
                    over = not data
                else:
                    assert feed is not None
                    rest, over = _write(key.fd, rest or memoryview(feed.read(_PIECE)))
                if over:
                    ready.unregister(key.fileobj)
                    _close(process, key.fd)


def _write(fd: int, data: memoryview) -> tuple[memoryview, bool]:
    """Write what fits: the rest, and whether that was the end."""
    if not data:
        return data, True
    try:
        return data[os.write(fd, data) :], False
    except BlockingIOError:
        return data, False
    except BrokenPipeError:
        # It ended early; its exit code says why.
        return memoryview(b""), True


def _close(process: "subprocess.Popen[bytes]", fd: int) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed and pipe.fileno() == fd:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _wait(process: "subprocess.Popen[bytes]", budget: Budget) -> int:
    """Wait for the end; the budget may be shortened meanwhile."""
    while True:
        try:
            return process.wait(budget.timeout(_LOOK_S))
        except subprocess.TimeoutExpired:
            continue
