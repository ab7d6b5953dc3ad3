"""How everything is stopped: ask once, wait for the end or the grace, kill."""

import logging
import threading
from collections.abc import Callable

from container.contract import KILL_S
from pilot_core.base.clock import Clock

__all__ = ["Stopping"]

log = logging.getLogger(__name__)

# How soon a shortened grace takes effect, and how often a kill is repeated.
_LOOK_S = 0.1


class Stopping:
    """One stop of one payload, however many threads ask for it.

    The first caller does the work. Later ones shorten its grace if theirs is
    smaller, and wait for it. None waits longer than the grace plus `KILL_S`.

    Parameters
    ----------
    name
        The payload, for the log.
    ask
        Ask it to end; called once; may fail silently.
    over
        Wait at most so many seconds; True as soon as nothing of it runs.
    kill
        Kill all of it that can be found; repeated until `over`, because what
        is killed may just have started something else.
    clock
        Source of time.
    """

    def __init__(
        self,
        name: str,
        *,
        ask: Callable[[], None],
        over: Callable[[float], bool],
        kill: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._name = name
        self._ask = ask
        self._over = over
        self._kill = kill
        self._clock = clock
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._deadline: float | None = None

    def run(self, grace_s: float) -> bool:
        """Stop it; True if nothing of it runs any more."""
        mine = self._clock.monotonic() + max(0.0, grace_s)
        with self._lock:
            first = self._deadline is None
            self._deadline = mine if self._deadline is None else min(self._deadline, mine)
        if not first:
            self._clock.wait(self._finished, max(0.0, grace_s) + KILL_S)
            return self._over(0.0)
        try:
            return self._stop()
        finally:
            self._finished.set()

    def _left(self) -> float:
        with self._lock:
            return (self._deadline or 0.0) - self._clock.monotonic()

    def _stop(self) -> bool:
        if self._over(0.0):
            return True
        # Without grace nobody could answer the question.
        if self._left() > 0:
            self._ask()
        while (left := self._left()) > 0:
            if self._over(min(left, _LOOK_S)):
                return True
        log.warning("%s did not end within its grace and is killed", self._name)
        end = self._clock.monotonic() + KILL_S
        while True:
            begun = self._clock.monotonic()
            self._kill()
            if self._over(_LOOK_S):
                return True
            # A kill that waits for a silent daemon takes time of its own: none
            # is begun that would end too late.
            now = self._clock.monotonic()
            if now + (now - begun) > end:
                log.error("%s: something of it still runs %.0f s after the kill", self._name, KILL_S)
                return False
