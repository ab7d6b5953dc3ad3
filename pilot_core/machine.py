"""The life of one job, decided: events in, actions out. No clock, no I/O, no
threads.

::

    NEW -> PREPARING -> RUNNING -> STOPPING -> WRAPPING_UP -> REPORTING -> DONE
                \\__________________________________/

Each pair of state and event has one line in `_TABLE`. Events come late and
twice (a signal during the upload, an exit after a kill): those pairs are in
the table too and change nothing. A pair that is not there is a mistake of ours
and raises with the story so far. However events come, exactly one ending is
decided, and it is never changed once it was given to `Deliver`.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from pilot_core.actions import (
    Action,
    CancelPreparation,
    Debug,
    Deliver,
    End,
    Ending,
    Hurry,
    Prepare,
    Report,
    Stop,
    WrapUp,
)
from pilot_core.events import (
    Accepted,
    Commanded,
    Crossed,
    Delivered,
    Event,
    Exited,
    NotStarted,
    ServerLost,
    Signalled,
    Started,
    ThreadDied,
    Undelivered,
    WrappedUp,
)
from pilot_core.model.codes import ErrorCode, message
from pilot_core.model.payload import PayloadResult
from pilot_core.model.report import CommandKind, JobState
from pilot_core.model.sample import Verdict

__all__ = ["IllegalEvent", "Machine", "State"]


class State(Enum):
    """Where a job is."""

    NEW = auto()
    PREPARING = auto()
    """Input files, transformation, image, start of the payload."""
    RUNNING = auto()
    STOPPING = auto()
    """The payload, or its preparation, was told to end and has not yet."""
    WRAPPING_UP = auto()
    """The payload is over: last log lines, bundle, upload."""
    REPORTING = auto()
    """The final report is on its way."""
    DONE = auto()


class IllegalEvent(RuntimeError):
    """An event that cannot happen in this state; the message tells the story
    so far.
    """


class Machine:
    """Decides about one job.

    Parameters
    ----------
    grace_s
        Time a payload gets between being asked to end and being killed.
    hurried_grace_s
        The same when the pilot itself is being killed.
    """

    def __init__(self, *, grace_s: float, hurried_grace_s: float = 3.0) -> None:
        self.state = State.NEW
        self._grace_s = grace_s
        self._hurried_grace_s = hurried_grace_s
        self._cause: Verdict | None = None
        self._interruption: Verdict | None = None
        self._result: PayloadResult | None = None
        self._ending: Ending | None = None
        self._delivered = False
        self._hurried = False
        self._story: list[str] = []

    @property
    def done(self) -> bool:
        """True when the last action was given out."""
        return self.state is State.DONE

    @property
    def ending(self) -> Ending | None:
        """The outcome, once decided."""
        return self._ending

    @property
    def delivered(self) -> bool:
        """True if the server has the final report."""
        return self._delivered

    def handle(self, event: Event) -> list[Action]:
        """Take one event; returns what to do now, in order.

        Raises
        ------
        IllegalEvent
            If the event cannot happen in the present state.
        """
        before = self.state
        reaction = _TABLE.get((before, type(event)))
        if reaction is None:
            self._story.append(f"{before.name} <- {event}")
            raise IllegalEvent("; ".join(self._story))
        actions = reaction(self, event)
        self._story.append(f"{before.name} <- {type(event).__name__} -> {self.state.name}")
        return actions

    # Reactions. Each takes the event as `object` because one table holds all.

    def _accept(self, _: object) -> list[Action]:
        self.state = State.PREPARING
        return [Report(JobState.STARTING), Prepare()]

    def _run(self, _: object) -> list[Action]:
        self.state = State.RUNNING
        return [Report(JobState.RUNNING)]

    def _started_too_late(self, _: object) -> list[Action]:
        """Cancelled while starting, yet it started: end it at once."""
        return [Stop(self._hurried_grace_s if self._hurried else self._grace_s)]

    def _over(self, event: object) -> list[Action]:
        """The payload ended, or never began."""
        if isinstance(event, NotStarted):
            self._result = PayloadResult(exit_code=0, code=event.code, diag=event.diag)
        elif isinstance(event, Exited):
            # 143 would be the pilot's own doing: retry rules of the server go
            # by what a payload said, and pilot3 sends 0 here, too.
            ours = self._cause is not None
            self._result = replace(event.result, exit_code=0) if ours else event.result
        self.state = State.WRAPPING_UP
        return [WrapUp()]

    def _command(self, event: object) -> list[Action]:
        assert isinstance(event, Commanded)
        command = event.command
        if command.kind in _KILLS:
            return self._kill(Verdict(ErrorCode.PANDAKILL, _KILLS[command.kind]))
        if command.kind in _DEBUGS:
            return [Debug(command)]
        return []

    def _cross(self, event: object) -> list[Action]:
        assert isinstance(event, Crossed)
        return self._kill(event.verdict)

    def _lose_server(self, event: object) -> list[Action]:
        assert isinstance(event, ServerLost)
        diag = f"no update was accepted for {event.seconds:.0f} s: the server has given the job up"
        return self._kill(Verdict(ErrorCode.COMMUNICATIONFAILURE, diag))

    def _lose_thread(self, event: object) -> list[Action]:
        assert isinstance(event, ThreadDied)
        return self._kill(Verdict(ErrorCode.INTERNALPILOTPROBLEM, event.why))

    def _kill(self, cause: Verdict) -> list[Action]:
        """End the payload for a reason; the first reason is the one that is
        told.
        """
        self._cause = self._cause or cause
        if self.state is State.PREPARING:
            self.state = State.STOPPING
            return [CancelPreparation()]
        if self.state is State.RUNNING:
            self.state = State.STOPPING
            return [Stop(self._grace_s)]
        return []

    def _die(self, event: object) -> list[Action]:
        """The pilot is being killed while the payload lives: the report goes
        first.
        """
        assert isinstance(event, Signalled)
        again, self._hurried = self._hurried, True
        if again:
            return [Hurry(event.seconds), Stop(0.0)]
        self._cause = self._cause or Verdict(event.code, event.diag)
        preparing = self.state is State.PREPARING
        self.state = State.STOPPING
        end: Action = CancelPreparation() if preparing else Stop(self._hurried_grace_s)
        return [Hurry(event.seconds), Deliver(self._decide()), end]

    def _die_after_payload(self, event: object) -> list[Action]:
        """The pilot is being killed while it wraps up: less time for the same
        steps.
        """
        assert isinstance(event, Signalled)
        self._hurried = True
        self._interruption = Verdict(event.code, event.diag)
        return [Hurry(event.seconds)]

    def _kill_after_payload(self, event: object) -> list[Action]:
        """Killed by the server while wrapping up: the logs are kept, the
        outcome is theirs.
        """
        assert isinstance(event, Commanded)
        if event.command.kind in _KILLS:
            self._cause = self._cause or Verdict(ErrorCode.PANDAKILL, _KILLS[event.command.kind])
        return []

    def _wrapped(self, event: object) -> list[Action]:
        assert isinstance(event, WrappedUp)
        if self._delivered:
            return self._end(event)
        self.state = State.REPORTING
        if self._ending is not None:
            return [Deliver(self._ending)]
        return [Deliver(self._decide(event))]

    def _deliver_early(self, _: object) -> list[Action]:
        """The report went first; the rest of the wrap-up is still under way."""
        self._delivered = True
        return []

    def _deliver(self, event: object) -> list[Action]:
        self._delivered = True
        return self._end(event)

    def _end(self, _: object) -> list[Action]:
        self.state = State.DONE
        return [End()]

    def _ignore(self, _: object) -> list[Action]:
        return []

    def _decide(self, wrapped: WrappedUp | None = None) -> Ending:
        """The one ending: who killed it comes before how it exited, and that
        before the upload.
        """
        result = self._result or PayloadResult(exit_code=0)
        code, diag, late = result.code, result.diag, self._interruption
        if self._cause is not None:
            code, diag = self._cause.code, self._cause.diag
        elif late is not None and _signalled(result):
            # What ends the worker often reaches the payload first. Its exit
            # code is no word of its own then, see `_over`.
            code, diag, result = late.code, f"{late.diag}; {diag}", replace(result, exit_code=0)
        elif code is ErrorCode.NONE and wrapped is not None and wrapped.code is not ErrorCode.NONE:
            # A finished job needs all its files; one that was interrupted on
            # the way to storage failed for the interruption.
            code, diag = (late.code, f"{late.diag}; {wrapped.diag}") if late else (wrapped.code, wrapped.diag)
        state = JobState.FINISHED if code is ErrorCode.NONE else JobState.FAILED
        told = PayloadResult(
            exit_code=result.exit_code,
            code=code,
            diag=diag or message(code),
            exe_code=result.exe_code,
            exe_diag=result.exe_diag,
        )
        self._ending = Ending(state, told)
        return self._ending


def _signalled(result: PayloadResult) -> bool:
    """True if SIGINT, SIGTERM or SIGKILL ended the payload, and nothing says
    why.
    """
    return result.code is ErrorCode.PAYLOADEXECUTIONFAILURE and result.exit_code in (130, 137, 143)


_KILLS = {
    CommandKind.KILL: "killed by the PanDA server (tobekilled)",
    CommandKind.SOFT_KILL: "killed by the PanDA server (softkill)",
    CommandKind.ALREADY_DONE: "the PanDA server has a final report of this job from somebody else",
}
_DEBUGS = (CommandKind.DEBUG, CommandKind.DEBUG_OFF, CommandKind.DEBUG_COMMAND)

Reaction = Callable[[Machine, object], list[Action]]

_LATE = (Commanded, Crossed, ServerLost, ThreadDied)

_TABLE: dict[tuple[State, type], Reaction] = {
    (State.NEW, Accepted): Machine._accept,
    (State.PREPARING, Started): Machine._run,
    (State.PREPARING, NotStarted): Machine._over,
    (State.RUNNING, Exited): Machine._over,
    (State.STOPPING, Started): Machine._started_too_late,
    (State.STOPPING, NotStarted): Machine._over,
    (State.STOPPING, Exited): Machine._over,
    **{(state, Commanded): Machine._command for state in (State.PREPARING, State.RUNNING, State.STOPPING)},
    **{(state, Crossed): Machine._cross for state in (State.PREPARING, State.RUNNING, State.STOPPING)},
    **{
        (state, ServerLost): Machine._lose_server
        for state in (State.PREPARING, State.RUNNING, State.STOPPING)
    },
    **{
        (state, ThreadDied): Machine._lose_thread
        for state in (State.PREPARING, State.RUNNING, State.STOPPING)
    },
    **{(state, Signalled): Machine._die for state in (State.PREPARING, State.RUNNING, State.STOPPING)},
    # The report that went first comes back while the payload is being ended.
    (State.STOPPING, Delivered): Machine._deliver_early,
    (State.STOPPING, Undelivered): Machine._ignore,
    (State.WRAPPING_UP, Delivered): Machine._deliver_early,
    (State.WRAPPING_UP, Undelivered): Machine._ignore,
    (State.WRAPPING_UP, WrappedUp): Machine._wrapped,
    (State.WRAPPING_UP, Signalled): Machine._die_after_payload,
    (State.WRAPPING_UP, Commanded): Machine._kill_after_payload,
    **{(State.WRAPPING_UP, late): Machine._ignore for late in _LATE[1:]},
    (State.REPORTING, Delivered): Machine._deliver,
    (State.REPORTING, Undelivered): Machine._end,
    (State.REPORTING, Signalled): Machine._die_after_payload,
    **{(State.REPORTING, late): Machine._ignore for late in _LATE},
    **{(State.DONE, late): Machine._ignore for late in (*_LATE, Signalled, Delivered, Undelivered)},
}
