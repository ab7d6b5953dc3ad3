"""The worker's log: what starter, wrapper and pilot say, in one file and on
our stdout.

One thread writes. The bytes of wrapper and pilot arrive through a pipe and go
out as they came; the starter's own lines wait in a queue and are put in
between two lines of theirs. So nobody who wants to say something is ever
blocked by a slow reader of our stdout, only the pilot is, as behind `tee`; one
that stands still is given up (`echo.py`).
"""

import contextlib
import fcntl
import logging
import os
import queue
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.base.logs import line_formatter
from pilot_core.base.redact import RedactingFilter, Redactor
from pilot_starter.echo import Echo

__all__ = ["LogHandler", "WorkerLog", "open_worker_log"]

log = logging.getLogger(__name__)

_CHUNK = 65536
# Longest nap of the writer; only `_touch` needs one, all else wakes it.
_NAP_MS = 10_000
# Today's liveness probe kills a pod whose log did not move for 10 minutes.
_TOUCH_S = 60.0
# Between two looks whether the name still means our file.
_LOOK_S = 1.0
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def open_worker_log(wanted: Path, spare: Path) -> tuple[int, Path]:
    """Open the worker's log for writing, empty, and keep it for ourselves.

    Several workers of a batch node share `/tmp`: whoever comes second, or may
    not write there, gets its log in its own folder.

    Returns
    -------
    fd, path
        An open file, locked, and its name.
    """
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(wanted, _FLAGS, 0o644)
    except OSError as err:
        log.warning("worker log %s cannot be written (%s); it is %s instead", wanted, err.strerror, spare)
    else:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            log.warning("worker log %s belongs to another worker; ours is %s", wanted, spare)
        else:
            os.ftruncate(fd, 0)
            return fd, wanted
    fd = os.open(spare, _FLAGS, 0o644)
    os.ftruncate(fd, 0)
    return fd, spare


class WorkerLog:
    """File and stdout behind one writing thread.

    Threads: `run` is the writer; every other method may be called from any
    thread, and none of them blocks for longer than its argument says.

    Parameters
    ----------
    fd, path
        The open file.
    echo_fd
        Where a copy goes; None for nowhere.
    still_well
        Asked once a minute of silence: may the file be touched, so that a
        probe which watches it lets us live?
    """

    def __init__(
        self, fd: int, path: Path, *, echo_fd: int | None, clock: Clock, still_well: Callable[[], bool]
    ) -> None:
        self.path = path
        self._fd = fd
        self._echo = None if echo_fd is None else Echo(echo_fd, hurry=lambda: self._closing)
        self._clock = clock
        self._still_well = still_well
        self._said: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._waiting: deque[bytes] = deque()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._child_fd: int | None = None
        self._midline = False
        self._closing = False
        self._full = False
        self._moved = self._looked = clock.monotonic()

    @property
    def file(self) -> Path:
        """What was written, for readers in this process: also where the name
        is gone.
        """
        return Path(f"/proc/self/fd/{self._fd}")

    def say(self, line: bytes) -> None:
        """A line of our own, with its newline."""
        self._said.put(line)
        self._wake()

    def attach(self) -> int:
        """A pipe for a child's stdout and stderr; returns the end to write to."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        self._child_fd = read_end
        self._wake()
        return write_end

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was written so far is in the file; False if it
        is not.
        """
        done = threading.Event()
        self._said.put(done)
        self._wake()
        return self._clock.wait(done, timeout_s)

    def close(self) -> None:
        """Let the writer end once everything is out."""
        self._closing = True
        self._wake()

    def run(self) -> None:
        """The writer's life: until `close`."""
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        watched: int | None = None
        while True:
            closing = self._closing
            if self._child_fd != watched:
                if watched is not None:
                    poll.unregister(watched)
                watched = self._child_fd
                if watched is not None:
                    poll.register(watched, select.POLLIN | select.POLLHUP)
            poll.poll(0 if closing else _NAP_MS)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_r, _CHUNK)
            self._take_child(all_of_it=closing)
            self._take_said(last=closing)
            self._touch()
            if closing:
                break
        # The wake pipe stays: somebody may still want to say something, and
        # its number must not come to mean another file.
        os.close(self._fd)
        if self._child_fd is not None:
            os.close(self._child_fd)
            self._child_fd = None

    def _wake(self) -> None:
        # Full means that the writer has enough reasons to look already;
        # closed, that it has ended.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_w, b".")

    def _take_child(self, *, all_of_it: bool) -> None:
        while self._child_fd is not None:
            try:
                data = os.read(self._child_fd, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                os.close(self._child_fd)
                self._child_fd = None
                return
            self._write_child(data)
            if not all_of_it and not self._said.empty():
                return

    def _write_child(self, data: bytes) -> None:
        cut = data.find(b"\n") + 1
        if self._waiting and cut:
            self._write(data[:cut])
            self._midline = False
            self._flush_waiting()
            data = data[cut:]
        if data:
            self._write(data)
            self._midline = not data.endswith(b"\n")

    def _take_said(self, *, last: bool) -> None:
        done: list[threading.Event] = []
        while True:
            try:
                item = self._said.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, threading.Event):
                self._take_child(all_of_it=True)
                done.append(item)
            else:
                self._waiting.append(item)
        if self._waiting and self._midline and (last or done or self._child_fd is None):
            self._write(b"\n")
            self._midline = False
        if not self._midline:
            self._flush_waiting()
        for event in done:
            event.set()

    def _flush_waiting(self) -> None:
        while self._waiting:
            self._write(self._waiting.popleft())

    def _write(self, data: bytes) -> None:
        self._moved = self._clock.monotonic()
        self._follow()
        try:
            _write_all(self._fd, data)
        except OSError as err:
            # A full disk must stop neither the pilot nor the copy on stdout.
            if not self._full:
                self._full = True
                self.say(f"worker log {self.path}: {err.strerror}; the rest goes to stdout only\n".encode())
        if self._echo is not None:
            try:
                self._echo.write(data)
            except OSError as err:
                self._echo = None
                self.say(f"stdout: {err.strerror}; the rest goes to {self.path} only\n".encode())

    def _follow(self) -> None:
        """Go on in the file that has our name now, where ours was moved away
        (logrotate); one that is gone is as good as any.
        """
        if self._moved - self._looked < _LOOK_S:
            return
        self._looked = self._moved
        try:
            now, ours = self.path.lstat(), os.fstat(self._fd)
            if not stat.S_ISREG(now.st_mode) or os.path.samestat(now, ours):
                return
            fd = os.open(self.path, _FLAGS & ~os.O_CREAT)
        except OSError:
            return
        try:
            # Another worker's may have taken the place.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return
        # The number stays: readers know it.
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self.say(f"worker log {self.path}: the file was moved away, this is another one\n".encode())

    def _touch(self) -> None:
        if self._clock.monotonic() - self._moved < _TOUCH_S:
            return
        self._moved = self._clock.monotonic()
        if self._still_well():
            with contextlib.suppress(OSError):
                os.utime(self._fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class LogHandler(logging.Handler):
    """The starter's own log records, as lines of the worker's log."""

    def __init__(self, worker_log: WorkerLog, *, debug: bool, redactor: Redactor) -> None:
        super().__init__()
        self._log = worker_log
        self.setFormatter(line_formatter(debug=debug))
        self.addFilter(RedactingFilter(redactor))

    def emit(self, record: logging.LogRecord) -> None:
        self._log.say(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
