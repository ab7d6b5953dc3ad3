"""What a job is given and what it gives back; plain data, made once per pilot
by `app.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from container.contract import Container, Engine
from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.redact import Redactor
from pilot_core.events import Event, Signalled
from pilot_core.experiments.contract import Experiment
from pilot_core.ledger import Ledger
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadKind
from pilot_core.model.queue import Queue
from pilot_core.model.report import JobState, Node
from pilot_core.server.contract import Server
from pilot_core.storage.logs import LogUploader
from pilot_core.watch import Watch
from pilot_core.wrapup import Wrapper

if TYPE_CHECKING:
    from pilot_core.logship.contract import Sink
    from pilot_core.logship.shipper import LogShipper

__all__ = ["Drain", "JobOutcome", "JobTools", "PilotEvent", "Signal"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal arrived; all that the handler does is to leave this."""

    number: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish the job at hand and take no other."""


#: What can be in the pilot's inbox while a job runs.
PilotEvent = Event | Signal | Drain


@dataclass(frozen=True, slots=True)
class JobTools:
    """What a job needs of the world; made once per pilot by `app.py`.

    Attributes
    ----------
    engine_for
        Engine for a kind of payload; NodeError if there is none.
    stage_in
        Fetches a job's inputs into a folder.
    shipper_for
        Real-time log shipper of a job and its sink, or None if it is off.
    watch_for
        Watches a started container.
    wrapper_for
        Steps after the payload; looks for the storage within the budget.
    owner
        Labels that say which pilot something belongs to.
    log_prefix_for
        Where a job's logs go, and the copytool; may ask the network.
    uploader_for
        Stores logs with a copytool below a prefix; StorageError if there is
        none.
    debug_output
        Carries out a debug command below a job's folder, or on its payload.
    alive
        Called at least every `TICK_S` seconds: the main loop still turns.
    why
        What a signal means: an order to end, or a preempted node.
    """

    server: Server
    experiment: Experiment
    ledger: Ledger
    redactor: Redactor
    clock: Clock
    node: Node
    owner: Callable[[], Mapping[str, str]]
    engine_for: Callable[[PayloadKind], Engine]
    stage_in: Callable[[Job, Queue, Path, Budget], None]
    shipper_for: "Callable[[Job, JobPaths], tuple[LogShipper, Sink] | None]"
    watch_for: Callable[[Job, Queue, JobPaths, Container, float], Watch]
    wrapper_for: "Callable[[Job, Queue, JobPaths, LogShipper | None, Budget], Wrapper]"
    log_prefix_for: Callable[[Job, Queue, Budget], tuple[str, str]]
    uploader_for: Callable[[str, str, JobPaths], LogUploader]
    debug_output: Callable[[str, JobPaths, Container | None], str]
    alive: Callable[[], None]
    why: Callable[[Signal], Signalled]


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended for the pilot.

    Attributes
    ----------
    signal
        The signal's code if the pilot is being killed, else NONE.
    delivered
        True if the server has the final report.
    complete
        True if all log files are stored.
    drain
        True if the pilot was asked to take no other job.
    keep
        True if the server asked for the job's folder to stay.
    waited_s
        How long the final report took to be delivered.
    """

    state: JobState
    code: ErrorCode
    delivered: bool
    complete: bool
    signal: ErrorCode = ErrorCode.NONE
    drain: bool = False
    keep: bool = False
    waited_s: float = 0.0
