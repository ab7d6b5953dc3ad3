"""Retry beside the call: how often, how long between, how long in all, and for
which failures.

Own code rather than a library, because `pilot3.tar.gz` runs in field images
that hold only what today's pilot needs, and because a waiting retry must be
woken by an event and obey a budget that can be shortened from outside.
"""

import logging
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock

__all__ = ["AWAY_RETRY", "HASTY_RETRY", "RetryPolicy", "insistence", "retry"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a call is repeated.

    Waits are `uniform(*spread) * min(cap_s, first_s * factor**n)`: full jitter
    unless `spread` says otherwise.

    Attributes
    ----------
    attempts
        Calls in all; 0 means as many as the budget allows.
    first_s, factor, cap_s
        The first wait, its growth, and the largest one, before the spread;
        seconds.
    soon_s
        One repeat about so soon comes before these waits, since most failures
        stand alone; 0 for none. Not after a failure that took as long to come:
        a server with too much to do is not helped by that.
    spread
        Smallest and largest factor of a wait.
    """

    attempts: int = 3
    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0
    soon_s: float = 0.0
    spread: tuple[float, float] = (0.0, 1.0)

    def alone(self, failures: int, took_s: float) -> bool:
        """True if this may have been a failure that stands alone, after which
        `soon_s` is to be waited.
        """
        return failures == 1 and took_s < self.soon_s

    def wait_s(self, failures: int, *, took_s: float = 0.0, asked_s: float = 0.0) -> float:
        """Seconds to wait before the next call.

        Parameters
        ----------
        failures
            How many there were (1 after the first).
        took_s
            How long the last one took to come.
        asked_s
            What the other side asked for (Retry-After). Never less, and up to
            half as much again: those who were sent away together do not come
            back together.
        """
        step = max(0, failures - 2) if self.soon_s else failures - 1
        bound = min(self.cap_s, self.first_s * self.factor ** min(step, 32))
        if self.alone(failures, took_s):
            bound = self.soon_s
        return max(bound * random.uniform(*self.spread), asked_s * random.uniform(1.0, 1.5))


#: For a server that thousands like us may be missing at the same time: soon
#: once, then after 150 to 450 s, 300 to 900 s, and 600 to 1800 s from then on.
#: After an outage of an hour they come back over half an hour, which is as
#: long as a job can wait whose last update was half an hour old when the
#: server went away: PanDA fails it after two hours.
AWAY_RETRY = RetryPolicy(attempts=0, first_s=300.0, cap_s=1_200.0, soon_s=10.0, spread=(0.5, 1.5))

#: For what has to be said within seconds: a pilot that is being killed.
HASTY_RETRY = RetryPolicy(attempts=0, first_s=2.0, cap_s=30.0)
HASTY_S = 600.0


def insistence(budget: Budget) -> RetryPolicy:
    """How something that must be said is repeated within this time."""
    return HASTY_RETRY if budget.left < HASTY_S else AWAY_RETRY


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
        Attempts and waits. One without a number of attempts makes the most of
        the budget: a wait that would outlast it is cut short, for as long as
        there is more left than the first wait, and a wish of the other side
        that would outlast it is not heeded.
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
        began = clock.monotonic()
        try:
            return call()
        except Exception as err:
            asked = again(err)
            failures += 1
            if asked is None or (policy.attempts and failures >= policy.attempts):
                raise
            left = budget.left
            if asked >= left and not policy.attempts:
                # Nobody says after us what must be said. The server is spared
                # as far as that goes: the waits have no upper limit any more.
                asked, policy = 0.0, replace(policy, cap_s=math.inf)
            wait = policy.wait_s(failures, took_s=clock.monotonic() - began, asked_s=asked)
            if wait >= left > max(asked, policy.first_s) and not policy.attempts:
                wait = max(asked, left * random.uniform(0.5, 0.9))
            if wait >= left or stop.is_set():
                raise
            log.warning("%s failed (%s); attempt %d follows in %.1f s", what, err, failures + 1, wait)
            if clock.wait(stop, wait):
                raise
