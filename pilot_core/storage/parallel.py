"""Several transfers at a time, each with its own outcome, all within one
budget.
"""

import functools
import logging
import queue
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.scope import Scope
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode

__all__ = ["Outcomes", "columns", "each", "in_turn"]

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
P = TypeVar("P")

# How often the waiting thread looks at a budget that may be shortened.
_LOOK_S = 0.1
# An abandoned transfer sits in a foreign call: there is nothing to wait for.
_JOIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcomes(Generic[K, R]):
    """What became of each item; every one is in one of the two, in the order
    given.
    """

    done: dict[K, R] = field(default_factory=dict)
    failed: dict[K, StorageError] = field(default_factory=dict)


def each(
    items: Sequence[K],
    call: Callable[[K], R],
    *,
    name: str,
    workers: int,
    budget: Budget,
    clock: Clock,
    late: ErrorCode,
) -> Outcomes[K, R]:
    """Call `call` for each item, in order, `workers` at a time.

    Returns when all is said, or when the budget is over: a call that is still
    under way then is abandoned and counted as failed. One failure stops no
    other call.

    Parameters
    ----------
    name
        Prefix of the threads' names.
    budget
        May be shortened from another thread meanwhile.
    late
        Code of what was not done in time.
    """
    run = _Run(items, call, late)
    started, planned_s = clock.monotonic(), budget.left
    with Scope(name, join_s=_JOIN_S, clock=clock) as scope:
        for number in range(min(workers, len(items))):
            scope.spawn(str(number), run.work, budget, scope.stopping)
        while not run.over.is_set() and not budget.spent:
            clock.wait(run.over, min(_LOOK_S, budget.left))
        return run.outcomes(_too_late(budget.name, clock.monotonic() - started, planned_s))


def in_turn(
    items: Sequence[K],
    call: Callable[[K, P, Budget], R],
    places: Sequence[Mapping[K, P]],
    *,
    name: str,
    workers: int,
    budget: Budget,
    clock: Clock,
    late: ErrorCode,
) -> Outcomes[K, R]:
    """Like `each`, with a place for each item; what fails there goes to the
    next one.

    Parameters
    ----------
    places
        In order of preference; an item that a place does not know is passed
        over there. The first one knows all. Each gets an equal part of the
        time that is left, so that one that hangs leaves some to the next.
    """
    done: dict[K, R] = {}
    failed: dict[K, StorageError] = {}
    for number, place in enumerate(places):
        wanted = [item for item in items if item in place and item not in done]
        if not wanted or (number > 0 and budget.spent):
            continue
        if number > 0:
            log.info("%s: %d files are tried at alternative %d", name, len(wanted), number)
        part = budget.part(budget.left / (len(places) - number), budget.name)
        found = each(
            wanted,
            functools.partial(_at_place, call, place, part),
            name=name,
            workers=workers,
            budget=part,
            clock=clock,
            late=late,
        )
        done |= found.done
        failed |= found.failed
    return Outcomes(
        {item: done[item] for item in items if item in done},
        {item: failed[item] for item in items if item in failed and item not in done},
    )


def columns(rows: Mapping[K, Sequence[P]]) -> list[dict[K, P]]:
    """For `in_turn`: the first place of each item, then the second of those
    that have one...
    """
    longest = max((len(places) for places in rows.values()), default=0)
    return [{item: row[n] for item, row in rows.items() if n < len(row)} for n in range(longest)]


def _at_place(call: Callable[[K, P, Budget], R], place: Mapping[K, P], budget: Budget, item: K) -> R:
    return call(item, place[item], budget)


class _Run(Generic[K, R]):
    """One series: to do and done. Shared by its threads."""

    def __init__(self, items: Sequence[K], call: Callable[[K], R], late: ErrorCode) -> None:
        self.over = threading.Event()
        self._items = items
        self._call = call
        self._late = late
        self._todo: queue.SimpleQueue[K] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._found: Outcomes[K, R] = Outcomes()
        for item in items:
            self._todo.put(item)
        if not items:
            self.over.set()

    def work(self, budget: Budget, stop: threading.Event) -> None:
        """Body of a thread: item after item until none is left."""
        while not stop.is_set() and not budget.spent:
            try:
                item = self._todo.get_nowait()
            except queue.Empty:
                return
            self._attempt(item)

    def _attempt(self, item: K) -> None:
        """One item; whatever goes wrong with it stays its own affair."""
        try:
            result = self._call(item)
        except StorageError as err:
            self._fail(item, err)
        except BudgetSpent as err:
            self._fail(item, StorageError(f"{item}: {err}", self._late))
        except OSError as err:
            self._fail(item, StorageError(f"{item}: {err}", ErrorCode.FILEHANDLINGFAILURE))
        except Exception as err:
            # A defect in one tool must not cost the other files.
            log.exception("transfer of %s failed in an unforeseen way", item)
            self._fail(item, StorageError(f"{item}: {type(err).__name__}: {err}"))
        else:
            with self._lock:
                self._found.done[item] = result
                self._check()

    def _fail(self, item: K, err: StorageError) -> None:
        log.warning("transfer of %s failed: %s", item, err.diag)
        with self._lock:
            self._found.failed[item] = err
            self._check()

    def _check(self) -> None:
        if len(self._found.done) + len(self._found.failed) == len(self._items):
            self.over.set()

    def outcomes(self, said: str) -> Outcomes[K, R]:
        """What is known, in the order of the items; `said` of the rest."""
        with self._lock:
            done = {item: self._found.done[item] for item in self._items if item in self._found.done}
            failed = {
                item: self._found.failed.get(item) or StorageError(f"{item}: {said}", self._late)
                for item in self._items
                if item not in done
            }
        return Outcomes(done, failed)


def _too_late(name: str, took_s: float, planned_s: float) -> str:
    """Why an item was given up: the time was over, or a signal cut it short."""
    said = f"{name}: given up after {took_s:.0f} s"
    return said if took_s >= planned_s - _LOOK_S else f"{said} of {planned_s:.0f} s: the pilot had to hurry"
