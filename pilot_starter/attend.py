"""The main thread stays awake for signals while a thread does what takes time."""

import math
import signal
from collections.abc import Callable
from typing import Generic, TypeVar

from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope
from pilot_starter.child import ENDING, FORWARDED

__all__ = ["Abandoned", "attended"]

T = TypeVar("T")


class Abandoned(TimeoutError):
    """The work did not end in time after a signal; its thread is left behind."""


class _Outcome(Generic[T]):
    """What the thread came to."""

    def __init__(self) -> None:
        self.results: list[T] = []
        self.error: Exception | None = None
        self.over = False


def attended(
    name: str,
    work: Callable[[], T],
    *,
    inbox: Inbox[signal.Signals],
    on_signal: Callable[[signal.Signals], None],
    clock: Clock,
    patience_s: float,
    limit_s: float = math.inf,
) -> T:
    """Do `work` in a thread; ending signals that arrive meanwhile go to
    `on_signal`, others stay for whoever is next.

    `on_signal` must bring `work` to an end: set its event, shorten its budget.
    A request that is under way cannot be interrupted, so that `work` is
    abandoned if it has not ended `patience_s` seconds after the first signal,
    or
    `limit_s` seconds after its start.

    Raises
    ------
    Abandoned
        It was.
    Exception
        What `work` raised.
    """
    outcome: _Outcome[T] = _Outcome()

    def body() -> None:
        try:
            outcome.results.append(work())
        except Exception as err:  # noqa: BLE001 - raised again below, in the main thread
            outcome.error = err
        finally:
            outcome.over = True
            # Any event wakes the main thread; this one asks for nothing else.
            inbox.put(signal.SIGCHLD)

    deadline = clock.monotonic() + limit_s
    later: list[signal.Signals] = []
    with Scope("starter", join_s=0.2) as scope:
        scope.spawn(name, body)
        while not outcome.over:
            left = deadline - clock.monotonic()
            if left <= 0.0:
                raise Abandoned(f"{name} did not end in time")
            signum = inbox.get(min(60.0, left))
            if signum in ENDING:
                deadline = min(deadline, clock.monotonic() + patience_s)
                on_signal(signum)
            elif signum in FORWARDED:
                later.append(signum)
    for signum in later:
        inbox.put(signum)
    if outcome.error is not None:
        raise outcome.error
    return outcome.results[0]
