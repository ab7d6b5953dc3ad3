"""What the pilot can ask of a PanDA server, whatever dialect it speaks.

Threads: one `Server` is shared by all threads of a pilot; each method may be
called from any of them at the same time. Each call takes a `Budget` and is
over when that is: connecting, sending, waiting, reading and the waits between
attempts are all inside it. `stop` interrupts the waits between attempts, not a
request that is under way.

Failures are `ServerError`s (see `errors.py`) and nothing else. After
`ServerUnreachable` the request may or may not have been carried out; every
call here may safely be repeated, except `acquire_job`: a job handed out in an
answer that got lost stays `sent` and is failed by the server after 30 minutes.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pilot_core.base.budget import Budget
from pilot_core.model.report import JobReport, Reply, WorkerState

__all__ = ["JobRequest", "Server"]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What kind of job this pilot can take.

    Attributes
    ----------
    site
        `panda_resource` of the queue.
    computing_element
        The queue as given with `-q`.
    label
        prodSourceLabel.
    disk_mb, memory_mb
        What a job may use here, MB; a job that asks for more is not sent.
    remaining_s
        Seconds this pilot may still live; None for no limit. Sent only where
        the dialect knows the parameter.
    worker_id, harvester_id
        None and "" outside Harvester.
    user
        Jobs of this user only, who is named as on an X.509 certificate.
    """

    site: str
    computing_element: str
    label: str
    node: str
    disk_mb: int
    memory_mb: int
    cpu_mhz: float = 0.0
    resource_type: str = ""
    job_type: str = ""
    working_group: str = ""
    country_group: str = ""
    allow_other_country: bool = False
    task_id: int | None = None
    harvester_id: str = ""
    worker_id: int | None = None
    scheduler_id: str = ""
    remaining_s: int | None = None
    user: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


class Server(Protocol):
    """A PanDA server."""

    def acquire_job(
        self, request: JobRequest, *, budget: Budget, stop: threading.Event
    ) -> Mapping[str, object] | None:
        """Ask for one job: its raw definition, or None if there is none for
        us.

        The definition is the server's flat map (PandaID, transformation,
        jobPars...), values as they came; `jobs/definition.py` reads it.
        """
        ...

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """Send one update; returns only if the server says it has stored it.

        Accepted means HTTP 200, `success` true (v1) and StatusCode 0. A final
        report is insisted on for as long as the budget lasts; another update
        is
        tried a few times only, since the next one follows anyway.

        Raises
        ------
        ServerRefused
            The server will not take this update, however often it is sent.
        """
        ...

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        """Tell that this worker has started or finished.

        Nothing is sent if harvester id or worker id are unknown.
        """
        ...

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        """Store a worker's log in the server's cache, under the file's own
        name.
        """
        ...

    def close(self) -> None:
        """Let go of connections; a second call is harmless."""
        ...
