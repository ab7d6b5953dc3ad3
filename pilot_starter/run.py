"""One worker's life, from its folder to its exit code.

Prepare, run the pilot, ship the log, leave nothing owed, pass the exit code
on.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pilot_core.base.clock import Clock, SystemClock
from pilot_core.base.complaint import complaint_in
from pilot_core.base.inbox import Inbox
from pilot_core.base.procs import adopt_orphans, start_ticks
from pilot_core.base.redact import Redactor
from pilot_core.base.scope import Scope
from pilot_core.errors import PilotError, SetupError
from pilot_core.model.codes import ErrorCode, exit_code
from pilot_starter.child import Child, ChildEnd, end_leftovers, signals_to, supervise
from pilot_starter.closing import Closing
from pilot_starter.command import KILL_RESERVE_S, wrapper_argv, wrapper_environment
from pilot_starter.config import StarterConfig
from pilot_starter.credentials import Credentials
from pilot_starter.health import WorkerStatus, heartbeat_fresh, write_status
from pilot_starter.heirs import Services
from pilot_starter.kept import occupied
from pilot_starter.logfile import LogHandler, WorkerLog, open_worker_log
from pilot_starter.orphans import settle
from pilot_starter.place import last_words, leave_home, make_home
from pilot_starter.prepare import Asked, prepare
from pilot_starter.realtime import RealTimeLogger
from pilot_starter.why import Why

__all__ = ["run"]

log = logging.getLogger(__name__)

# Of the grace this much is for the end of this process.
_EXIT_S = 0.8
# For what is still in the pipe when the pilot has ended.
_LAST_WORDS_S = 0.3
# A busy machine may have taken the rest: a Spot pod has 15 s, not 12.
_LEAST_S = 2.0
# For a last will that is under way when the worker ends.
_ASIDE_S = 0.2


def run(config: StarterConfig, *, clock: Clock | None = None, echo_fd: int | None = 1) -> int:
    """Live one worker's life; returns the exit code of the process.

    Parameters
    ----------
    echo_fd
        Where the worker's log is copied to while it is written.
    """
    clock = clock or SystemClock()
    inbox: Inbox[signal.Signals] = Inbox()
    redactor = Redactor()
    with signals_to(inbox), contextlib.ExitStack() as stack:
        given = config.work_dir is not None
        try:
            home = make_home(config)
            mark = stack.enter_context(occupied(home, given=given))
        except SetupError as err:
            log.error("FATAL: %s", err)
            last_words(config.termination_log, str(err))
            return exit_code(err.code)
        stack.callback(leave_home, home, given=given)
        fd, path = open_worker_log(config.worker_log, home / "wrapper-wid.log")
        worker_log = WorkerLog(
            fd,
            path,
            echo_fd=echo_fd,
            clock=clock,
            still_well=lambda: heartbeat_fresh(home, silent_s=config.silent_s, now=clock.time()),
        )
        # Without its writer the pilot would soon hang on a full pipe: end it.
        writers = Scope("starter", join_s=5.0, on_death=lambda _name, _err: inbox.put(signal.SIGTERM))
        stack.enter_context(writers)
        writers.spawn("worker-log", worker_log.run)
        stack.callback(worker_log.close)
        handler = LogHandler(worker_log, debug=config.debug, redactor=redactor)
        stack.enter_context(_logging_to(handler))
        worker = _Worker(
            replace(config, worker_log=path),
            home,
            clock=clock,
            inbox=inbox,
            redactor=redactor,
            out=worker_log,
            mark=mark,
        )
        return worker.live()


class _Worker:
    """The steps of a worker's life, and what one hands to the next."""

    def __init__(
        self,
        config: StarterConfig,
        home: Path,
        *,
        clock: Clock,
        inbox: Inbox[signal.Signals],
        redactor: Redactor,
        out: WorkerLog,
        mark: int | None,
    ) -> None:
        self._config = config
        self._mark = mark
        self._home = home
        self._clock = clock
        self._inbox = inbox
        self._out = out
        self._redactor = redactor
        self._credentials = Credentials(config.credentials, folder=home / ".credentials", redactor=redactor)
        self._services = Services(config, self._credentials, clock)
        # For what is none of our own worker's: it ends with us, done or not.
        self._aside = Scope("starter", join_s=_ASIDE_S, on_death=lambda _name, _err: None)
        self._why = Why(in_pod=bool(config.pod.namespace), url=config.metadata_url, clock=clock)
        self._status = WorkerStatus(
            phase="preparing",
            pid=os.getpid(),
            pid_ticks=start_ticks(os.getpid()) or 0,
            queue=config.queue,
            worker_log=str(config.worker_log),
            home=str(home),
            started=clock.time(),
            worker_id=config.worker_id,
        )

    def live(self) -> int:
        """All of it."""
        self._tell(phase="preparing")
        log.info("starter pid %d, queue %s, directory %s", os.getpid(), self._config.queue, self._home)
        try:
            adopt_orphans()
        except OSError as err:
            log.warning("orphans cannot be adopted: %s", err.strerror)
        with self._shipping() as shipping, self._watched(shipping), self._why, self._aside:
            closing = Closing(
                self._config,
                home=self._home,
                services=self._services,
                out=self._out,
                shipping=shipping,
                preempted=self._why.preempted,
                clock=self._clock,
                inbox=self._inbox,
            )
            status, words = self._bring_up(closing)
            last_words(self._config.termination_log, words)
            self._tell(phase="ended", end=words)
            self._out.settle(1.0)
        return status

    def _shipping(self) -> RealTimeLogger:
        return RealTimeLogger(
            self._config.worker_log,
            state_dir=self._home,
            open_sink=self._services.open_sink if self._config.logging.server else None,
            interval_s=self._config.logging.interval_s,
            hostname=self._config.hostname,
            redactor=self._redactor,
            clock=self._clock,
        )

    @contextlib.contextmanager
    def _watched(self, shipping: RealTimeLogger) -> Iterator[None]:
        """`/healthz` and `/metrics` while the block lasts, where somebody wants
        them.
        """
        address = self._config.health_address
        if address is None:
            yield
            return
        # Imported when needed: most workers do without.
        from pilot_starter.pages import pages
        from pilot_starter.port import HealthPort

        found = pages(self._config, shipped=shipping.counts, credential_ends=self._services.credential_ends)
        with HealthPort(address, found, clock=self._clock) as port:
            self._tell(listening=port.url)
            yield

    def _bring_up(self, closing: Closing) -> tuple[int, str]:
        """The pilot's life and what follows; exit code, and the reason in
        words.
        """
        try:
            installed = prepare(
                self._config, self._home, self._credentials, inbox=self._inbox, clock=self._clock
            )
            child = self._start(installed)
            self._settle_orphans()
        except Asked as err:
            words = f"{err.signum.name} before the pilot was started"
            closing.close(None, words=words, hurry_s=KILL_RESERVE_S)
            return 128 + err.signum, words
        except (PilotError, OSError) as err:
            code = err.code if isinstance(err, PilotError) else ErrorCode.GENERALERROR
            log.critical("FATAL: the pilot cannot be started: %s", err)
            words = f"the pilot cannot be started: {err}"
            closing.close(None, words=words, hurry_s=None)
            return exit_code(code), words
        self._tell(
            phase="running",
            pilot_pid=child.pid,
            pilot_source="installed" if installed else self._config.source.url,
            fallback=installed and bool(self._config.source.url),
        )
        end = self._keep_company(child)
        self._tell(phase="closing")
        words = f"the pilot {end.words}{self._complaint(end)}"
        hurry_s = None
        if end.due is not None:
            # Late already, the report still gets its second.
            hurry_s = max(_LEAST_S, end.due + KILL_RESERVE_S - self._clock.monotonic() - _EXIT_S)
        owed = closing.close(
            end,
            words=f"worker ends with exit code {end.status}: {words}",
            hurry_s=hurry_s,
            sweep=lambda: self._sweep(child),
        )
        return end.status, f"{words}; {owed}" if owed else words

    def _keep_company(self, child: Child) -> ChildEnd:
        end = supervise(
            child,
            self._inbox,
            clock=self._clock,
            grace_s=max(1.0, self._config.grace_s - KILL_RESERVE_S),
            on_end=lambda signum: self._why.ask() if signum is signal.SIGTERM else None,
            tick=self._credentials.refresh,
        )
        # Its own last words come first.
        self._out.settle(_LAST_WORDS_S)
        log.info("pilot exit status: %d, the pilot %s", end.status, end.words)
        return end

    def _complaint(self, end: ChildEnd) -> str:
        """What it said was wrong, if it ended badly by itself."""
        if end.asked is not None or end.status == 0:
            return ""
        said = complaint_in(self._out.file)
        return f": {said}" if said else ""

    def _settle_orphans(self) -> None:
        config = self._config
        try:
            self._aside.spawn(
                "orphans",
                lambda: settle(
                    config.tmp_dir, self._services.heirs, clock=self._clock, stop=self._aside.stopping
                ),
            )
        except OSError as err:
            log.warning("nobody looks for what dead workers owe: %s", err.strerror)

    def _sweep(self, child: Child) -> None:
        left = end_leftovers(child, clock=self._clock, timeout_s=1.0)
        if left:
            log.warning("%d processes that the pilot left running were killed", left)

    def _start(self, installed: bool) -> Child:
        wrapper = Path(__file__).with_name("wrapper.sh")
        env = wrapper_environment(self._config, home=self._home, credentials=self._credentials.environment())
        return Child(
            wrapper_argv(self._config, wrapper=wrapper, home=self._home, installed=installed),
            cwd=self._home,
            # The wrapper becomes the pilot, which ends if we die without a
            # word.
            env={**env, "PILOT_STARTER_PID": str(os.getpid())},
            output_fd=self._out.attach(),
            keep_fds=() if self._mark is None else (self._mark,),
        )

    def _tell(self, **changes: str | int | bool) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]
        write_status(self._config.state_file, self._status)


@contextlib.contextmanager
def _logging_to(handler: logging.Handler) -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = before
