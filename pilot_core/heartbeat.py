"""Updates of a running job: on time, from their own thread, whatever the
payload does.
"""

import logging
import random
import threading
from collections.abc import Callable

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import AWAY_RETRY
from pilot_core.config import HeartbeatConfig
from pilot_core.errors import ServerError, ServerRefused
from pilot_core.model.report import JobReport, JobState, Reply
from pilot_core.server.contract import Server

__all__ = ["Heartbeat"]

log = logging.getLogger(__name__)

#: One update, with all its attempts, may take so long; it is short of the
#: shortest period, so that a hanging server delays a heartbeat but never
#: stacks them up.
UPDATE_S = 50.0

#: A heartbeat comes after so much of its period, or up to all of it: pilots
#: that were started in step do not stay in step.
EARLIEST = 0.8


class Heartbeat:
    """Tells the server that the job lives, and hears what the server wants.

    `run` is the body of a thread of the job's scope. `say` asks for an update
    now, `quiet` ends all of them; both may be called from any thread.

    Parameters
    ----------
    report
        Makes the report of a state with today's numbers.
    heard
        Called with each accepted reply, in the heartbeat's thread.
    lost
        Called once with the seconds since the last accepted update when they
        exceed `config.lost_s`.
    """

    def __init__(
        self,
        server: Server,
        *,
        report: Callable[[JobState], JobReport],
        heard: Callable[[Reply], None],
        lost: Callable[[float], None],
        config: HeartbeatConfig,
        clock: Clock,
    ) -> None:
        self._server = server
        self._report = report
        self._heard = heard
        self._lost = lost
        self._config = config
        self._clock = clock
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[JobState] = []
        self._state: JobState | None = None
        self._under_way: Budget | None = None
        self._quiet = threading.Event()
        self._debug = False
        self._failures = 0
        # How long the last failure took to come, what the server asked for.
        self._took_s = self._asked_s = 0.0
        self._told: JobState | None = None
        self._accepted = clock.monotonic()
        self._told_lost = False

    @property
    def silent_s(self) -> float:
        """Seconds since the server last accepted an update."""
        return self._clock.monotonic() - self._accepted

    def say(self, state: JobState) -> None:
        """Send this state as soon as what is under way is done; states go out
        in order.
        """
        with self._lock:
            self._waiting.append(state)
        self._wake.set()

    def debug(self, on: bool) -> None:
        """Switch to the debug period, and send the first debug output now; or
        back.
        """
        self._debug = on
        with self._lock:
            # A state that waits goes out now anyway, and no older one after it.
            again = self._state if on and not self._waiting else None
        if again is not None:
            self.say(again)

    def quiet(self) -> None:
        """Send nothing more, give up what is under way: the final report is
        next.
        """
        self._quiet.set()
        under_way = self._under_way
        if under_way is not None:
            under_way.shorten(0.0)
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Thread body; ends when `stop` or `quiet` is set."""
        while not (stop.is_set() or self._quiet.is_set()):
            if self._clock.wait(self._wake, self._pause_s()):
                self._wake.clear()
            if stop.is_set() or self._quiet.is_set():
                return
            self._send(self._next_state(), stop)

    def _pause_s(self) -> float:
        if self._waiting:
            return 0.0
        period = self._config.debug_period_s if self._debug else self._config.period_s
        period *= random.uniform(EARLIEST, 1.0)
        if not self._failures:
            return period
        # A failure that stands alone costs seconds. A server that is away for
        # longer learns by the next heartbeat that the job lives, which it
        # waits two hours for; only a state that it has not heard of (a job
        # that is `sent` to us is failed after half an hour) is told earlier.
        again = AWAY_RETRY.wait_s(self._failures, took_s=self._took_s, asked_s=self._asked_s)
        news = self._state is not self._told
        return min(again, period) if news or AWAY_RETRY.alone(self._failures, self._took_s) else period

    def _next_state(self) -> JobState | None:
        with self._lock:
            if self._waiting:
                self._state = self._waiting.pop(0)
            if self._waiting:
                self._wake.set()
        return self._state

    def _send(self, state: JobState | None, stop: threading.Event) -> None:
        if state is None:
            return
        report = self._report(state)
        self._under_way = Budget(self._clock, UPDATE_S, f"update {state}")
        if self._quiet.is_set():
            return
        began = self._clock.monotonic()
        try:
            reply = self._server.update_job(report, budget=self._under_way, stop=self._quiet)
        except ServerRefused as err:
            # Sending the same again is no use, but the next one may pass.
            self._fail(began, err)
            log.error("the server refused the update %s: %s", state, err)
        except ServerError as err:
            self._fail(began, err)
            if self._quiet.is_set():
                return
            log.warning("update %s not delivered: %s", state, err)
        else:
            self._failures = 0
            self._told = state
            self._told_lost = False
            self._accepted = self._clock.monotonic()
            self._heard(reply)
        if self.silent_s > self._config.lost_s and not self._told_lost and not stop.is_set():
            self._told_lost = True
            self._lost(self.silent_s)

    def _fail(self, began: float, err: ServerError) -> None:
        self._failures += 1
        self._took_s = self._clock.monotonic() - began
        self._asked_s = err.retry_after_s
