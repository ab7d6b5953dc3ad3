"""A call that may not come back in time, in a thread of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope

__all__ = ["attended"]

T = TypeVar("T")

# How soon a wish to stop is noticed, and how long the thread is waited for
# then.
_LOOK_S = 0.1
_JOIN_S = 0.1


def attended(call: Callable[[], T], *, name: str, budget: Budget, clock: Clock, stop: threading.Event) -> T:
    """What `call` returns or raises; left behind at the end of `budget` or on
    `stop`.

    For clients whose timeout starts again with each byte: a server that sends
    one now and then is never too slow for them.

    Raises
    ------
    BudgetSpent
        It did not come back in time.
    InterruptedError
        `stop` was set first.
    """
    answers: Inbox[tuple[T, None] | tuple[None, Exception]] = Inbox()

    def body() -> None:
        try:
            answers.put((call(), None))
        except Exception as err:  # noqa: BLE001 - raised again below, in the caller's thread
            answers.put((None, err))

    with Scope(name, join_s=_JOIN_S, clock=clock) as scope:
        scope.spawn("call", body)
        while not stop.is_set():
            answer = answers.get(budget.timeout(_LOOK_S))
            if answer is not None:
                value, error = answer
                if error is not None:
                    raise error
                return value  # type: ignore[return-value]
    raise InterruptedError(f"{name}: given up")
