"""The pilot's life: next job, run it, wrap it up; and when to stop asking.

Runs in the main thread. Whatever may block (asking the server) happens in a
thread of a `Scope`; the main thread only waits for its inbox, so that a signal
is heard at once in every phase.
"""

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pilot_core import loglines
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope
from pilot_core.compile import job_paths
from pilot_core.config import Config
from pilot_core.errors import BadJob, NodeError, PilotError, ServerError, SetupError
from pilot_core.info.contract import Information
from pilot_core.jobrun import Drain, JobOutcome, JobRun, JobTools, PilotEvent, Signal
from pilot_core.jobs.contract import JobSource
from pilot_core.ledger import HeldJob, last_report
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.queue import Queue
from pilot_core.model.report import JobReport, JobState, WorkerState
from pilot_core.wrapup import deliver

__all__ = ["Agent", "Asked"]

log = logging.getLogger(__name__)

#: Worker status is a courtesy: it may not cost more than this.
WORKER_STATUS_S = 15.0

#: Queue data, from all sources with all their retries.
INFO_S = 180.0

#: After a signal the answer to a running request for a job is waited for so
#: long: it may bring a job, which then needs a failed report from us.
LAST_ANSWER_S = 3.0

#: A failed report for a job that was never run, or of an earlier life.
LAST_WORD_S = 60.0

#: With less than this left to live the pilot asks for no further job.
SHORTEST_JOB_S = 300.0

TICK_S = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer to a request for a job: a job, nothing, or a failure."""

    job: Job | None = None
    error: PilotError | None = None


AgentEvent = PilotEvent | Asked


class Agent:
    """One pilot.

    Parameters
    ----------
    make_source
        Makes the job source once the queue is known.
    open_engines
        Looks for container engines and removes what dead pilots left on the node.
    """

    def __init__(
        self,
        *,
        config: Config,
        tools: JobTools,
        information: Information,
        make_source: Callable[[Queue], JobSource],
        open_engines: Callable[[], None],
        inbox: Inbox[AgentEvent],
        clock: Clock,
    ) -> None:
        self._config = config
        self._tools = tools
        self._information = information
        self._make_source = make_source
        self._open_engines = open_engines
        self._inbox = inbox
        self._clock = clock
        self._born = clock.monotonic()
        self._jobs_done = 0

    def run(self) -> ErrorCode:
        """Live; returns the code for the process's exit. Never raises PilotError."""
        with Scope("pilot", clock=self._clock, join_s=WORKER_STATUS_S) as scope:
            scope.spawn("worker-status", self._tell_worker, WorkerState.STARTED)
            try:
                code = self._live()
            except PilotError as err:
                log.error("%s", err)
                code = err.code
        self._tell_worker(WorkerState.FINISHED)
        return code

    def _live(self) -> ErrorCode:
        queue = self._information.queue(
            self._config.worker.queue, budget=Budget(self._clock, INFO_S, "queue data")
        )
        self._check_queue(queue)
        self._settle_earlier_life()
        self._open_engines()
        source = self._make_source(queue)
        while True:
            self._check_space()
            asked_s = self._clock.time()
            answer = self._ask(source)
            if isinstance(answer, ErrorCode):
                return answer
            if answer is None:
                return ErrorCode.NONE
            outcome = self._work(answer, queue, asked_s)
            if outcome.signal:
                return outcome.signal
            reason = self._reason_to_end(queue, source, drain=outcome.drain)
            if reason:
                log.info("no further job: %s", reason)
                return ErrorCode.NONE

    # --- before the first job -----------------------------------------------

    def _tell_worker(self, state: WorkerState) -> None:
        if not self._config.worker.send_worker_status:
            return
        budget = Budget(self._clock, WORKER_STATUS_S, "worker status")
        try:
            self._tools.server.update_worker(
                state,
                site=self._config.worker.queue,
                node=self._tools.node.name,
                budget=budget,
                stop=threading.Event(),
            )
        except (ServerError, BudgetSpent) as err:
            log.warning("worker status %s not delivered: %s", state, err)

    def _check_queue(self, queue: Queue) -> None:
        if queue.state.upper() != "ACTIVE":
            raise SetupError(
                f"queue {queue.name} has state {queue.state}, not ACTIVE", ErrorCode.PANDAQUEUENOTACTIVE
            )
        if queue.status.lower() == "offline":
            raise SetupError(f"queue {queue.name} is offline", ErrorCode.PANDAQUEUENOTONLINE)

    def _check_space(self) -> None:
        free_mb = shutil.disk_usage(self._config.worker.home).free // 2**20
        if free_mb < self._config.jobs.min_free_mb:
            needed = self._config.jobs.min_free_mb
            raise NodeError(
                f"{self._config.worker.home} has {free_mb} MB free, {needed} MB are needed",
                ErrorCode.NOLOCALSPACE,
            )

    def _settle_earlier_life(self) -> None:
        """Send the last word for a job that an earlier pilot in this directory left open."""
        held = self._tools.ledger.held()
        if held is None:
            return
        if held.owner_alive():
            raise SetupError(
                f"{self._tools.ledger.path} belongs to the running pilot {held.pid}", ErrorCode.GENERALERROR
            )
        if self._last_word(held):
            self._tools.ledger.clear()

    def _last_word(self, held: HeldJob) -> bool:
        diag = f"the pilot (pid {held.pid}) died while the job was at stage {held.stage!r}"
        report = last_report(held, code=ErrorCode.KILLSIGNAL, diag=diag, end_s=self._clock.time())
        log.warning(
            "job %d of an earlier life is reported %s: %s", report.panda_id, report.state, report.diag
        )
        return self._deliver(report)

    def _deliver(self, report: JobReport) -> bool:
        budget = Budget(self._clock, LAST_WORD_S, "last word")
        try:
            deliver(self._tools.server, report, budget=budget, stop=threading.Event())
        except (ServerError, BudgetSpent) as err:
            log.error("the report of job %d was not delivered: %s", report.panda_id, err)
            return False
        return True

    # --- asking -------------------------------------------------------------

    def _ask(self, source: JobSource) -> Job | ErrorCode | None:
        """A job, the code to end with, or None for an ordinary end without a job."""
        with Scope("ask", clock=self._clock, join_s=LAST_ANSWER_S) as scope:
            scope.spawn("source", self._ask_source, source, scope.stopping)
            drain = False
            while True:
                self._tools.alive()
                event = self._inbox.get(TICK_S)
                if isinstance(event, Asked):
                    return self._answer(event)
                if isinstance(event, Signal):
                    scope.stopping.set()
                    return self._die_idle(event)
                if isinstance(event, Drain) and not drain:
                    drain = True
                    scope.stopping.set()

    def _ask_source(self, source: JobSource, stop: threading.Event) -> None:
        budget = Budget(self._clock, max(0.0, self._left_s()), "asking for a job")
        try:
            answer = Asked(job=source.next(budget=budget, stop=stop))
        except PilotError as err:
            answer = Asked(error=err)
        except BudgetSpent as err:
            answer = Asked(error=ServerError(str(err)))
        except Exception as err:
            self._inbox.put(
                Asked(error=PilotError(f"{type(err).__name__}: {err}", ErrorCode.UNKNOWNEXCEPTION))
            )
            raise
        self._inbox.put(answer)

    def _answer(self, asked: Asked) -> Job | None:
        if asked.error is None:
            return asked.job
        if isinstance(asked.error, BadJob) and asked.error.panda_id is not None:
            self._refuse(asked.error.panda_id, asked.error.attempt or 0, asked.error.code, asked.error.diag)
        raise asked.error

    def _die_idle(self, signal: Signal) -> ErrorCode:
        """A signal between jobs; a job that is just being handed out is given back."""
        why = self._tools.why(signal)
        late = self._inbox.get(LAST_ANSWER_S)
        while late is not None and not isinstance(late, Asked):
            late = self._inbox.get(LAST_ANSWER_S)
        if isinstance(late, Asked) and late.job is not None:
            self._refuse(late.job.panda_id, late.job.attempt, why.code, why.diag)
        return why.code

    def _refuse(self, panda_id: int, attempt: int, code: ErrorCode, diag: str) -> None:
        """Report a job failed that we took and will not run."""
        report = JobReport(
            panda_id=panda_id,
            attempt=attempt,
            state=JobState.FAILED,
            site=self._config.worker.queue,
            node=self._tools.node,
            start_s=self._clock.time(),
            end_s=self._clock.time(),
            exit_code=0,
            code=code,
            diag=diag,
        )
        loglines.add_error_codes(code, diag)
        self._deliver(report)

    # --- one job ------------------------------------------------------------

    def _work(self, job: Job, queue: Queue, asked_s: float) -> JobOutcome:
        paths = job_paths(job, home=self._config.worker.home, shared_root=self._config.payload.shared_root)
        if self._config.worker.id_file is not None:
            with self._config.worker.id_file.open("a") as out:
                out.write(f"{job.panda_id}\n")
        run = JobRun(
            job,
            queue,
            paths,
            asked_s=asked_s,
            tools=self._tools,
            config=self._config,
            inbox=self._job_inbox(),
        )
        outcome = run.run()
        self._jobs_done += 1
        log.info("job %d ended %s with code %d", job.panda_id, outcome.state, outcome.code)
        if self._config.worker.cleanup and outcome.delivered and outcome.complete:
            shutil.rmtree(paths.work, ignore_errors=True)
            shutil.rmtree(paths.shared, ignore_errors=True)
        elif not outcome.complete:
            log.warning("%s is kept: not everything of it could be stored", paths.work)
        return outcome

    def _job_inbox(self) -> Inbox[PilotEvent]:
        # The same inbox: `Asked` cannot arrive while a job runs, since the
        # asking thread has ended.
        return self._inbox  # type: ignore[return-value]

    # --- when to end --------------------------------------------------------

    def _left_s(self) -> float:
        return self._config.worker.lifetime_s - (self._clock.monotonic() - self._born)

    def _reason_to_end(self, queue: Queue, source: JobSource, *, drain: bool) -> str:
        """Why no further job is asked for; empty if one is."""
        age = self._clock.monotonic() - self._born
        drain_file = self._config.jobs.drain_file
        limit = queue.maxtime_s - age if queue.maxtime_s else self._left_s()
        reasons = (
            (drain, "drain was asked for"),
            (drain_file is not None and drain_file.exists(), f"{drain_file} exists"),
            (not source.renewable, "one job per pilot in PUSH mode"),
            (queue.timefloor_s == 0, f"queue {queue.name} has no timefloor"),
            (age > queue.timefloor_s, f"the pilot is {age:.0f} s old, timefloor is {queue.timefloor_s} s"),
            (limit < SHORTEST_JOB_S, f"{limit:.0f} s are left to live"),
            (0 < self._config.jobs.max_jobs <= self._jobs_done, f"{self._jobs_done} jobs done"),
        )
        return next((text for true, text in reasons if true), "")
