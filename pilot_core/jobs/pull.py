"""Jobs pulled from the server, one at a time."""

import logging
import random
import threading
from collections.abc import Mapping
from enum import Enum, auto
from typing import Protocol

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import AWAY_RETRY
from pilot_core.config import JobsConfig
from pilot_core.errors import ServerError
from pilot_core.jobs.definition import read_definition
from pilot_core.model.job import Job

__all__ = ["Acquire", "Ending", "PullSource"]

log = logging.getLogger(__name__)


class Acquire(Protocol):
    """Asks the server for one job: its raw definition, or None."""

    def __call__(self, *, budget: Budget, stop: threading.Event) -> Mapping[str, object] | None: ...


class Ending(Enum):
    """Why `PullSource.next` came back without a job."""

    NO_JOBS = auto()
    """The server had none, as often as asked (-v, -x)."""
    STOPPED = auto()
    """Somebody set `stop`."""
    TIME_OVER = auto()
    """The next request would have come after the end of the budget."""


class PullSource:
    """Asks until there is a job, or there is none for too long.

    Parameters
    ----------
    acquire
        One request, with what this pilot can take just then.
    config
        `requests` (-v) requests in a row without a job end it, or `failures`
        (-x) of them if that is less: pilot3 counts "no jobs" as a failure, and
        sites have set how long a slot may be idle by either. So do `failures`
        failed ones. A request that works makes the failures
        before it forgotten: a server that was away for an hour is no reason
        to give up five hours later. Waits are spread, so that pilots do not
        come in step: after "no jobs" evenly between two bounds, after a
        failure as `AWAY_RETRY` says.

    Attributes
    ----------
    ended
        Why the last `next` returned None.
    """

    renewable = True

    def __init__(self, acquire: Acquire, *, config: JobsConfig, clock: Clock) -> None:
        self._acquire = acquire
        self._config = config
        self._clock = clock
        self.ended: Ending | None = None

    def next(self, *, budget: Budget, stop: threading.Event) -> Job | None:
        """See `contract.JobSource`.

        Raises the last failure when -x is reached, or when the budget does not
        last until the next request.
        """
        self.ended = None
        empty = failures = 0
        most_empty = min(self._config.requests, self._config.failures)
        while not stop.is_set():
            began = self._clock.monotonic()
            try:
                raw = self._acquire(budget=budget, stop=stop)
            except ServerError as err:
                failures += 1
                took_s = self._clock.monotonic() - began
                wait = AWAY_RETRY.wait_s(failures, took_s=took_s, asked_s=err.retry_after_s)
                if failures >= self._config.failures or wait >= budget.left:
                    raise
                log.warning(
                    "no answer to a request for a job (%d of %d): %s", failures, self._config.failures, err
                )
            else:
                failures = 0
                if raw is not None:
                    return read_definition(raw)
                empty += 1
                if empty >= most_empty:
                    return self._end(Ending.NO_JOBS)
                wait = random.uniform(*self._config.no_job_wait_s)
                log.info("no job for us (%d of %d)", empty, most_empty)
                if wait >= budget.left:
                    return self._end(Ending.TIME_OVER)
            log.info("the next request follows in %.0f s", wait)
            self._clock.wait(stop, wait)
        return self._end(Ending.STOPPED)

    def _end(self, ending: Ending) -> Job | None:
        self.ended = ending
        log.info("no job: %s", ending.name.lower().replace("_", " "))
        return None
