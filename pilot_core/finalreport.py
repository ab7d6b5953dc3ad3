"""The report that ends a job, until the server has it; with haste once the
pilot is being killed.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import replace

from pilot_core import events
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.retry import insistence, retry
from pilot_core.errors import PilotError, ServerRefused
from pilot_core.events import Event
from pilot_core.jobthreads import JobThreads
from pilot_core.model.report import JobReport
from pilot_core.server.contract import Server

__all__ = ["FinalReport", "breather_s", "deliver"]

log = logging.getLogger(__name__)

#: Of the time left when the pilot is killed: what a report may take that hangs
#: just then.
HANGING = 1 / 3

#: Longest pause after a final report that had to wait, in units of its wait
#: and in seconds.
BREATHER = 2.0
LONGEST_BREATHER_S = 1_800.0


class FinalReport:
    """Delivers it from a thread of its own, and tells what became of it.

    All methods are for the thread that handles the job's events.

    Parameters
    ----------
    whole
        All the time the pilot has.
    seconds
        Time for the report.
    tell
        Takes `Delivered` or `Undelivered`.

    Attributes
    ----------
    under_way
        True from `start` until `answered`.
    waited_s
        How long the delivery took.
    """

    def __init__(
        self, server: Server, *, whole: Budget, seconds: float, tell: Callable[[Event], None]
    ) -> None:
        self.under_way = False
        self.waited_s = 0.0
        self._server = server
        self._whole = whole
        self._seconds = seconds
        self._tell = tell
        self._haste = threading.Event()
        self._patient = whole

    def start(self, threads: JobThreads, report: JobReport) -> None:
        """Deliver it in a thread of the job."""
        self.under_way = True
        self._haste = threading.Event()
        budget = self._whole.part(self._seconds, "final report")
        # What hangs when haste begins must not take all that is left then.
        self._patient = budget.part(budget.left, budget.name)
        # Undelivered it stays in the ledger, for the next pilot.
        died: Callable[[str], None] = lambda why: self._tell(events.Undelivered(why))  # noqa: E731
        threads.spawn("final", self._insist, report, self._patient, budget, self._haste, on_death=died)

    def hasten(self, seconds: float) -> None:
        """The pilot has so many seconds left: an attempt under way is cut
        short, and nothing waits any more.
        """
        self._haste.set()
        if self.under_way:
            self._patient.shorten(seconds * HANGING)

    def answered(self) -> None:
        """Its `Delivered` or `Undelivered` was handled."""
        self.under_way = False

    def _insist(self, report: JobReport, patient: Budget, budget: Budget, haste: threading.Event) -> None:
        event: Event
        try:
            self.waited_s = self._deliver(report, patient, budget, haste)
        except (PilotError, BudgetSpent) as err:
            log.error("the final report of job %d was not delivered: %s", report.panda_id, err)
            event = events.Undelivered(str(err))
        else:
            log.info("the server has the final report of job %d: %s", report.panda_id, report.state)
            event = events.Delivered()
        self._tell(event)

    def _deliver(self, report: JobReport, patient: Budget, budget: Budget, haste: threading.Event) -> float:
        """Deliver; once there is haste, again with what is then left of the
        budget, which is so little that nothing waits long. The seconds it
        took.
        """
        began_s = budget.clock.monotonic()
        try:
            deliver(self._server, report, budget=patient, stop=haste)
        except (PilotError, BudgetSpent):
            if not haste.is_set():
                raise
            deliver(self._server, report, budget=budget, stop=threading.Event())
        return budget.clock.monotonic() - began_s


def deliver(server: Server, report: JobReport, *, budget: Budget, stop: threading.Event) -> None:
    """Get the final report accepted.

    The server's client repeats it until the server says that it has stored it,
    or the budget is over. A report that is refused as such is sent once more
    without all that is not needed to end the job; where it is not clear what
    the server means, both are tried again for as long as there is time.

    Raises
    ------
    ServerError, BudgetSpent
        If it could not be delivered; the report stays in the ledger then.
    """

    def send() -> None:
        try:
            server.update_job(report, budget=budget, stop=stop)
        except ServerRefused as err:
            log.error("the server refused the final report (%s); trying the bare one", err)
            server.update_job(bare(report), budget=budget, stop=stop)

    retry(
        send,
        policy=insistence(budget),
        again=lambda err: 0.0 if isinstance(err, ServerRefused) and err.unclear else None,
        clock=budget.clock,
        budget=budget,
        stop=stop,
        what=f"the final report of job {report.panda_id}",
    )


def bare(report: JobReport) -> JobReport:
    """Only what ends the job: no text that could be too long, no numbers that
    could be out of range.
    """
    return replace(
        report,
        log_tail="",
        stdout="",
        metrics="",
        metadata="",
        timing=(),
        usage=type(report.usage)(),
        cores=1,
    )


def breather_s(waited_s: float) -> float:
    """Seconds for which a pilot neither asks for a job nor makes room for
    another pilot, after a final report that had to wait so long.

    The others' reports come just now, and a new job is three requests more:
    those of a fleet are spread over twice the time that the server was away
    (`benchmarks/fleet_server.py`).
    """
    return random.uniform(0.0, min(BREATHER * waited_s, LONGEST_BREATHER_S))
