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
from functools import partial

from pilot_core.asking import life_left_s
from pilot_core.attend import JOIN_S, AgentEvent, Answer, Attendant, Killed
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope
from pilot_core.compile import job_paths
from pilot_core.config import Config
from pilot_core.errors import BadJob, NodeError, PilotError, ServerError, SetupError
from pilot_core.finalreport import breather_s
from pilot_core.info.contract import Information
from pilot_core.jobrun import CENTURY_S, JobRun
from pilot_core.jobs.contract import JobSource
from pilot_core.jobtools import JobOutcome, JobTools, PilotEvent
from pilot_core.lastword import LastWord, remove_job
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.queue import Queue
from pilot_core.model.report import WorkerState

__all__ = ["Agent"]

log = logging.getLogger(__name__)

#: Worker status is a courtesy: it may not cost more than this.
WORKER_STATUS_S = 15.0

#: Queue data, from all sources with all their retries.
INFO_S = 180.0

#: The same between two jobs, where the old ones will do.
AGAIN_INFO_S = 60.0

#: With less than this left to live the pilot asks for no further job.
SHORTEST_JOB_S = 300.0

#: After so many definitions in a row that it cannot understand a pilot leaves
#: the queue to others: it may rather be of the wrong version than they.
BAD_JOBS = 3

#: A node on which so many jobs in a row fail for one of these reasons would fail
#: all that the queue has, one every second.
NODE_FAILURES = 2
OF_THE_NODE = frozenset(
    {
        ErrorCode.MKDIR,
        ErrorCode.NOSTORAGE,
        ErrorCode.QUEUENOTSETUPFORCONTAINERS,
        ErrorCode.SERVICENOTAVAILABLE,
        ErrorCode.SETUPFAILURE,
    }
)

#: A shorter pause between two jobs is none.
SHORT_BREATHER_S = 5.0


def _closed(queue: Queue) -> tuple[str, ErrorCode] | None:
    """Why a queue takes no jobs, if it does not."""
    if queue.state.upper() != "ACTIVE":
        return f"queue {queue.name} has state {queue.state}, not ACTIVE", ErrorCode.PANDAQUEUENOTACTIVE
    if queue.status.lower() == "offline":
        return f"queue {queue.name} is offline", ErrorCode.PANDAQUEUENOTONLINE
    return None


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
        self._attendant = Attendant(
            inbox=inbox,
            clock=clock,
            whole=self._whole,
            alive=tools.alive,
            why=tools.why,
            drain_file=config.jobs.drain_file,
        )
        self._last_word = LastWord(
            worker=config.worker,
            tools=tools,
            clock=clock,
            whole=self._whole,
            final_s=config.wrapup.final_s,
        )
        self._jobs_done = 0
        self._bad_jobs = 0
        self._node_failures = 0
        self._breather_s = 0.0

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
            self._attendant.wait("farewell", self._part)
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
        free_s = self._born
        queue, source = self._attendant.wait("start", self._start)
        while True:
            queue, source = self._refreshed(queue, source)
            if reason := self._reason_to_end(queue, source):
                break
            self._check_space()
            asked_s, setup_s = self._clock.time(), self._clock.monotonic() - free_s
            try:
                job = self._next_job(source)
            except BadJob as err:
                self._bad_jobs += 1
                if not source.renewable or self._bad_jobs >= BAD_JOBS:
                    raise
                log.error("%s; the next job is asked for", err)
                continue
            if job is None:
                return ErrorCode.NONE
            self._bad_jobs = 0
            outcome = self._work(job, queue, asked_s=asked_s, setup_s=setup_s)
            free_s = self._clock.monotonic()
            if outcome.signal:
                return outcome.signal
            if not outcome.delivered:
                # The ledger has room for one job, and this one's report is
                # owed still: by the starter, or by the next pilot here.
                return ErrorCode.COMMUNICATIONFAILURE
            self._node_failures = self._node_failures + 1 if outcome.code in OF_THE_NODE else 0
            if self._node_failures >= NODE_FAILURES:
                raise NodeError(
                    f"{self._node_failures} jobs in a row could not be run on this node", outcome.code
                )
            self._attendant.draining |= outcome.drain
        log.info("no further job: %s", reason)
        if source.renewable:
            # Harvester soon sends a pilot in our place, which asks at once.
            self._attendant.wait("breather", self._breathe, asking=True)
        return ErrorCode.NONE

    # --- before the first job -----------------------------------------------

    def _start(self, stop: threading.Event) -> tuple[Queue, JobSource]:
        """What an earlier pilot left, then the queue and where its jobs come
        from.
        """
        ledger = self._tools.ledger
        try:
            held = ledger.held()
        except OSError as err:
            # It may say that a final report is owed, and has room for one job.
            words = f"{ledger.path} cannot be read: {err.strerror or err}"
            raise SetupError(words, ErrorCode.GENERALERROR) from err
        try:
            self._open_engines()
        finally:
            if held is not None:
                self._last_word.settle(held, stop)
        queue = self._queue(INFO_S)
        if closed := _closed(queue):
            raise SetupError(*closed)
        return queue, self._make_source(queue)

    def _queue(self, seconds: float) -> Queue:
        return self._information.queue(
            self._config.worker.queue, budget=self._whole.part(seconds, "queue data")
        )

    def _refreshed(self, queue: Queue, source: JobSource) -> tuple[Queue, JobSource]:
        """Queue data anew before a further job; where they cannot be had, the
        old ones stay.
        """
        if not self._jobs_done or not source.renewable:
            return queue, source
        try:
            fresh = self._attendant.wait("queue", lambda _stop: self._queue(AGAIN_INFO_S))
        except SetupError as err:
            log.warning("the queue's data stay as they are: %s", err)
            return queue, source
        if fresh == queue:
            return queue, source
        log.info("queue %s: its data have changed", queue.name)
        return fresh, self._make_source(fresh)

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

    def _check_space(self) -> None:
        free_mb = shutil.disk_usage(self._config.worker.home).free // 2**20
        if free_mb < self._config.jobs.min_free_mb:
            needed = self._config.jobs.min_free_mb
            raise NodeError(
                f"{self._config.worker.home} has {free_mb} MB free, {needed} MB are needed",
                ErrorCode.NOLOCALSPACE,
            )

    # --- asking -------------------------------------------------------------

    def _next_job(self, source: JobSource) -> Job | None:
        try:
            return self._attendant.wait("source", partial(self._ask, source), asking=True)
        except Killed as err:
            # A job that is just being handed out is given back.
            if isinstance(err.late, Answer) and isinstance(err.late.value, Job):
                self._last_word.refuse(
                    err.late.value.panda_id, err.late.value.attempt, err.why.code, err.why.diag
                )
            raise

    def _ask(self, source: JobSource, stop: threading.Event) -> Job | None:
        self._breathe(stop)
        budget = self._whole.part(max(0.0, self._left_s()), "asking for a job")
        try:
            return source.next(budget=budget, stop=stop)
        except (BadJob, NodeError) as err:
            if err.panda_id is not None:
                self._last_word.refuse(err.panda_id, err.attempt or 0, err.code, err.diag)
            raise
        except BudgetSpent as err:
            raise ServerError(str(err)) from err

    def _breathe(self, stop: threading.Event) -> None:
        """The pause of `breather_s`, within what is left of our life."""
        pause, self._breather_s = min(self._breather_s, self._left_s() / 2), 0.0
        if pause > SHORT_BREATHER_S:
            log.info("the last final report had to wait, and so did those of others: %.0f s of pause", pause)
            self._clock.wait(stop, pause)

    # --- one job ------------------------------------------------------------

    def _work(self, job: Job, queue: Queue, *, asked_s: float, setup_s: float) -> JobOutcome:
        paths = job_paths(job, home=self._config.worker.home, shared_root=self._config.payload.shared_root)
        self._write_id(job)
        run: JobRun | None = None
        try:
            run = JobRun(
                job,
                queue,
                paths,
                asked_s=asked_s,
                setup_s=setup_s,
                whole=self._whole,
                tools=self._tools,
                config=self._config,
                inbox=self._job_inbox(),
            )
            outcome = run.run()
        except Exception as err:
            if run is None or not run.delivered:
                give_up = partial(self._last_word.give_up, job, err)
                self._attendant.wait("last word", lambda _stop: give_up())
            raise
        self._jobs_done += 1
        self._breather_s = breather_s(outcome.waited_s)
        log.info("job %d ended %s with code %d", job.panda_id, outcome.state, outcome.code)
        if not outcome.complete:
            log.warning("%s is kept: not everything of it could be stored", paths.work)
        elif outcome.keep:
            log.info("%s is kept: the server asked for that", paths.work)
        elif self._config.worker.cleanup and outcome.delivered:
            remove_job(paths)
        return outcome

    def _write_id(self, job: Job) -> None:
        path = self._config.worker.id_file
        if path is None:
            return
        try:
            with path.open("a") as out:
                out.write(f"{job.panda_id}\n")
        except OSError as err:
            log.warning("%s: %s", path, err.strerror)

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
        limit = life_left_s(self._config, queue, age)
        closed = _closed(queue)
        reasons = (
            (closed is not None, closed[0] if closed else ""),
            (self._attendant.draining, "drain was asked for"),
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
