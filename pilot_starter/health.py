"""Is the worker well? Answered from files, for probes and for people."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pilot_core.base.files import write_atomic
from pilot_core.base.procs import alive

__all__ = ["HEARTBEAT", "Health", "WorkerStatus", "examine", "heartbeat_fresh", "read_status", "write_status"]

log = logging.getLogger(__name__)

#: Touched by the pilot's main loop, in its home (pilot3 writes the same name).
HEARTBEAT = "pilot_heartbeat.json"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What the starter tells about itself, beside the worker's log.

    Attributes
    ----------
    phase
        `preparing`, `running`, `closing` or `ended`.
    pid, pid_ticks
        The starter; with its start in clock ticks, which names it for good.
    started
        Epoch seconds.
    fallback
        The pilot of the image runs because another could not be had.
    listening
        Address of `/healthz` and `/metrics`; empty if there is none.
    """

    phase: str
    pid: int
    pid_ticks: int
    queue: str
    worker_log: str
    home: str
    started: float
    worker_id: int | None = None
    pilot_pid: int | None = None
    pilot_source: str = ""
    fallback: bool = False
    listening: str = ""
    end: str = ""

    @property
    def living(self) -> bool:
        """True while that starter runs on this machine."""
        return alive(self.pid, self.pid_ticks)


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict and its reason."""

    well: bool
    reason: str


def write_status(path: Path, status: WorkerStatus) -> None:
    """Replace the file; a full disk costs the probe its news and nothing else."""
    try:
        write_atomic(path, json.dumps(asdict(status), indent=1) + "\n")
    except OSError as err:
        log.warning("%s cannot be written: %s", path, err.strerror or err)


def read_status(path: Path) -> WorkerStatus | None:
    """What the starter wrote last; None if there is nothing of use."""
    try:
        data: Mapping[str, Any] = json.loads(path.read_text())
        return WorkerStatus(**data)
    except (OSError, ValueError, TypeError):
        return None


def examine(*, status_file: Path, worker_log: Path, silent_s: float, now: float | None = None) -> Health:
    """Well if the worker's log or the pilot's heartbeat moved within
    `silent_s` s.
    """
    status = read_status(status_file)
    if status is not None:
        worker_log = Path(status.worker_log)
        if status.phase != "ended" and not status.living:
            return Health(False, f"the starter (pid {status.pid}) is gone")
    watched = [worker_log] + ([Path(status.home) / HEARTBEAT] if status is not None else [])
    moved = max((_mtime(path) for path in watched), default=0.0)
    if not moved:
        return Health(False, f"there is no {worker_log}")
    age = (time.time() if now is None else now) - moved
    if age > silent_s:
        return Health(False, f"nothing moved for {age:.0f} s (limit {silent_s:.0f} s)")
    return Health(True, f"{status.phase if status else 'alive'}, moved {max(0.0, age):.0f} s ago")


def heartbeat_fresh(home: Path, *, silent_s: float, now: float) -> bool:
    """True unless there is a heartbeat file and it is old; not all pilots
    write one.
    """
    moved = _mtime(home / HEARTBEAT)
    return not moved or now - moved <= silent_s


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
