"""Credentials that are about to end are renewed in time, by whoever talks next.

Where they are not ours to renew, their end is said while there is time left
for whoever does. A running payload is never stopped for it: it does not use
the pilot's credentials, and the server takes the next update that comes with
a good one. (pilot3 looks each 10 min, renews at 40 min, and kills the payload
once the certificate has ended; its plug-in for Rubin does none of it.)
"""

import logging
import threading
from pathlib import Path
from typing import Protocol

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.retry import AWAY_RETRY
from pilot_core.errors import ServerError
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server.auth import Credential
from pilot_core.server.contract import JobRequest, Server
from pilot_core.server.wire import Definition

__all__ = ["RenewableServer", "RenewingServer"]

log = logging.getLogger(__name__)

#: Renewed when less than this is left, or than half of what a fresh one has,
#: if that is less. A heartbeat comes every half hour: eight chances, and a
#: source that is away for hours costs nothing, as with final reports.
RENEW_S = 4 * 3_600.0

#: Between two looks; after a failure, as `AWAY_RETRY` says.
AGAIN_S = 600.0

#: One attempt, and its share of the time that the request behind it has: a
#: source that hangs must not cost each heartbeat.
ATTEMPT_S = 60.0
SHARE = 1 / 3


class RenewableServer(Server, Protocol):
    """A server whose credentials may be renewed."""

    def lifetimes(self) -> dict[Credential, float]:
        """Seconds each credential is still good; without the unknown ones."""
        ...

    def renew(self, credential: Credential, *, budget: Budget, stop: threading.Event) -> bool:
        """Exchange it; False if that is not ours to do."""
        ...


class RenewingServer:
    """Renews before a request when it is time; implements `contract.Server`.

    A renewal that fails is said and tried again later: the old credential is
    still good, and a final report never waits for it.
    """

    def __init__(self, inner: RenewableServer, *, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._lock = threading.Lock()
        self._look_at = float("-inf")
        self._failures = 0
        # For credentials that live so short that `RENEW_S` would be always.
        self._early: dict[Credential, float] = {}

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        """As the inner server, after a look at the credentials."""
        self._renew(budget, stop)
        return self._inner.acquire_job(request, budget=budget, stop=stop)

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """As the inner server, after a look at the credentials."""
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

    def look(self) -> None:
        """Say how long each credential is good.

        Raises
        ------
        NotAuthorised
            The one that the server is to see cannot be read.
        """
        for credential, left in self._inner.lifetimes().items():
            if left <= 0:
                log.error("%s", _said(credential, left))
            else:
                log.info("%s", _said(credential, left))

    def _renew(self, budget: Budget, stop: threading.Event) -> None:
        with self._lock:
            began = self._clock.monotonic()
            if began < self._look_at:
                return
            self._look_at = began + AGAIN_S
        try:
            lifetimes = self._inner.lifetimes()
        except ServerError as err:
            log.warning("how long the credentials are good is not known: %s", err)
            return
        due = [(name, left) for name, left in lifetimes.items() if left < self._early.get(name, RENEW_S)]
        failed = [name for name, left in due if not self._renew_one(name, left, budget, stop)]
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            if failed:
                now = self._clock.monotonic()
                self._look_at = now + AWAY_RETRY.wait_s(self._failures, took_s=now - began)

    def _renew_one(self, credential: Credential, left: float, budget: Budget, stop: threading.Event) -> bool:
        """False if it is to be tried again soon."""
        said = _said(credential, left)
        try:
            part = budget.part(min(ATTEMPT_S, SHARE * budget.left), f"{credential} renewal")
            if self._inner.renew(credential, budget=part, stop=stop):
                log.info("%s: it was renewed", said)
                self._early[credential] = min(RENEW_S, self._inner.lifetimes().get(credential, 0.0) / 2)
            else:
                log.warning("%s, and renewing it is not ours to do", said)
        except (ServerError, BudgetSpent) as err:
            log.warning("%s, and was not renewed: %s", said, err)
            return False
        return True


def _said(credential: Credential, left: float) -> str:
    if left <= 0:
        return f"the {credential} ended {-left:.0f} s ago"
    return f"the {credential} is good for {left / 3_600:.1f} h"
