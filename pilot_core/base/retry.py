"""Retry beside the call: how often, how long between, how long in all, and for
which failures.

Own code rather than a library, because `pilot3.tar.gz` runs in field images
that hold only what today's pilot needs, and because a waiting retry must be
woken by an event and obey a budget that can be shortened from outside.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock

__all__ = ["RetryPolicy", "retry"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a call is repeated. Waits are `uniform(0, min(cap, first *
    factor**n))`: full jitter.

    Attributes
    ----------
    attempts
        Calls in all; 0 means as many as the budget allows.
    first_s, factor, cap_s
        Upper bound of the first wait, its growth, and the largest bound;
        seconds.
    """

    attempts: int = 3
    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures (1 for the first)."""
        bound = min(self.cap_s, self.first_s * self.factor ** min(failures - 1, 32))
        return random.uniform(0.0, bound)


def retry(
    call: Callable[[], T],
    *,
    policy: RetryPolicy,
    again: Callable[[Exception], float | None],
    clock: Clock,
    budget: Budget,
    stop: threading.Event,
    what: str,
) -> T:
    """Call until it works, the failure is final, or time or attempts run out.

    Parameters
    ----------
    call
        What to do; raises on failure.
    policy
        Attempts and waits.
    again
        Judges a failure: None means final, a number means worth another try
        after at least so many seconds (0 where the server did not say).
    budget
        Time for all attempts and waits.
    stop
        Set from outside to give up waiting; the last failure is raised.
    what
        The call in words, for the log.

    Raises
    ------
    Exception
        The last failure of `call`.
    """
    failures = 0
    while True:
        try:
            return call()
        except Exception as err:
            asked = again(err)
            failures += 1
            if asked is None or (policy.attempts and failures >= policy.attempts):
                raise
            wait = max(asked, policy.wait_s(failures))
            if wait >= budget.left or stop.is_set():
                raise
            log.warning("%s failed (%s); attempt %d follows in %.1f s", what, err, failures + 1, wait)
            if clock.wait(stop, wait):
                raise
