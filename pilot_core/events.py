"""What can happen to a job: the events its machine takes. Plain data.

Threads and signal handlers leave them in the inbox; the main thread alone
takes them out.
"""

from dataclasses import dataclass

from pilot_core.model.codes import ErrorCode
from pilot_core.model.payload import PayloadResult
from pilot_core.model.report import Command
from pilot_core.model.sample import Verdict

__all__ = [
    "Accepted",
    "Commanded",
    "Crossed",
    "Delivered",
    "Event",
    "Exited",
    "NotStarted",
    "ServerLost",
    "Signalled",
    "Started",
    "ThreadDied",
    "Undelivered",
    "WrappedUp",
]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job is ours."""


@dataclass(frozen=True, slots=True)
class Started:
    """The payload runs."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Preparation ended without a running payload; `code` says why."""

    code: ErrorCode
    diag: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The payload is over and nothing of it runs any more; judged by the
    experiment.
    """

    result: PayloadResult


@dataclass(frozen=True, slots=True)
class Commanded:
    """The server's reply to an update held a command."""

    command: Command


@dataclass(frozen=True, slots=True)
class Crossed:
    """A limit was crossed."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Signalled:
    """The pilot is being killed: all that remains must fit into `seconds`."""

    code: ErrorCode
    diag: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ServerLost:
    """No update was accepted for so long that the job is no longer ours."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ThreadDied:
    """A thread without which the job cannot go on ended with an exception."""

    why: str


@dataclass(frozen=True, slots=True)
class WrappedUp:
    """Logs and files are stored, or not: `code` is NONE if all that matters
    is.
    """

    code: ErrorCode = ErrorCode.NONE
    diag: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The server has the final report."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Time for the final report is over, or the server refuses it for good."""

    why: str


Event = (
    Accepted
    | Started
    | NotStarted
    | Exited
    | Commanded
    | Crossed
    | Signalled
    | ServerLost
    | ThreadDied
    | WrappedUp
    | Delivered
    | Undelivered
)
