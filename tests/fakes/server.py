"""A PanDA server without HTTP, with the real one's rules for the states of a
job.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.errors import ServerRefused, ServerUnreachable
from pilot_core.local.rows import WorkerRow
from pilot_core.local.store import Store
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server import wire_v1
from pilot_core.server.answer import judge_code
from pilot_core.server.commands import read_reply
from pilot_core.server.contract import JobRequest

__all__ = ["FakeServer", "SkippingClock"]

T = TypeVar("T")


class SkippingClock:
    """The machine's clock, but a wait sets it forward instead of waiting."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()
        #: Every wait, seconds.
        self.waits: list[float] = []

    def time(self) -> float:
        return time.time() + self._ahead

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def wait(self, event: threading.Event, seconds: float) -> bool:
        with self._lock:
            if not event.is_set():
                self._ahead += max(0.0, seconds)
                self.waits.append(seconds)
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))


class FakeServer:
    """Implements `contract.Server`; what it knows of jobs is in `store`.

    Parameters
    ----------
    fail
        Asked before each call with its name and its number (1 for the first):
        an exception it returns is raised, and nothing else happens. With
        `after` the call is carried out first: the answer got lost.
    store
        `store.submit(definition)`, `.kill(id)`, `.job(id)`, `.updates(id)`...
    """

    def __init__(
        self,
        *,
        fail: Callable[[str, int], Exception | None] = lambda _verb, _number: None,
        after: bool = False,
        store: Store | None = None,
        harvester_id: str = "",
        worker_id: int | None = None,
    ) -> None:
        self.store = store or Store(Path(":memory:"))
        self.calls: Counter[str] = Counter()
        self.reports: list[JobReport] = []
        self.logs: dict[str, bytes] = {}
        self.closed = False
        self._fail = fail
        self._after = after
        self._worker = (harvester_id, worker_id)
        self._lock = threading.Lock()

    def acquire_job(
        self, request: JobRequest, *, budget: Budget, stop: threading.Event
    ) -> Mapping[str, object] | None:
        return self._call("acquire_job", lambda: self._acquire(request), budget)

    def _acquire(self, request: JobRequest) -> Mapping[str, object] | None:
        jobs = self.store.acquire(wire_v1.acquire(request, frozenset()).body)
        return {"StatusCode": 0, **jobs[0]} if jobs else None

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        return self._call("update_job", lambda: self._update(report), budget)

    def _update(self, report: JobReport) -> Reply:
        verdict = self.store.update(wire_v1.update(report, frozenset(), False).body)
        if "meta_data" in verdict.message:
            verdict = self.store.update(wire_v1.update(report, frozenset({"meta_data"}), False).body)
        error = judge_code(verdict.code, verdict.message)
        if error is not None:
            raise error
        self.reports.append(report)
        reply: dict[str, object] = {"command": verdict.command}
        if "debug" in verdict.command.split(","):
            reply["pilotSecrets"] = self.store.job(report.panda_id).definition.get("pilotSecrets")
        return read_reply(reply)

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        harvester_id, worker_id = self._worker
        if not harvester_id or worker_id is None:
            return
        row = WorkerRow(time.time(), harvester_id, str(worker_id), str(state), node, site)
        self._call("update_worker", lambda: self.store.worker(row), budget)

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        def store() -> None:
            if path.name in self.logs:
                raise ServerRefused("ERROR: cannot overwrite file")
            try:
                self.logs[path.name] = path.read_bytes()
            except OSError as err:
                raise ServerRefused(f"{path}: {err.strerror}") from err

        self._call("upload_worker_log", store, budget)

    def close(self) -> None:
        self.closed = True

    def _call(self, verb: str, action: Callable[[], T], budget: Budget) -> T:
        with self._lock:
            self.calls[verb] += 1
            error = self._fail(verb, self.calls[verb])
            if budget.spent:
                raise ServerUnreachable("no time left for a request")
            if error is None:
                return action()
            if self._after:
                action()
            raise error
