"""What the pilot counts about itself, for whoever watches workers.

Numbers under short names, `jobs/failed/1201` or `log/payload/sent`, which
`pulse.py` writes into the pilot's heartbeat file; the starter reads them there
and serves them to Prometheus. Counters only grow while the pilot lives.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.errors import ServerError
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server.contract import JobRequest, Server

if TYPE_CHECKING:
    from pilot_core.logship.contract import ShipCounts

__all__ = ["CountedServer", "Vitals"]

T = TypeVar("T")


class Vitals:
    """Counters and readings; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, float] = {}
        self._log: Callable[[], ShipCounts] | None = None

    def count(self, name: str, by: float = 1) -> None:
        """Add to a counter."""
        if by:
            with self._lock:
                self._numbers[name] = self._numbers.get(name, 0) + by

    def put(self, name: str, value: float) -> None:
        """Replace a reading."""
        with self._lock:
            self._numbers[name] = value

    def watch_log(self, counts: Callable[[], "ShipCounts"]) -> None:
        """A job's log is shipped from now on; what became of the one before is
        added up.
        """
        with self._lock:
            before, self._log = self._log, counts
        if before is not None:
            for name, value in _of_log(before()).items():
                self.count(name, value)

    def uploaded(self, stored: int, failed: int) -> None:
        """Log files went to their storage, or did not."""
        self.count("uploads/stored", stored)
        self.count("uploads/failed", failed)

    def document(self) -> dict[str, float]:
        """All of them, now."""
        with self._lock:
            numbers, counts = dict(self._numbers), self._log
        if counts is None:
            return numbers
        told = counts()
        # What waits of the log in hand is not lost.
        for name, value in {**_of_log(told), "log/payload/lost_bytes": 0}.items():
            numbers[name] = numbers.get(name, 0) + value
        numbers["log/payload/waiting_bytes"] = told.left_bytes
        numbers["log/payload/behind_s"] = told.behind_s
        return numbers


def _of_log(counts: "ShipCounts") -> Mapping[str, float]:
    """Counters of a log that is over."""
    return {
        "log/payload/sent": counts.sent,
        "log/payload/repeated": counts.repeated,
        "log/payload/rejected": counts.rejected,
        "log/payload/lost_bytes": counts.left_bytes,
    }


class CountedServer:
    """Passes everything on and counts it; implements `server.contract.Server`."""

    def __init__(self, inner: Server, vitals: Vitals, *, clock: Clock) -> None:
        self._inner = inner
        self._vitals = vitals
        self._clock = clock

    def acquire_job(
        self, request: JobRequest, *, budget: Budget, stop: threading.Event
    ) -> Mapping[str, object] | None:
        """As the inner server."""
        return self._counted(
            "acquire_job", lambda: self._inner.acquire_job(request, budget=budget, stop=stop)
        )

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """As the inner server; an end that it took is counted by state and
        code.
        """
        reply = self._counted("update_job", lambda: self._inner.update_job(report, budget=budget, stop=stop))
        if report.state.final:
            self._vitals.count(f"jobs/{report.state}/{int(report.code)}")
        return reply

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        """As the inner server; not counted: it may have nothing to say."""
        self._inner.update_worker(state, site=site, node=node, budget=budget, stop=stop)

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        """As the inner server; a pilot never asks for it."""
        self._inner.upload_worker_log(path, budget=budget, stop=stop)

    def close(self) -> None:
        """As the inner server."""
        self._inner.close()

    def _counted(self, call: str, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except (ServerError, BudgetSpent):
            self._vitals.count(f"requests/{call}/failed")
            raise
        self._vitals.count(f"requests/{call}/ok")
        self._vitals.put("server/answered", self._clock.time())
        return answer
