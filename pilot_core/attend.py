"""One thing at a time, done in a thread, while the main thread hears signals.

Whatever may block between jobs (the server, queue data, engines, storage)
happens in a thread of a `Scope`; the main thread only waits for its inbox.
From the first signal on one allowance of time bounds all that is left to do.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope
from pilot_core.events import Signalled
from pilot_core.jobtools import Drain, PilotEvent, Signal
from pilot_core.model.codes import ErrorCode

__all__ = ["JOIN_S", "AgentEvent", "Answer", "Attendant", "Killed"]

T = TypeVar("T")

#: After a signal an answer is waited for so long.
LAST_ANSWER_S = 3.0

#: The answer to a request for a job is waited for longer, up to so much before
#: the end: it may bring a job, which then needs a failed report from us. Kept
#: back for that report and for the farewell. Of the 8 s that a pilot has on
#: Kubernetes, 6 are for the answer.
REFUSAL_S = 2.0

TICK_S = 10.0

#: For the end of a thread that has answered, or whose answer nobody waits for.
JOIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a thread of the agent brings back: a value or a failure.

    `question` is the thread's own mark: an answer that nobody waits for any
    more may come while another one is waited for.
    """

    question: object
    value: object = None
    error: Exception | None = None


AgentEvent = PilotEvent | Answer


class Killed(Exception):
    """A signal ends the pilot; `late` is the answer that still came, if one
    did.
    """

    def __init__(self, why: Signalled, late: object) -> None:
        super().__init__(why.diag)
        self.why = why
        self.late = late


class Attendant:
    """Waits for one answer at a time and hears signals meanwhile.

    Parameters
    ----------
    whole
        All the time there is; the first signal shortens it.
    alive
        Called at least every `TICK_S` seconds: the main loop still turns.
    why
        What a signal means, and how long there is from now.
    drain_file
        Says once it exists what SIGUSR2 says.

    Attributes
    ----------
    draining
        True once no further job is wanted.
    """

    def __init__(
        self,
        *,
        inbox: Inbox[AgentEvent],
        clock: Clock,
        whole: Budget,
        alive: Callable[[], None],
        why: Callable[[Signal], Signalled],
        drain_file: Path | None = None,
    ) -> None:
        self._inbox = inbox
        self._clock = clock
        self._whole = whole
        self._alive = alive
        self._why = why
        self._drain_file = drain_file
        self.draining = False

    def wait(self, name: str, work: Callable[[threading.Event], T], *, asking: bool = False) -> T:
        """What `work` returns or raises, done in a thread: signals are heard
        here.

        `work` gets an event that is set when it should come to an end.

        Parameters
        ----------
        asking
            `work` asks for a job: a drain ends it, and after a signal its
            answer is worth waiting for.

        Raises
        ------
        Killed
            A signal came; the answer was waited for a little longer.
        """
        question = object()
        killed: Signalled | None = None
        limit = self._whole
        late: object = None
        with Scope("agent", clock=self._clock, join_s=JOIN_S) as scope:
            scope.spawn(name, self._answer, question, work, scope.stopping)
            while not limit.spent:
                self._alive()
                if asking and self._drain_file is not None and self._drain_file.exists():
                    self.draining = True
                if asking and self.draining:
                    scope.stopping.set()
                event = self._inbox.get(min(TICK_S, limit.left))
                if isinstance(event, Signal):
                    why = self._why(event)
                    killed = killed or why
                    scope.stopping.set()
                    self._whole.shorten(why.seconds)
                    last_s = max(LAST_ANSWER_S, self._whole.left - REFUSAL_S) if asking else LAST_ANSWER_S
                    limit = limit.part(last_s, "last answer")
                elif isinstance(event, Drain):
                    self.draining = True
                elif isinstance(event, Answer) and event.question is question:
                    late = event
                    break
        if killed is not None or not isinstance(late, Answer):
            raise Killed(killed or Signalled(ErrorCode.NONE, "the time is over", 0.0), late)
        if late.error is not None:
            raise late.error
        return late.value  # type: ignore[return-value]

    def _answer(
        self, question: object, work: Callable[[threading.Event], object], stop: threading.Event
    ) -> None:
        try:
            answer = Answer(question, value=work(stop))
        except Exception as err:  # noqa: BLE001 - raised again where it is waited for
            answer = Answer(question, error=err)
        self._inbox.put(answer)
