"""One job: events from the inbox go through the machine, and its actions are
carried out here.

The main thread alone runs `JobRun.run`; every other thread of the job belongs
to the one `Scope` opened there and only puts events into the inbox
(`docs/threads.md`).
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_core import actions, events, loglines
from pilot_core.base.budget import Budget
from pilot_core.base.inbox import Inbox
from pilot_core.base.redact import secret_values
from pilot_core.base.scope import Scope
from pilot_core.compile import job_labels
from pilot_core.config import Config
from pilot_core.debugging import DebugMode
from pilot_core.events import Event
from pilot_core.experiments.files import forget_secrets
from pilot_core.finalreport import FinalReport
from pilot_core.heartbeat import Heartbeat
from pilot_core.jobreports import JobReports
from pilot_core.jobthreads import JobThreads, nothing
from pilot_core.jobtools import Drain, JobOutcome, JobTools, PilotEvent, Signal
from pilot_core.limits import limits_for
from pilot_core.machine import Machine
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue
from pilot_core.model.report import CommandKind, JobState, Reply
from pilot_core.model.sample import Usage
from pilot_core.payloadrun import PayloadRun
from pilot_core.watch import Watch
from pilot_core.workfolder import WorkFolder
from pilot_core.wrapup import SHARE, WORTHY_SHARE, Wrapper, WrapUpResult

if TYPE_CHECKING:
    from pilot_core.logship.shipper import LogShipper

__all__ = ["CENTURY_S", "JobRun"]

log = logging.getLogger(__name__)

#: The loop wakes at least so often to feed the pilot's own heartbeat file.
TICK_S = 10.0

#: Seconds in which a job's threads must have ended after it, and after a kill.
JOIN_S = 10.0
HASTY_JOIN_S = 0.5

# A century is "no limit" for a budget that only a signal shortens.
CENTURY_S = 3.2e9

#: Storage data, from all sources.
LOG_PLACE_S = 60.0


class JobRun:
    """Sees one job through.

    Parameters
    ----------
    asked_s
        Epoch seconds when the pilot began to ask for this job, for
        pilotTiming.
    setup_s
        What it needed before that, for pilotTiming.
    whole
        All the time the pilot has; shortened here when it is being killed.
    inbox
        The pilot's inbox; signal handlers put events there too.
    """

    def __init__(
        self,
        job: Job,
        queue: Queue,
        paths: JobPaths,
        *,
        asked_s: float,
        setup_s: float,
        whole: Budget,
        tools: JobTools,
        config: Config,
        inbox: Inbox[PilotEvent],
    ) -> None:
        self._job = job
        self._queue = queue
        self._paths = paths
        self._tools = tools
        self._config = config
        self._inbox = inbox
        self._clock = tools.clock
        self._machine = Machine(grace_s=config.payload.grace_s)
        self._whole = whole
        self._steps = whole.part(CENTURY_S, "wrap-up")
        self._signal = ErrorCode.NONE
        self._drain = False
        self._keep = False
        self._open = True
        self._folder = WorkFolder(paths.work, paths.log)
        self._labels = job_labels(job, queue=queue.name, owner=tools.owner())
        self._payload = PayloadRun(
            job,
            queue,
            paths,
            experiment=tools.experiment,
            engine_for=tools.engine_for,
            stage_in=lambda folder, budget: tools.stage_in(job, queue, folder, budget),
            mend=self._folder.mend,
            labels=self._labels,
            realtime_files=config.realtime.files,
            config=config.payload,
            tasks=config.monitor.tasks,
            memory_bytes=limits_for(job, queue, config.monitor, remaining_s=None).memory_kb * 1024,
            clock=self._clock,
            tell=self._tell,
        )
        self._watch: Watch | None = None
        self._reports = JobReports(
            job,
            queue,
            paths,
            asked_s=asked_s,
            setup_s=setup_s,
            payload=self._payload,
            usage=self._usage,
            tools=tools,
            config=config.worker,
        )
        self._heartbeat = Heartbeat(
            tools.server,
            report=lambda state: replace(self._reports.ordinary(state), stdout=self._shown()),
            heard=self._hear,
            lost=lambda seconds: self._tell(events.ServerLost(seconds)),
            config=config.heartbeat,
            clock=self._clock,
        )
        self._shipper: LogShipper | None = None
        self._wrapper: Wrapper | None = None
        self._wrapped: WrapUpResult | None = None
        self._final = FinalReport(tools.server, whole=whole, seconds=config.wrapup.final_s, tell=self._tell)
        self._debug = DebugMode(
            (job.debug_command or "debug") if job.debug else "",
            lambda command: tools.debug_output(command, paths, self._payload.container),
        )
        self._heartbeat.debug(job.debug)
        self._actions: dict[type, Callable[[JobThreads, object], None]] = {
            actions.Report: self._say,
            actions.Prepare: self._prepare,
            actions.CancelPreparation: self._cancel,
            actions.Stop: self._stop,
            actions.Debug: self._look,
            actions.WrapUp: self._wrap_up,
            actions.Hurry: self._hurry,
            actions.Deliver: self._deliver,
            actions.End: self._end,
        }

    @property
    def delivered(self) -> bool:
        """True if the server has the final report."""
        return self._machine.delivered

    def run(self) -> JobOutcome:
        """From the accepted job to its end; returns when nothing of it runs
        any more.

        Raises
        ------
        NodeError
            The job's folder or log cannot be made; nothing was started.
        """
        self._tools.redactor.renew(*secret_values(self._job.secrets), *self._job.pilot_secrets.values())
        # First of all: from here on a killed pilot's job gets its last word.
        self._tools.ledger.take(
            self._reports.ordinary(JobState.STARTING),
            work=self._paths.work,
            shared=self._paths.shared,
            labels=self._labels,
            engine=self._config.payload.engine,
        )
        with contextlib.ExitStack() as stack:
            debug, redactor = self._config.worker.debug, self._tools.redactor
            stack.enter_context(self._folder.opened(debug=debug, redactor=redactor))
            stack.callback(forget_secrets, self._paths)
            loglines.dump_job_definition(self._job)
            realtime = self._tools.shipper_for(self._job, self._paths)
            if realtime is not None:
                self._shipper = realtime[0]
                stack.callback(realtime[1].close)
            self._live(stack.enter_context(self._scope()))
        return self._outcome()

    def _scope(self) -> Scope:
        return Scope(f"job-{self._job.panda_id}", join_s=JOIN_S, clock=self._clock)

    def _live(self, scope: Scope) -> None:
        """The job's life; whatever goes wrong here, no payload stays behind."""
        threads = JobThreads(scope, missed=self._reports.miss)
        # Without updates the server gives the job to somebody else.
        lost: Callable[[str], None] = lambda why: self._tell(events.ThreadDied(why))  # noqa: E731
        threads.spawn("heartbeat", self._heartbeat.run, scope.stopping, on_death=lost)
        # Needed for the logs of a pilot that is killed.
        threads.spawn("log-place", self._find_log_place, on_death=nothing)
        try:
            self._loop(threads)
        except BaseException:
            self._payload.cancel()
            self._payload.stop(0.0)
            raise
        finally:
            self._open = False
            self._heartbeat.quiet()
            # A killed pilot waits for none that hangs: the worker's farewell
            # comes after this.
            join_s = HASTY_JOIN_S if self._signal else JOIN_S
            scope.stop(min(join_s, self._whole.left + HASTY_JOIN_S))

    def _outcome(self) -> JobOutcome:
        ending = self._machine.ending
        return JobOutcome(
            # Without an ending there was no time for one: the ledger has the
            # rest.
            state=ending.state if ending is not None else JobState.FAILED,
            code=ending.result.code if ending is not None else self._signal,
            delivered=self._machine.delivered,
            complete=self._wrapped is not None and self._wrapped.stored,
            signal=self._signal,
            drain=self._drain,
            keep=self._keep,
            waited_s=self._final.waited_s,
        )

    def _find_log_place(self) -> None:
        """For the ledger: where a later pilot stores the logs if this one
        dies.
        """
        budget = self._whole.part(LOG_PLACE_S, "place for the logs")
        self._tools.ledger.logs_at(*self._tools.log_prefix_for(self._job, self._queue, budget))

    def _tell(self, event: Event) -> None:
        """Leave an event; what comes after the job's end must not reach the
        next job.
        """
        if self._open:
            self._inbox.put(event)

    def _loop(self, threads: JobThreads) -> None:
        event: PilotEvent | None = events.Accepted()
        while True:
            self._tools.alive()
            if isinstance(event, Signal):
                event = self._tools.why(event)
                self._signal = self._signal or event.code
            if isinstance(event, Drain):
                self._drain = True
            elif event is not None:
                self._handle(threads, event)
            if self._machine.done:
                return
            if self._whole.spent:
                log.error("the time is over while the job is %s: the rest is left", self._machine.state.name)
                self._cancel(threads, None)
                self._stop(threads, actions.Stop(0.0))
                return
            event = self._inbox.get(min(TICK_S, self._whole.left))

    def _handle(self, threads: JobThreads, event: Event) -> None:
        if isinstance(event, events.Delivered | events.Undelivered):
            self._final.answered()
        if isinstance(event, events.Commanded) and event.command.kind is CommandKind.NO_CLEANUP:
            self._keep = True
        for action in self._machine.handle(event):
            self._actions[type(action)](threads, action)
        if isinstance(event, events.Started):
            self._begin_watch(threads)

    def _hear(self, reply: Reply) -> None:
        if reply.pilot_secrets:
            self._tools.redactor.add(*reply.pilot_secrets.values())
        for command in reply.commands:
            log.info("the server says %s %s", command.kind.name, command.text)
            self._tell(events.Commanded(command))

    def _begin_watch(self, threads: JobThreads) -> None:
        container, started = self._payload.container, self._payload.started_s
        if container is None or started is None:
            return
        self._tools.ledger.runs_as(container.id)
        self._watch = self._tools.watch_for(self._job, self._queue, self._paths, container, started)
        self._watch.begin(threads, lambda verdict: self._tell(events.Crossed(verdict)))
        if self._shipper is not None:
            # The wrap-up counts what was not shipped.
            threads.spawn("logship", self._shipper.run, threads.stopping, on_death=nothing)

    # --- actions ------------------------------------------------------------

    def _say(self, _: JobThreads, action: object) -> None:
        assert isinstance(action, actions.Report)
        self._tools.ledger.note(action.state.value, self._reports.ordinary(action.state))
        self._heartbeat.say(action.state)

    def _prepare(self, threads: JobThreads, _: object) -> None:
        threads.spawn("payload", self._payload.run, on_death=self._payload.orphaned)

    def _cancel(self, _: JobThreads, __: object) -> None:
        self._payload.cancel()

    def _stop(self, threads: JobThreads, action: object) -> None:
        assert isinstance(action, actions.Stop)
        threads.spawn("stop", self._payload.stop, action.grace_s, on_death=self._payload.give_up)

    def _look(self, _: JobThreads, action: object) -> None:
        assert isinstance(action, actions.Debug)
        shown = {CommandKind.DEBUG: self._job.debug_command or "debug", CommandKind.DEBUG_OFF: ""}
        if self._debug.ask(shown.get(action.command.kind, action.command.text)):
            self._heartbeat.debug(action.command.kind is not CommandKind.DEBUG_OFF)

    def _hurry(self, _: JobThreads, action: object) -> None:
        assert isinstance(action, actions.Hurry)
        log.warning(
            "the pilot is being killed: %.1f s are left for job %d", action.seconds, self._job.panda_id
        )
        self._whole.shorten(action.seconds)
        # The final report needs its part, without the waits between attempts.
        open_end = self._machine.ending is None and self._payload.succeeded
        self._steps.shorten(action.seconds * (WORTHY_SHARE if open_end else SHARE))
        self._final.hasten(action.seconds)

    def _wrap_up(self, threads: JobThreads, _: object) -> None:
        if self._shipper is not None and self._watch is None:
            # Never started, so nobody ran the shipper: there is nothing to
            # ship.
            self._shipper = None
        if self._machine.ending is None:
            # A final report that was decided already must stay on record.
            self._tools.ledger.note("wrapup", self._reports.ordinary(JobState.RUNNING))
        hurried = self._signal is not ErrorCode.NONE
        if hurried:
            # The report has gone ahead: the wrap-up may have the rest.
            self._steps = self._whole.part(CENTURY_S, "wrap-up")
        threads.spawn(
            "wrapup",
            self._run_wrapper,
            hurried,
            on_death=lambda why: self._tell(events.WrappedUp(ErrorCode.INTERNALPILOTPROBLEM, why)),
        )

    def _run_wrapper(self, hurried: bool) -> None:
        if self._watch is not None:
            try:
                self._watch.finish(self._payload.exit, running_s=self._payload.running_s)
            except Exception:
                # Numbers are worth less than the files that are stored below.
                log.exception("the payload's measurements are not complete")
                self._reports.miss("watch")
        self._wrapper = self._tools.wrapper_for(
            self._job, self._queue, self._paths, self._shipper, self._steps
        )
        self._wrapped = result = self._wrapper.run(
            self._steps, hurried=hurried, succeeded=self._payload.succeeded
        )
        # Not when the payload ends: were this pilot killed meanwhile, whoever
        # stores the logs would not know what to mask in them.
        forget_secrets(self._paths)
        self._tell(events.WrappedUp(result.code, result.diag))

    def _deliver(self, threads: JobThreads, action: object) -> None:
        assert isinstance(action, actions.Deliver)
        if self._final.under_way:
            return  # its answer comes; the budget is the same one
        self._heartbeat.quiet()
        report = self._reports.final(action.ending, self._wrapped)
        self._tools.ledger.note("final", report)
        if report.code:
            loglines.add_error_codes(report.code, report.diag)
        self._final.start(threads, report)

    def _end(self, _: JobThreads, __: object) -> None:
        if self._machine.delivered:
            self._tools.ledger.clear()
        loglines.ready_for_new_job(self._job.panda_id)
        if self._wrapper is not None:
            self._wrapper.store_last_log(self._whole)

    def _usage(self) -> Usage:
        return self._watch.usage() if self._watch is not None else Usage()

    def _shown(self) -> str:
        return self._tools.redactor.text(self._debug.text())
