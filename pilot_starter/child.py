"""Start wrapper and pilot, pass signals on, reap, and kill what does not end
in time.

Signal handlers only leave the number in the inbox; the main thread does the
rest. The child has a process group of its own, and this process adopts
whatever loses its parent below it, so that nothing the pilot started outlives
the worker unseen, and no zombie stays where we are process 1.
"""

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.procs import caught, descendants, processes, signal_group, signal_name, start_ticks

__all__ = [
    "ENDING",
    "FORWARDED",
    "Child",
    "ChildEnd",
    "end_leftovers",
    "signals_to",
    "supervise",
]

log = logging.getLogger(__name__)

#: After one of these the pilot has to end, and soon.
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU, signal.SIGHUP})
#: What is passed on to the pilot.
FORWARDED = ENDING | {signal.SIGUSR1, signal.SIGUSR2}

# A second SIGTERM means that somebody is in a hurry.
_SECOND_S = 3.5
# Between two looks whether the pilot listens to what it is asked for.
_DRAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How the pilot ended.

    Attributes
    ----------
    exit_code
        None if a signal ended it.
    signum
        The signal that ended it; None if it exited.
    asked
        The first ending signal that we passed on to it; None if there was
        none.
    killed
        We killed it because it did not end in time.
    due
        When it had to be over after that, on the monotonic clock.
    """

    exit_code: int | None
    signum: int | None
    asked: signal.Signals | None = None
    killed: bool = False
    due: float | None = None

    @property
    def status(self) -> int:
        """What our own exit code should be: the pilot's, with signals as 128 +
        number.

        A pilot that was asked to end and then had to be killed ends as one
        that was asked: 143 after SIGTERM.
        """
        if self.exit_code is not None:
            return self.exit_code
        if self.killed and self.asked is not None:
            return 128 + self.asked
        return 128 + (self.signum or 0)

    @property
    def words(self) -> str:
        """For a log line."""
        if self.exit_code is not None:
            return f"exited with {self.exit_code}"
        number = self.signum or 0
        name = signal_name(number) or f"signal {number}"
        by_us = " (it did not end in time)" if self.killed else ""
        return f"was killed by {name}{by_us}"


@contextlib.contextmanager
def signals_to(inbox: Inbox[signal.Signals]) -> Iterator[None]:
    """While the block lasts, signals become events."""

    def put(signum: int, _frame: object) -> None:
        inbox.put(signal.Signals(signum))

    heard = {*FORWARDED, signal.SIGCHLD}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # Who started us with `nohup` wants us to stay.
        heard.remove(signal.SIGHUP)
    before = {signum: signal.signal(signum, put) for signum in heard}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class Child:
    """The wrapper, which becomes the pilot: one process and its group.

    Parameters
    ----------
    output_fd
        Where stdout and stderr go; closed here.
    keep_fds
        What it inherits besides.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output_fd: int,
        keep_fds: Sequence[int] = (),
    ) -> None:
        try:
            self._popen = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output_fd,
                stderr=output_fd,
                process_group=0,
                pass_fds=keep_fds,
            )
        finally:
            os.close(output_fd)
        self.pid = self._popen.pid
        self.born_ticks = start_ticks(self.pid) or 0
        self.wait_status: int | None = None

    def reap(self) -> bool:
        """Collect all dead children, adopted too; True once the pilot is among
        them.

        All of them, not only ours: process 1 has nobody else to do it. A
        library that waits for a helper process of its own finds it collected,
        which `subprocess` takes for exit code 0.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid, status = 0, 0
            if pid == 0:
                return self.wait_status is not None
            if pid == self.pid:
                self.wait_status = status
                self._popen.returncode = os.waitstatus_to_exitcode(status)

    def send(self, signum: signal.Signals) -> None:
        """Signal the pilot itself; it knows best what to tell its children."""
        if self.wait_status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def listens_to(self, signum: signal.Signals) -> bool:
        """True once it has a handler for that signal."""
        return caught(self.pid, signum)

    def kill_group(self) -> None:
        """SIGKILL to everything in the group."""
        signal_group(self.pid, signal.SIGKILL)

    def end(self, *, asked: signal.Signals | None, killed: bool, due: float | None) -> ChildEnd:
        """Its end; only once `reap` has said yes."""
        code = os.waitstatus_to_exitcode(self.wait_status or 0)
        if code >= 0:
            return ChildEnd(exit_code=code, signum=None, asked=asked, killed=killed, due=due)
        return ChildEnd(exit_code=None, signum=-code, asked=asked, killed=killed, due=due)


def supervise(
    child: Child,
    inbox: Inbox[signal.Signals],
    *,
    clock: Clock,
    grace_s: float,
    on_end: Callable[[signal.Signals], None],
    tick: Callable[[], None],
    tick_s: float = 10.0,
) -> ChildEnd:
    """Keep the pilot company until it has ended.

    Parameters
    ----------
    grace_s
        From the first ending signal to SIGKILL for the group.
    on_end
        Called with the first ending signal, after the pilot has it.
    tick
        Called about every `tick_s` seconds.
    """
    asked: signal.Signals | None = None
    deadline: float | None = None
    killed = drain = False
    next_tick = clock.monotonic() + tick_s
    while not child.reap():
        now = clock.monotonic()
        if deadline is not None and now >= deadline and not killed:
            log.warning("the pilot did not end within its time after %s and is killed", asked and asked.name)
            child.kill_group()
            killed = True
        if now >= next_tick:
            tick()
            next_tick = now + tick_s
        if drain and child.listens_to(signal.SIGUSR2):
            child.send(signal.SIGUSR2)
            drain = False
        wake = next_tick if deadline is None or killed else min(next_tick, deadline)
        signum = inbox.get(min(wake - clock.monotonic(), _DRAIN_S if drain else tick_s))
        if signum is None or signum == signal.SIGCHLD:
            continue
        if signum == signal.SIGUSR2:
            # It would kill what does not listen: the wrapper, a pilot that
            # just begins.
            log.warning("SIGUSR2 received: passed on as soon as the pilot listens")
            drain = True
            continue
        log.warning("%s received and passed on to the pilot", signum.name)
        child.send(signum)
        if signum in ENDING and not killed:
            allowed = grace_s if asked is None else _SECOND_S
            ends = clock.monotonic() + allowed
            deadline = ends if deadline is None else min(deadline, ends)
            if asked is None:
                asked = signum
                on_end(signum)
    return child.end(asked=asked, killed=killed, due=deadline)


def end_leftovers(child: Child, *, clock: Clock, timeout_s: float) -> int:
    """Kill what the pilot left running; returns how many processes that were.

    Its group, and every process below us that is younger than the pilot: a
    daemon that the pod started before us is not ours to kill. Processes in
    containers are not below us but below their own daemon.
    """
    end = clock.monotonic() + timeout_s
    killed: set[int] = set()
    pause = threading.Event()
    child.kill_group()
    while True:
        child.reap()
        table = processes()
        below = {
            pid
            for pid in descendants(table, [os.getpid()]) - {os.getpid()}
            if table[pid].living and table[pid].start_ticks >= child.born_ticks
        }
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= below
        if not below or clock.monotonic() >= end:
            return len(killed)
        clock.wait(pause, 0.05)
