"""The pilot's life: next job, run it, wrap it up; and when to stop asking.

Runs in the main thread. Whatever may block (the server, queue data, engines)
happens in a thread of a `Scope`; the main thread only waits for its inbox, so
that a signal is heard at once in every phase. From a signal on one allowance
of time bounds all that is left to do.
"""

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from pilot_core import loglines
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope
from pilot_core.compile import job_paths
from pilot_core.config import Config
from pilot_core.errors import BadJob, NodeError, PilotError, ServerError, ServerRefused, SetupError
from pilot_core.info.contract import Information
from pilot_core.jobrun import CENTURY_S, JobRun
from pilot_core.jobs.contract import JobSource
from pilot_core.jobtools import Drain, JobOutcome, JobTools, PilotEvent, Signal
from pilot_core.ledger import HeldJob, last_report
from pilot_core.machine import Signalled
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue
from pilot_core.model.report import JobReport, JobState, WorkerState
from pilot_core.wrapup import deliver

__all__ = ["Agent", "Answer"]

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Worker status is a courtesy: it may not cost more than this.
WORKER_STATUS_S = 15.0

#: Queue data, from all sources with all their retries.
INFO_S = 180.0

#: After a signal the answer to a running request for a job is waited for so
#: long: it may bring a job, which then needs a failed report from us.
LAST_ANSWER_S = 3.0

#: A failed report for a job that was never run, or of an earlier life.
LAST_WORD_S = 60.0

#: Storing the logs of an earlier life.
EARLIER_LOGS_S = 60.0

#: With less than this left to live the pilot asks for no further job.
SHORTEST_JOB_S = 300.0

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


class Agent:
    """One pilot.

    Parameters
    ----------
    make_source
        Makes the job source once the queue is known.
    open_engines
        Looks for container engines and removes what dead pilots left on the
        node.
    leave_engines
        Removes what is still ours there; gives up when its event is set.
    """

    def __init__(
        self,
        *,
        config: Config,
        tools: JobTools,
        information: Information,
        make_source: Callable[[Queue], JobSource],
        open_engines: Callable[[], None],
        leave_engines: Callable[[threading.Event], None],
        inbox: Inbox[AgentEvent],
        clock: Clock,
    ) -> None:
        self._config = config
        self._tools = tools
        self._information = information
        self._make_source = make_source
        self._open_engines = open_engines
        self._leave_engines = leave_engines
        self._inbox = inbox
        self._clock = clock
        self._born = clock.monotonic()
        # Shortened by the first signal; every request of the agent is a part
        # of it.
        self._whole = Budget(clock, CENTURY_S, "pilot")
        self._drain = False
        self._jobs_done = 0

    def run(self) -> ErrorCode:
        """Live; returns the code for the process's exit."""
        # The worker's status is a courtesy: its thread may die, which the
        # scope says.
        with Scope(
            "pilot", clock=self._clock, join_s=WORKER_STATUS_S, on_death=lambda _name, _error: None
        ) as scope:
            scope.spawn("worker-status", self._tell_worker, WorkerState.STARTED)
            try:
                code = self._live()
            except Killed as err:
                code = err.why.code
            except PilotError as err:
                log.error("%s", err)
                code = err.code
            except Exception:
                log.exception("the pilot ends for a mistake of its own")
                code = ErrorCode.UNKNOWNEXCEPTION
            scope.stop(min(WORKER_STATUS_S, self._whole.left + JOIN_S))
        try:
            self._attend("farewell", self._part)
        except Killed as err:
            code = code or err.why.code
        except Exception:
            log.exception("the pilot did not end tidily")
        return code

    def _part(self, stop: threading.Event) -> None:
        try:
            self._tell_worker(WorkerState.FINISHED)
        finally:
            self._leave_engines(stop)

    def _live(self) -> ErrorCode:
        queue, source = self._attend("start", self._start)
        while not (reason := self._reason_to_end(queue, source)):
            self._check_space()
            asked_s = self._clock.time()
            job = self._next_job(source)
            if job is None:
                return ErrorCode.NONE
            outcome = self._work(job, queue, asked_s)
            if outcome.signal:
                return outcome.signal
            if not outcome.delivered:
                # The ledger has room for one job, and this one's report is
                # owed still: by the starter, or by the next pilot here.
                return ErrorCode.COMMUNICATIONFAILURE
            self._drain = self._drain or outcome.drain
        log.info("no further job: %s", reason)
        return ErrorCode.NONE

    def _attend(self, name: str, work: Callable[[threading.Event], T]) -> T:
        """What `work` returns or raises, done in a thread: signals are heard
        here.

        `work` gets an event that is set when it should come to an end.

        Raises
        ------
        Killed
            A signal came; the answer was waited for `LAST_ANSWER_S` seconds
            more.
        """
        question = object()
        killed: Signalled | None = None
        limit = self._whole
        late: object = None
        with Scope("agent", clock=self._clock, join_s=JOIN_S) as scope:
            scope.spawn(name, self._answer, question, work, scope.stopping)
            while not limit.spent:
                self._tools.alive()
                event = self._inbox.get(min(TICK_S, limit.left))
                if isinstance(event, Signal):
                    killed = killed or self._tools.why(event)
                    scope.stopping.set()
                    self._whole.shorten(killed.seconds)
                    limit = limit.part(LAST_ANSWER_S, "last answer")
                elif isinstance(event, Drain):
                    self._drain = True
                    scope.stopping.set()
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

    # --- before the first job -----------------------------------------------

    def _start(self, stop: threading.Event) -> tuple[Queue, JobSource]:
        """What an earlier pilot left, then the queue and where its jobs come
        from.
        """
        held = self._tools.ledger.held()
        try:
            self._open_engines()
        finally:
            if held is not None:
                self._settle(held, stop)
        queue = self._information.queue(
            self._config.worker.queue, budget=self._whole.part(INFO_S, "queue data")
        )
        self._check_queue(queue)
        return queue, self._make_source(queue)

    def _tell_worker(self, state: WorkerState) -> None:
        if not self._config.worker.send_worker_status:
            return
        budget = self._whole.part(WORKER_STATUS_S, "worker status")
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

    def _settle(self, held: HeldJob, stop: threading.Event) -> None:
        """Logs and last word of a job that an earlier pilot in this directory
        left.

        Raises
        ------
        ServerError, SetupError
            It could not be delivered, or that pilot still runs: no job may be
            taken, since the ledger has room for one.
        """
        if held.owner_alive():
            raise SetupError(
                f"{self._tools.ledger.path} belongs to the running pilot {held.pid}", ErrorCode.GENERALERROR
            )
        diag = f"the pilot (pid {held.pid}) died while the job was at stage {held.stage!r}"
        report = last_report(held, code=ErrorCode.KILLSIGNAL, diag=diag, end_s=self._clock.time())
        log.warning(
            "job %d of an earlier life is reported %s: %s", report.panda_id, report.state, report.diag
        )
        url = self._store_earlier_logs(held)
        if url:
            report = replace(report, pilot_id=f"{url}|{report.pilot_id.partition('|')[2]}")
        self._deliver(report, stop)
        self._tools.ledger.clear()

    def _store_earlier_logs(self, held: HeldJob) -> str:
        """The URL of that job's log, empty if it could not be stored."""
        if not held.log_prefix:
            return ""
        paths = JobPaths(self._config.worker.home, Path(held.work), Path(held.shared))
        try:
            uploader = self._tools.uploader_for(held.copytool, held.log_prefix, paths)
            files = self._tools.experiment.log_files(paths)
            done = uploader.upload(files, budget=self._whole.part(EARLIER_LOGS_S, "earlier logs"))
        except PilotError as err:
            log.error("the logs of that job are not stored: %s", err)
            return ""
        for path, why in done.failed.items():
            log.error("%s of that job is not stored: %s", path.name, why)
        if self._config.worker.cleanup and not done.failed:
            self._remove(paths)
        stored = done.stored.get(paths.log)
        return (stored.public_url or stored.url) if stored is not None else ""

    def _deliver(self, report: JobReport, stop: threading.Event) -> None:
        """Send a last word; one that the server will never take is as good as
        sent.

        Raises
        ------
        ServerError
            It was not delivered.
        """
        budget = self._whole.part(LAST_WORD_S, "last word")
        try:
            deliver(self._tools.server, report, budget=budget, stop=stop)
        except ServerRefused as err:
            log.error("the server refuses the last word of job %d: %s", report.panda_id, err)
        except BudgetSpent as err:
            raise ServerError(str(err)) from err

    # --- asking -------------------------------------------------------------

    def _next_job(self, source: JobSource) -> Job | None:
        try:
            return self._attend("source", partial(self._ask, source))
        except Killed as err:
            # A job that is just being handed out is given back.
            if isinstance(err.late, Answer) and isinstance(err.late.value, Job):
                self._refuse(err.late.value.panda_id, err.late.value.attempt, err.why.code, err.why.diag)
            raise

    def _ask(self, source: JobSource, stop: threading.Event) -> Job | None:
        budget = self._whole.part(max(0.0, self._left_s()), "asking for a job")
        try:
            return source.next(budget=budget, stop=stop)
        except BadJob as err:
            if err.panda_id is not None:
                self._refuse(err.panda_id, err.attempt or 0, err.code, err.diag)
            raise
        except BudgetSpent as err:
            raise ServerError(str(err)) from err

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
        try:
            self._deliver(report, threading.Event())
        except ServerError as err:
            log.error("the report of job %d was not delivered: %s", panda_id, err)

    # --- one job ------------------------------------------------------------

    def _work(self, job: Job, queue: Queue, asked_s: float) -> JobOutcome:
        paths = job_paths(job, home=self._config.worker.home, shared_root=self._config.payload.shared_root)
        self._write_id(job)
        run = JobRun(
            job,
            queue,
            paths,
            asked_s=asked_s,
            whole=self._whole,
            tools=self._tools,
            config=self._config,
            inbox=self._job_inbox(),
        )
        try:
            outcome = run.run()
        except Exception as err:
            self._give_up(job, run, err)
            raise
        self._jobs_done += 1
        log.info("job %d ended %s with code %d", job.panda_id, outcome.state, outcome.code)
        if not outcome.complete:
            log.warning("%s is kept: not everything of it could be stored", paths.work)
        elif self._config.worker.cleanup and outcome.delivered:
            self._remove(paths)
        return outcome

    def _give_up(self, job: Job, run: JobRun, err: Exception) -> None:
        """The job's own loop failed: its end is told with what the ledger
        knows.
        """
        if run.delivered:
            return
        diag = err.diag if isinstance(err, PilotError) else f"{type(err).__name__}: {err}"
        code = err.code if isinstance(err, PilotError) else ErrorCode.INTERNALPILOTPROBLEM
        held = self._tools.ledger.held()
        if held is None or held.report.panda_id != job.panda_id:
            self._refuse(job.panda_id, job.attempt, code, diag)
            return
        report = last_report(held, code=code, diag=diag, end_s=self._clock.time())
        try:
            self._deliver(report, threading.Event())
        except ServerError as fault:
            log.error("the report of job %d was not delivered: %s", job.panda_id, fault)
        else:
            self._tools.ledger.clear()

    def _write_id(self, job: Job) -> None:
        path = self._config.worker.id_file
        if path is None:
            return
        try:
            with path.open("a") as out:
                out.write(f"{job.panda_id}\n")
        except OSError as err:
            log.warning("%s: %s", path, err.strerror)

    def _remove(self, paths: JobPaths) -> None:
        shutil.rmtree(paths.work, ignore_errors=True)
        shutil.rmtree(paths.shared, ignore_errors=True)

    def _job_inbox(self) -> Inbox[PilotEvent]:
        # The same inbox: an `Answer` cannot arrive while a job runs, since the
        # thread that asked has given its one.
        return self._inbox  # type: ignore[return-value]

    # --- when to end --------------------------------------------------------

    def _left_s(self) -> float:
        return self._config.worker.lifetime_s - (self._clock.monotonic() - self._born)

    def _reason_to_end(self, queue: Queue, source: JobSource) -> str:
        """Why no further job, or none at all, is asked for; empty if one is."""
        again = self._jobs_done > 0
        age = self._clock.monotonic() - self._born
        drain_file = self._config.jobs.drain_file
        limit = queue.maxtime_s - age if queue.maxtime_s else self._left_s()
        reasons = (
            (self._drain, "drain was asked for"),
            (drain_file is not None and drain_file.exists(), f"{drain_file} exists"),
            (again and not source.renewable, "one job per pilot in PUSH mode"),
            (again and queue.timefloor_s == 0, f"queue {queue.name} has no timefloor"),
            (
                again and age > queue.timefloor_s,
                f"the pilot is {age:.0f} s old, timefloor is {queue.timefloor_s} s",
            ),
            (again and limit < SHORTEST_JOB_S, f"{limit:.0f} s are left to live"),
            (0 < self._config.jobs.max_jobs <= self._jobs_done, f"{self._jobs_done} jobs done"),
        )
        return next((text for true, text in reasons if true), "")
