"""Harvester beside the pilot: what it reads in a shared folder is written
there with each update.

The readers are `SharedFileMessenger` of Harvester and its plug-ins. It reads
without locks and drops what does not parse, so each file appears whole, under
its final name, by a rename.
"""

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.files import write_atomic
from pilot_core.model.report import FileReport, JobReport, Reply, WorkerState
from pilot_core.server import wire_legacy
from pilot_core.server.contract import JobRequest, Server
from pilot_core.server.wire import Definition

__all__ = ["HARVESTER_NAMES", "PILOT3_NAMES", "HarvesterServer", "Names"]

log = logging.getLogger(__name__)

#: Harvester picks up a list of output files within seconds; it renames the
#: file when it has.
ACKNOWLEDGE_S = 60.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Names:
    """File names in the shared folder; the two defaults in the field differ."""

    attributes: str = "worker_attributes.json"
    job_report: str = "jobReport.json"
    files: str = "event_status.dump.json"
    request: str = "worker_requestjob.json"
    kill: str = "kill_worker.json"
    heartbeat: str = "worker_heartbeat.json"
    panda_ids: str = "worker_pandaids.json"


#: What Harvester looks for.
HARVESTER_NAMES = Names()
#: What pilot3 writes: two of them Harvester never finds.
PILOT3_NAMES = replace(HARVESTER_NAMES, kill="kill_worker", heartbeat="pilot_heartbeat.json")


class HarvesterServer:
    """A server that leaves word for Harvester, too; implements
    `contract.Server`.

    Parameters
    ----------
    inner
        Who is told besides: the PanDA server, or nobody (`-z`).
    folder
        Shared with Harvester.
    attributes, files
        Paths of these two files where options name them.
    """

    def __init__(
        self,
        inner: Server,
        folder: Path,
        *,
        clock: Clock,
        names: Names = HARVESTER_NAMES,
        attributes: Path | None = None,
        files: Path | None = None,
    ) -> None:
        self._inner = inner
        self._folder = folder
        self._clock = clock
        self._names = names
        self._attributes = attributes or folder / names.attributes
        self._files = files or folder / names.files
        self._panda_ids: list[int] = []

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        """Ask the inner server, and tell Harvester that a job is wanted."""
        self._write(self._folder / self._names.request, {"nJobs": 1})
        return self._inner.acquire_job(request, budget=budget, stop=stop)

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """Write the shared files, then tell the inner server."""
        self.beat()
        if report.panda_id not in self._panda_ids:
            self._panda_ids.append(report.panda_id)
            self._write(self._folder / self._names.panda_ids, self._panda_ids)
        self._write(self._attributes, _attributes(report))
        if report.metadata:
            self._write(self._folder / self._names.job_report, report.metadata)
        if report.state.final and report.files:
            self._hand_over(report, budget, stop)
        return self._inner.update_job(report, budget=budget, stop=stop)

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        """A worker that has finished asks to be removed."""
        self.beat()
        if state is WorkerState.FINISHED:
            self._write(self._folder / self._names.kill, {})
        self._inner.update_worker(state, site=site, node=node, budget=budget, stop=stop)

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        """As the inner server does."""
        self._inner.upload_worker_log(path, budget=budget, stop=stop)

    def close(self) -> None:
        """As the inner server does."""
        self._inner.close()

    def beat(self) -> None:
        """The worker lives: Harvester looks at the file's time only."""
        self._write(self._folder / self._names.heartbeat, {"last_pilot_update": int(self._clock.time())})

    def _hand_over(self, report: JobReport, budget: Budget, stop: threading.Event) -> None:
        """Name the output files, after Harvester has taken the list before.

        Harvester renames the file to `.read` as acknowledgement; what it has
        not taken in time is handed over again together with the new list.
        """
        # The server is told afterwards, and that must not be too late.
        waited = budget.part(min(ACKNOWLEDGE_S, budget.left / 4), "Harvester's acknowledgement")
        while self._files.exists() and not waited.spent and not stop.is_set():
            self._clock.wait(stop, min(_LOOK_S, waited.left))
        document: dict[str, object] = {str(report.panda_id): [_file(file) for file in report.files]}
        if self._files.exists():
            log.warning("Harvester has not taken %s: its list goes on with ours", self._files)
            document = {**_read(self._files), **document}
        self._write(self._files, document)

    def _write(self, path: Path, document: object) -> None:
        """Write one file; a full or missing folder must not cost the job its
        update.
        """
        try:
            write_atomic(path, document if isinstance(document, str) else json.dumps(document))
        except OSError as err:
            log.error("Harvester will miss %s: %s", path, err.strerror)


def _attributes(report: JobReport) -> Mapping[str, object]:
    """A flat map under the names of updateJob, with the state as
    `jobStatus`.
    """
    body = dict(wire_legacy.update(report, frozenset(), False).body)
    body["jobStatus"] = body.pop("state")
    return body


def _file(file: FileReport) -> Mapping[str, object]:
    """One output as Harvester's stager reads it."""
    return {
        "path": file.surl,
        "type": "log" if file.lfn.endswith((".log.tgz", "log.tgz")) else "output",
        "guid": file.guid,
        "fsize": file.size,
        "chksum": f"ad:{file.adler32}",
        "lfn": file.lfn,
    }


def _read(path: Path) -> Mapping[str, object]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
