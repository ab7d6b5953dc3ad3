"""Nobody to talk to (`-z`): what would have been said is left in a file.

Sites whose nodes have no network run the pilot so; ARC's control tower reads
the file and tells the server (pilot3, `control/job.py`).
"""

# ruff: noqa: ARG002 - the arguments are the contract's, of use or not

import json
import logging
import threading
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.files import write_atomic
from pilot_core.errors import ServerUnreachable
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server import wire_legacy
from pilot_core.server.contract import JobRequest
from pilot_core.server.wire import Definition

__all__ = ["SilentServer"]

log = logging.getLogger(__name__)


class SilentServer:
    """Implements `contract.Server` without a server.

    Parameters
    ----------
    path
        `heartbeat.json`: the latest update under the names of updateJob, which
        is what its readers know. Written whole or not at all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        """There is never a job: with `-z`, jobs are pushed."""
        return None

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """Write the update down.

        Raises
        ------
        ServerUnreachable
            The file cannot be written.
        """
        body = wire_legacy.update(report, frozenset(), False).body
        try:
            write_atomic(self._path, json.dumps(body, indent=1) + "\n")
        except OSError as err:
            raise ServerUnreachable(f"{self._path}: {err.strerror}") from err
        log.info("job %d is %s: written to %s", report.panda_id, report.state, self._path)
        return Reply()

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        """Nobody is told."""

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        """The log stays where it is."""

    def close(self) -> None:
        """Nothing is open."""
