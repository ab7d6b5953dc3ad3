"""A token that is about to end is exchanged in time, by whoever talks next."""

import logging
import threading
from pathlib import Path
from typing import Protocol

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.errors import ServerError
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server.contract import JobRequest, Server
from pilot_core.server.wire import Definition

__all__ = ["RenewableServer", "RenewingServer"]

log = logging.getLogger(__name__)

#: Renewed when less than this is left. pilot3 renews each hour; a heartbeat
#: comes every half hour, so three chances remain.
RENEW_S = 2 * 3_600.0

#: Between two attempts.
AGAIN_S = 600.0

#: One attempt; the update that waits for it has its own budget.
ATTEMPT_S = 60.0


class RenewableServer(Server, Protocol):
    """A server whose credential may be renewed."""

    def credential_left_s(self) -> float | None:
        """Seconds the credential is still good; None if unknown."""
        ...

    def refresh_token(self, *, budget: Budget, stop: threading.Event) -> bool:
        """Exchange the token; False if there is no key to do so."""
        ...


class RenewingServer:
    """Renews before a request when it is time; implements `contract.Server`.

    A renewal that fails is said and tried again later: the old token is
    still good, and a final report never waits for it.
    """

    def __init__(self, inner: RenewableServer, *, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._lock = threading.Lock()
        self._tried = float("-inf")

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        """As the inner server, after a look at the token."""
        self._renew(budget, stop)
        return self._inner.acquire_job(request, budget=budget, stop=stop)

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """As the inner server, after a look at the token."""
        if not report.state.final:
            self._renew(budget, stop)
        return self._inner.update_job(report, budget=budget, stop=stop)

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        """As the inner server."""
        self._inner.update_worker(state, site=site, node=node, budget=budget, stop=stop)

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        """As the inner server."""
        self._inner.upload_worker_log(path, budget=budget, stop=stop)

    def close(self) -> None:
        """As the inner server."""
        self._inner.close()

    def _renew(self, budget: Budget, stop: threading.Event) -> None:
        with self._lock:
            now = self._clock.monotonic()
            if now - self._tried < AGAIN_S:
                return
            self._tried = now
        try:
            left = self._inner.credential_left_s()
            if left is None or left > RENEW_S:
                return
            if self._inner.refresh_token(budget=budget.part(ATTEMPT_S, "token refresh"), stop=stop):
                log.info("the token was renewed; it had %.0f s left", left)
            else:
                log.warning("the credential ends in %.0f s and there is no key to renew it", left)
        except (ServerError, BudgetSpent) as err:
            log.warning("the token was not renewed: %s", err)
