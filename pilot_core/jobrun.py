"""One job: events from the inbox go through the machine, and its actions are carried out here.

The main thread alone runs `JobRun.run`; every other thread of the job belongs
to the one `Scope` opened there and only puts events into the inbox
(`docs/threads.md`).
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from container.contract import Container, Engine
from pilot_core import loglines, machine
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.files import tail_bytes
from pilot_core.base.inbox import Inbox
from pilot_core.base.logs import file_log
from pilot_core.base.redact import Redactor
from pilot_core.base.scope import Scope
from pilot_core.compile import job_labels
from pilot_core.config import Config
from pilot_core.errors import PilotError, ServerError
from pilot_core.experiments.contract import Experiment
from pilot_core.heartbeat import Heartbeat
from pilot_core.ledger import Ledger
from pilot_core.logship.contract import Sink
from pilot_core.logship.shipper import LogShipper
from pilot_core.machine import Event, Machine
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadKind
from pilot_core.model.queue import Queue
from pilot_core.model.report import CommandKind, JobReport, JobState, Node, Reply
from pilot_core.model.sample import Usage
from pilot_core.payloadrun import PayloadRun
from pilot_core.server.contract import Server
from pilot_core.watch import Watch
from pilot_core.wrapup import Wrapper, WrapUpResult, deliver

__all__ = ["Drain", "JobOutcome", "JobRun", "JobTools", "PilotEvent", "Signal"]

log = logging.getLogger(__name__)

#: The server keeps this much of pilotLog in every release (pilot3 sends as much).
LOG_TAIL_BYTES = 1024

#: jobReport.json is sent whole as metaData; a larger one is not a job report.
METADATA_BYTES = 4 * 1024 * 1024

#: The loop wakes at least so often to feed the pilot's own heartbeat file.
TICK_S = 10.0


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
    shipper_for
        Real-time log shipper of a job and its sink, or None if it is off.
    watch_for
        Watches a started container.
    wrapper_for
        Steps after the payload.
    owner
        Labels that say which pilot something belongs to.
    debug_output
        Carries out a debug command below a job's folder.
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
    shipper_for: Callable[[Job, JobPaths], tuple[LogShipper, Sink] | None]
    watch_for: Callable[[Job, Queue, JobPaths, Container, float], Watch]
    wrapper_for: Callable[[Job, Queue, JobPaths, LogShipper | None, Budget], Wrapper]
    log_prefix_for: Callable[[Job, Queue], tuple[str, str]]
    debug_output: Callable[[str, JobPaths], str]
    alive: Callable[[], None]
    why: Callable[[Signal], machine.Signalled]


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
        True if all logs and files are stored.
    drain
        True if the pilot was asked to take no other job.
    """

    state: JobState
    code: ErrorCode
    delivered: bool
    complete: bool
    signal: ErrorCode = ErrorCode.NONE
    drain: bool = False


class JobRun:
    """Sees one job through.

    Parameters
    ----------
    asked_s
        Epoch seconds when the pilot began to ask for this job, for pilotTiming.
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
        self._asked_s = asked_s
        self._taken_s = self._clock.time()
        self._machine = Machine(grace_s=config.payload.grace_s)
        # A century is "no limit" for a budget that only a signal shortens.
        self._whole = Budget(self._clock, 3.2e9, "job")
        self._signal = ErrorCode.NONE
        self._drain = False
        self._open = True
        self._labels = job_labels(job, queue=queue.name, owner=tools.owner())
        self._payload = PayloadRun(
            job,
            queue,
            paths,
            experiment=tools.experiment,
            engine_for=tools.engine_for,
            labels=self._labels,
            realtime_files=config.realtime.files,
            config=config.payload,
            clock=self._clock,
            tell=self._tell,
        )
        self._heartbeat = Heartbeat(
            tools.server,
            report=self._report,
            heard=self._hear,
            lost=lambda seconds: self._tell(machine.ServerLost(seconds)),
            config=config.heartbeat,
            clock=self._clock,
        )
        self._watch: Watch | None = None
        self._shipper: LogShipper | None = None
        self._wrapper: Wrapper | None = None
        self._wrapped: WrapUpResult | None = None
        self._delivery: threading.Thread | None = None
        self._debug_command = ""
        self._actions: dict[type, Callable[[Scope, object], None]] = {
            machine.Report: self._say,
            machine.Prepare: self._prepare,
            machine.CancelPreparation: self._cancel,
            machine.Stop: self._stop,
            machine.Debug: self._debug,
            machine.WrapUp: self._wrap_up,
            machine.Hurry: self._hurry,
            machine.Deliver: self._deliver,
            machine.End: self._end,
        }

    def run(self) -> JobOutcome:
        """From the accepted job to its end; returns when nothing of it runs any more."""
        self._tools.redactor.add(self._job.secrets, *self._job.pilot_secrets.values())
        self._paths.work.mkdir(mode=0o770, parents=True, exist_ok=True)
        with file_log(self._paths.log, debug=self._config.worker.debug, redactor=self._tools.redactor):
            loglines.dump_job_definition(self._job)
            prefix, tool = self._tools.log_prefix_for(self._job, self._queue)
            self._tools.ledger.take(
                self._report(JobState.STARTING),
                work=self._paths.work,
                shared=self._paths.shared,
                labels=self._labels,
                log_prefix=prefix,
                copytool=tool,
            )
            realtime = self._tools.shipper_for(self._job, self._paths)
            self._shipper = realtime[0] if realtime is not None else None
            with Scope(f"job-{self._job.panda_id}", on_death=self._mourn, clock=self._clock) as scope:
                scope.spawn("heartbeat", self._heartbeat.run, scope.stopping)
                self._loop(scope)
            if realtime is not None:
                realtime[1].close()
        ending = self._machine.ending
        assert ending is not None, "a machine that is done has decided"
        return JobOutcome(
            state=ending.state,
            code=ending.result.code,
            delivered=self._machine.delivered,
            complete=self._wrapped is not None and not self._wrapped.problems,
            signal=self._signal,
            drain=self._drain,
        )

    def _tell(self, event: Event) -> None:
        """Leave an event; what comes after the job's end must not reach the next job."""
        if self._open:
            self._inbox.put(event)

    def _loop(self, scope: Scope) -> None:
        event: PilotEvent | None = machine.Accepted()
        while not self._machine.done:
            self._tools.alive()
            if isinstance(event, Signal):
                event = self._tools.why(event)
                self._signal = event.code
            if isinstance(event, Drain):
                self._drain = True
            elif event is not None:
                self._handle(scope, event)
            if not self._machine.done:
                event = self._inbox.get(TICK_S)
        self._open = False

    def _handle(self, scope: Scope, event: Event) -> None:
        for action in self._machine.handle(event):
            self._actions[type(action)](scope, action)
        if isinstance(event, machine.Started):
            self._begin_watch(scope)

    def _mourn(self, name: str, error: BaseException) -> None:
        """A thread died: fatal for the job if the server would no longer hear of it."""
        if name.endswith("heartbeat"):
            self._tell(machine.ThreadDied(name, f"{type(error).__name__}: {error}"))

    def _hear(self, reply: Reply) -> None:
        if reply.pilot_secrets:
            self._tools.redactor.add(*reply.pilot_secrets.values())
        for command in reply.commands:
            log.info("the server says %s %s", command.kind.name, command.text)
            self._tell(machine.Commanded(command))

    def _begin_watch(self, scope: Scope) -> None:
        container, started = self._payload.container, self._payload.started_s
        if container is None or started is None:
            return
        self._watch = self._tools.watch_for(self._job, self._queue, self._paths, container, started)
        scope.spawn("watch", self._watch.run, scope.stopping, lambda v: self._tell(machine.Crossed(v)))
        if self._shipper is not None:
            scope.spawn("logship", self._shipper.run, scope.stopping)

    # --- actions ------------------------------------------------------------

    def _say(self, _: Scope, action: object) -> None:
        assert isinstance(action, machine.Report)
        self._tools.ledger.note(action.state.value, self._report(action.state))
        self._heartbeat.say(action.state)

    def _prepare(self, scope: Scope, _: object) -> None:
        scope.spawn("payload", self._payload.run)

    def _cancel(self, _: Scope, __: object) -> None:
        self._payload.cancel()

    def _stop(self, scope: Scope, action: object) -> None:
        assert isinstance(action, machine.Stop)
        scope.spawn("stop", self._payload.stop, action.grace_s)

    def _debug(self, scope: Scope, action: object) -> None:
        assert isinstance(action, machine.Debug)
        off = action.command.kind is CommandKind.DEBUG_OFF
        before, self._debug_command = self._debug_command, "" if off else (action.command.text or "debug")
        if before != self._debug_command:
            self._heartbeat.debug(not off)

    def _hurry(self, _: Scope, action: object) -> None:
        assert isinstance(action, machine.Hurry)
        log.warning(
            "the pilot is being killed: %.1f s are left for job %d", action.seconds, self._job.panda_id
        )
        self._whole.shorten(action.seconds)

    def _wrap_up(self, scope: Scope, _: object) -> None:
        if self._watch is not None:
            started, ended = self._payload.started_s, self._payload.ended_s
            running_s = ended - started if started and ended else 0.0
            self._watch.finish(self._payload.exit, running_s=running_s)
        if self._shipper is not None and self._watch is None:
            # Never started, so nobody ran the shipper: there is nothing to ship.
            self._shipper = None
        self._wrapper = self._tools.wrapper_for(
            self._job, self._queue, self._paths, self._shipper, self._whole
        )
        self._tools.ledger.note("wrapup", self._report(JobState.RUNNING))
        scope.spawn("wrapup", self._run_wrapper, self._wrapper)

    def _run_wrapper(self, wrapper: Wrapper) -> None:
        result = wrapper.run(hurried=self._signal is not ErrorCode.NONE)
        self._wrapped = result
        self._tell(machine.WrappedUp(result.code, result.diag))

    def _deliver(self, scope: Scope, action: object) -> None:
        assert isinstance(action, machine.Deliver)
        if self._delivery is not None and self._delivery.is_alive():
            return  # its answer comes; the budget is the same one
        self._heartbeat.quiet()
        report = self._final(action.ending)
        self._tools.ledger.note("final", report)
        if report.code:
            loglines.add_error_codes(report.code, report.diag)
        self._delivery = scope.spawn("final", self._insist, report)

    def _insist(self, report: JobReport) -> None:
        budget = self._whole.part(self._config.wrapup.final_s, "final report")
        event: Event
        try:
            deliver(self._tools.server, report, budget=budget, stop=threading.Event())
        except (ServerError, BudgetSpent) as err:
            log.error("the final report of job %d was not delivered: %s", report.panda_id, err)
            event = machine.Undelivered(str(err))
        else:
            log.info("the server has the final report of job %d: %s", report.panda_id, report.state)
            event = machine.Delivered()
        self._tell(event)

    def _end(self, _: Scope, __: object) -> None:
        if self._machine.delivered:
            self._tools.ledger.clear()
        loglines.ready_for_new_job(self._job.panda_id)
        if self._wrapper is not None:
            self._wrapper.store_last_log()

    # --- reports ------------------------------------------------------------

    def _report(self, state: JobState) -> JobReport:
        """An update with today's numbers; called from the heartbeat's thread as well."""
        usage = self._watch.usage() if self._watch is not None else Usage()
        return JobReport(
            panda_id=self._job.panda_id,
            attempt=self._job.attempt,
            state=state,
            site=self._queue.resource,
            node=self._tools.node,
            pilot_id=self._pilot_id(self._config.worker.log_url),
            start_s=self._taken_s,
            cores=max(1, round(usage.cores) or self._job.cores),
            usage=usage,
            metrics=f"cpuFrequency={self._tools.node.cpu_mhz:.0f}" if self._tools.node.cpu_mhz else "",
            stdout=self._debug_text() if self._debug_command else "",
        )

    def _final(self, ending: machine.Ending) -> JobReport:
        result, wrapped = ending.result, self._wrapped
        failed = ending.state is JobState.FAILED
        url = wrapped.log_url if wrapped is not None else ""
        return replace(
            self._report(ending.state),
            pilot_id=self._pilot_id(url or self._config.worker.log_url),
            end_s=self._payload.ended_s or self._clock.time(),
            timing=self._timing(),
            exit_code=result.exit_code,
            code=result.code,
            diag=self._tools.redactor.text(result.diag),
            exe_code=result.exe_code,
            exe_diag=self._tools.redactor.text(result.exe_diag),
            log_tail=self._log_tail() if failed else "",
            metadata=self._metadata(),
            files=wrapped.files if wrapped is not None else (),
        )

    def _pilot_id(self, url: str) -> str:
        from pilot_core import __version__

        parts = (url, self._tools.node.batch_type, self._config.worker.version_tag, __version__)
        return "|".join(part for part in parts if part)

    def _timing(self) -> tuple[int, ...]:
        """getjob, stage-in, payload, stage-out, initial setup, setup; seconds."""
        now = self._clock.time()
        started = self._payload.started_s
        ended = self._payload.ended_s or now
        return (
            round(self._taken_s - self._asked_s),
            0,
            round(ended - started) if started else 0,
            round(now - ended),
            0,
            round((started or ended) - self._taken_s),
        )

    def _log_tail(self) -> str:
        tail = tail_bytes(self._paths.log, LOG_TAIL_BYTES - 32).decode("utf-8", "replace")
        return self._tools.redactor.text(f"- Log from {self._paths.log.name} -\n{tail}")

    def _metadata(self) -> str:
        path: Path = self._paths.work / "jobReport.json"
        if path.is_symlink() or not path.is_file() or path.stat().st_size > METADATA_BYTES:
            return ""
        return self._tools.redactor.text(tail_bytes(path, METADATA_BYTES).decode("utf-8", "replace"))

    def _debug_text(self) -> str:
        try:
            text = self._tools.debug_output(self._debug_command, self._paths)
        except PilotError as err:
            text = str(err)
        return self._tools.redactor.text(text)
