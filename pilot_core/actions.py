"""What a job's machine asks for: actions, carried out by `jobrun.py`. Plain
data.
"""

from dataclasses import dataclass

from pilot_core.model.payload import PayloadResult
from pilot_core.model.report import Command, JobState

__all__ = [
    "Action",
    "CancelPreparation",
    "Debug",
    "Deliver",
    "End",
    "Ending",
    "Hurry",
    "Prepare",
    "Report",
    "Stop",
    "WrapUp",
]


@dataclass(frozen=True, slots=True)
class Ending:
    """The outcome of the job; decided once."""

    state: JobState
    result: PayloadResult


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the server this state."""

    state: JobState


@dataclass(frozen=True, slots=True)
class Prepare:
    """Get everything and start the payload; answers with Started or
    NotStarted.
    """


@dataclass(frozen=True, slots=True)
class CancelPreparation:
    """Stop preparing; NotStarted or, if it was too late, Started still
    follows.
    """


@dataclass(frozen=True, slots=True)
class Stop:
    """End the payload: ask, wait `grace_s`, kill; Exited follows."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Debug:
    """Carry out a debug command, or end debug mode."""

    command: Command


@dataclass(frozen=True, slots=True)
class WrapUp:
    """Drain, bundle, upload; WrappedUp follows."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """Whatever is under way has `seconds` left."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send the final report; Delivered or Undelivered follows."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do."""


Action = Report | Prepare | CancelPreparation | Stop | Debug | WrapUp | Hurry | Deliver | End
