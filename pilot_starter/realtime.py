"""RealTimeLogger: ships the worker's log while the worker lives.

From the first line of the starter to the last and whatever the pilot does, so
that the log is readable although the pod was killed or its upload failed.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.redact import Redactor
from pilot_core.base.scope import Scope
from pilot_core.errors import PilotError
from pilot_core.logship.contract import ShipCounts, Sink, Source
from pilot_core.logship.shipper import LogShipper, ShipSettings
from pilot_starter.workerlog import WorkerRecords

__all__ = ["RealTimeLogger"]

log = logging.getLogger(__name__)

# For the thread's end, without and with its time being over.
_JOIN_S = 2.0
_LEAST_S = 0.2


class RealTimeLogger:
    """A `with` block during which the worker's log is shipped from a thread of
    its own.

    A sink that cannot be reached, or not even be built, is said in the log;
    the pilot notices nothing of it.

    Parameters
    ----------
    path
        The worker's log.
    state_dir
        Where the position is remembered.
    open_sink
        Builds the sink; called in the thread, because the client libraries
        take their time. None: nothing is shipped.
    interval_s
        Time between two looks at the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        state_dir: Path,
        open_sink: Callable[[], Sink] | None,
        interval_s: float,
        hostname: str,
        redactor: Redactor,
        clock: Clock,
    ) -> None:
        self._path = path
        self._position = state_dir / "worker-log.position"
        self._open_sink = open_sink
        self._interval_s = interval_s
        self._hostname = hostname
        self._redactor = redactor
        self._clock = clock
        self._shipper: LogShipper | None = None
        self._last: Budget | None = None
        self._built = threading.Event()
        # Its death is said by the scope and is nobody else's business.
        self._scope = Scope(
            "starter", join_s=_JOIN_S, on_death=lambda _name, _err: self._built.set(), clock=clock
        )

    def __enter__(self) -> "RealTimeLogger":
        if self._open_sink is not None:
            self._scope.spawn("realtime", self._ship, self._open_sink)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A service that hangs has had its time: the worker's end is counted.
        seconds = _JOIN_S if self._last is None else max(_LEAST_S, self._last.left)
        self._scope.stop(min(_JOIN_S, seconds))

    def counts(self) -> ShipCounts | None:
        """What became of the records so far; None if nothing is shipped."""
        return self._shipper.counts() if self._shipper is not None else None

    def finish(self, budget: Budget) -> None:
        """Ship what is in the file now, within `budget`, and say what became
        of it.
        """
        self._last = budget
        if self._open_sink is None:
            return
        if not self._clock.wait(self._built, budget.left):
            log.warning("worker log: its sink was not ready in time, nothing was shipped")
        elif self._shipper is not None:
            self._shipper.finish(budget)

    def _ship(self, open_sink: Callable[[], Sink]) -> None:
        try:
            sink = open_sink()
        except (PilotError, ValueError) as err:
            log.error("the worker log is not shipped: %s", err)
            self._built.set()
            return
        try:
            self._shipper = LogShipper(
                [self._path],
                self._records,
                sink,
                checkpoint=self._position,
                clock=self._clock,
                settings=ShipSettings(interval_s=self._interval_s),
            )
            self._built.set()
            self._shipper.run(self._scope.stopping)
        finally:
            sink.close()

    def _records(self, source: Source) -> WorkerRecords:
        return WorkerRecords(source, hostname=self._hostname, redactor=self._redactor)
