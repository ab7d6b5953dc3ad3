"""Prepare, start and wait for one payload, in a thread of the job's scope."""

import contextlib
import errno
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from container.contract import Container, Engine
from container.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    ImageError,
    ImageNotFound,
    StartError,
)
from container.spec import ContainerExit, PullProgress
from pilot_core import loglines
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.files import UnsafeName, safe_join, tail_bytes, write_atomic
from pilot_core.compile import container_spec
from pilot_core.config import PayloadConfig
from pilot_core.errors import NodeError, PilotError
from pilot_core.events import Event, Exited, NotStarted, Started
from pilot_core.experiments.contract import Experiment
from pilot_core.experiments.files import SECRETS
from pilot_core.fetch import fetch_script
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadKind, PayloadResult, PayloadSpec
from pilot_core.model.queue import Queue

__all__ = ["PayloadRun"]

log = logging.getLogger(__name__)

#: How much of a failed payload's stderr goes into the pilot's log.
STDERR_DUMP_BYTES = 16_384

#: A wait for the payload is broken up so that an end that only `stop` saw is
#: noticed.
WAIT_S = 5.0

# Engine failures in the server's numbers; the first match counts.
_ENGINE_CODES: tuple[tuple[type[EngineError], ErrorCode], ...] = (
    (ImageNotFound, ErrorCode.IMAGENOTFOUND),
    (ImageError, ErrorCode.SERVICENOTAVAILABLE),
    (EngineUnavailable, ErrorCode.RESOURCEUNAVAILABLE),
    (StartError, ErrorCode.SETUPFAILURE),
    (EngineError, ErrorCode.GENERALERROR),
)


class PayloadRun:
    """One payload from the job's folders to the verdict.

    `run` is a thread body that always ends with exactly one event: `Exited`,
    or `NotStarted`; `Started` comes before `Exited`. `cancel` and `stop` come
    from other threads.

    Parameters
    ----------
    engine_for
        The engine for a kind of payload; raises NodeError if this node has
        none.
    stage_in
        Fetches the job's inputs into a folder; raises StorageError.
    mend
        Sets right what the payload did to its work directory; returns what
        its files were lost by, in words.
    tasks
        Most processes and threads of the payload; 0 for no limit.
    memory_bytes
        Most memory of the payload; 0 for no limit.
    tell
        Where events go.
    """

    def __init__(
        self,
        job: Job,
        queue: Queue,
        paths: JobPaths,
        *,
        experiment: Experiment,
        engine_for: Callable[[PayloadKind], Engine],
        stage_in: Callable[[Path, Budget], None],
        mend: Callable[[], str],
        labels: Mapping[str, str],
        realtime_files: tuple[str, ...],
        config: PayloadConfig,
        tasks: int,
        memory_bytes: int,
        clock: Clock,
        tell: Callable[[Event], None],
    ) -> None:
        self._job = job
        self._queue = queue
        self._paths = paths
        self._experiment = experiment
        self._engine_for = engine_for
        self._stage_in = stage_in
        self._mend = mend
        self._labels = labels
        self._realtime_files = realtime_files
        self._config = config
        self._tasks = tasks
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._tell = tell
        self._cancelled = threading.Event()
        # Only `cancel` ends it.
        self._preparation = Budget(clock, math.inf, "preparation")
        self._given_up: ContainerExit | None = None
        self._started_told = False
        # For the moment in which a started payload becomes ours to stop.
        self._lock = threading.Lock()
        self._stop_asked: float | None = None
        self.container: Container | None = None
        self.exit: ContainerExit | None = None
        self.succeeded = False
        self.stagein_s = 0.0
        self.started_s: float | None = None
        self.ended_s: float | None = None
        # The same by a clock that nobody sets.
        self._started: float | None = None
        self._ended: float | None = None

    @property
    def running_s(self) -> float:
        """Seconds from start to end; 0 as long as either is missing."""
        return self._ended - self._started if self._started and self._ended else 0.0

    def cancel(self) -> None:
        """Give up preparing, at once where it is a transfer."""
        self._cancelled.set()
        self._preparation.shorten(0.0)

    def stop(self, grace_s: float) -> None:
        """End the payload; blocks for the grace and some seconds, so call it
        in a thread of its own.

        One that is being started is ended as soon as the engine has it.
        """
        with self._lock:
            self._stop_asked = grace_s
            container = self.container
        if container is None:
            return
        log.info("stopping the payload (grace %.1f s)", grace_s)
        try:
            self._given_up = container.stop(grace_s)
        except Exception as err:
            # `run` waits for an end, seen or not.
            log.error("the payload could not be stopped: %s", err, exc_info=not isinstance(err, EngineError))
            self.give_up(str(err))

    def give_up(self, why: str) -> None:
        """Nobody stops the payload: what waits for its end waits no longer."""
        self._given_up = ContainerExit(code=137, lost=f"not stopped: {why}")

    def orphaned(self, why: str) -> None:
        """The thread of `run` died: end the payload, and say in its place what
        is waited for.
        """
        self.cancel()
        self.stop(0.0)
        if self._started_told:
            self._tell(Exited(PayloadResult(137, ErrorCode.INTERNALPILOTPROBLEM, why)))
        else:
            self._tell(NotStarted(ErrorCode.INTERNALPILOTPROBLEM, why))

    def run(self) -> None:
        """Thread body."""
        self._tell(self._live())

    def _live(self) -> Event:
        """To the end, whatever that is; only `Started` is told here."""
        try:
            container = self._prepare()
        except PilotError as err:
            return NotStarted(err.code, err.diag)
        except Exception as err:
            # The machine waits for this thread's word.
            log.exception("preparation failed")
            self.stop(0.0)
            return NotStarted(ErrorCode.INTERNALPILOTPROBLEM, f"{type(err).__name__}: {err}")
        self._started_told = True
        self._tell(Started())
        try:
            result = self._see_through(container)
        except Exception as err:
            # The machine waits for this thread's word.
            log.exception("waiting for the payload failed")
            self.stop(0.0)
            result = PayloadResult(137, ErrorCode.PAYLOADEXECUTIONEXCEPTION, f"{type(err).__name__}: {err}")
        self.succeeded = result.code is ErrorCode.NONE
        self._remove(container)
        return Exited(result)

    # --- before -------------------------------------------------------------

    def _prepare(self) -> Container:
        self._check_cancelled()
        payload = self._experiment.payload(self._job, self._queue, self._paths, self._config.environment)
        try:
            self._make_folders(payload)
        except UnsafeName as err:
            raise PilotError(str(err), ErrorCode.BADOUTPUTFILENAME) from err
        except OSError as err:
            code = ErrorCode.NOLOCALSPACE if err.errno == errno.ENOSPC else ErrorCode.MKDIR
            raise NodeError(f"{err.filename}: {err.strerror or err}", code) from err
        if self._job.inputs:
            began = self._clock.monotonic()
            budget = self._preparation.part(self._config.stagein_s, "stage-in")
            try:
                self._stage_in(self._folder(payload), budget)
            except (PilotError, BudgetSpent):
                # Its files did not fail when the server wants none of them.
                self._check_cancelled()
                raise
            self.stagein_s = self._clock.monotonic() - began
            self._check_cancelled()
        if payload.script_url:
            self._fetch(payload)
        self._check_cancelled()
        try:
            return self._start(payload)
        except Cancelled as err:
            raise PilotError("cancelled while the payload was being prepared", ErrorCode.PANDAKILL) from err
        except EngineError as err:
            code = next(c for kind, c in _ENGINE_CODES if isinstance(err, kind))
            raise NodeError(str(err), code) from err

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise PilotError("cancelled while the payload was being prepared", ErrorCode.PANDAKILL)

    def _make_folders(self, payload: PayloadSpec) -> None:
        """The payload's folder and, for an image, the shared one with links to
        what it will write there.
        """
        if self._job.secrets:
            write_atomic(self._paths.work / SECRETS, self._job.secrets, mode=0o600)
        if payload.kind is not PayloadKind.IMAGE:
            return
        self._make_shared()
        ours = [path.name for path in (self._paths.stdout, self._paths.stderr, self._paths.log)]
        for name in self._realtime_files:
            if "/" not in name and name not in ours:
                link = safe_join(self._paths.work, name)
                with contextlib.suppress(FileExistsError):
                    link.symlink_to(self._paths.shared / name)
        if self._job.secrets:
            write_atomic(self._paths.shared / SECRETS, self._job.secrets, mode=0o600)

    def _make_shared(self) -> None:
        """The shared folder, open to the container's user, who is the image's,
        not ours.

        Others may write beside it: a link or a folder that one of them has put
        there would let us open, and later delete, something of another place.
        """
        shared = self._paths.shared
        shared.mkdir(parents=True, exist_ok=True)
        fd = os.open(shared, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                raise NodeError(f"{shared} belongs to somebody else", ErrorCode.MKDIR)
            os.fchmod(fd, 0o777)
        finally:
            os.close(fd)

    def _folder(self, payload: PayloadSpec) -> Path:
        return self._paths.shared if payload.kind is PayloadKind.IMAGE else self._paths.work

    def _fetch(self, payload: PayloadSpec) -> None:
        fetch_script(
            payload.script_url,
            self._folder(payload) / payload.script_name,
            base_urls=self._config.base_urls or self._experiment.base_urls,
            ca=self._config.ca_file,
            budget=Budget(self._clock, self._config.fetch_s, "transformation"),
            clock=self._clock,
            stop=self._cancelled,
        )

    def _start(self, payload: PayloadSpec) -> Container:
        engine = self._engine_for(payload.kind)
        if payload.image:
            engine.ensure_image(
                payload.image,
                timeout_s=self._config.pull_s,
                on_progress=self._show_pull,
                cancelled=self._cancelled,
            )
        self._check_cancelled()
        spec = container_spec(
            payload,
            self._paths,
            labels=self._labels,
            config=self._config,
            tasks=self._tasks,
            memory_bytes=self._memory_bytes,
            cpus=float(self._job.cores),
        )
        container = engine.start(spec)
        self.started_s, self._started = self._clock.time(), self._clock.monotonic()
        with self._lock:
            self.container = container
            grace_s = self._stop_asked
        loglines.payload_started(container.pid, payload.command)
        log.info("payload runs in engine %s as %s", engine.name, container.id)
        if grace_s is not None:
            self.stop(grace_s)
        return container

    def _show_pull(self, progress: PullProgress) -> None:
        log.info(
            "image: %d of %d layers, %.1f of %.1f MB %s",
            progress.layers_done,
            progress.layers,
            progress.bytes_done / 1e6,
            progress.bytes / 1e6,
            progress.text,
        )

    # --- after --------------------------------------------------------------

    def _see_through(self, container: Container) -> PayloadResult:
        ended = container.wait(WAIT_S)
        while ended is None and self._given_up is None:
            ended = container.wait(WAIT_S)
        ended = ended or self._given_up or ContainerExit(code=137, lost="no end was seen")
        self.ended_s, self._ended = self._clock.time(), self._clock.monotonic()
        self.exit = ended
        lost = self._mend()
        result = self._judge(ended)
        if lost:
            code, words = (
                result.code or ErrorCode.PAYLOADEXECUTIONFAILURE,
                f"the payload's files are lost: {lost}",
            )
            result = replace(result, code=code, diag=f"{words}; {result.diag}" if result.diag else words)
        loglines.payload_finished(container.pid, ended.code, "failed" if result.code else "finished")
        if result.code:
            loglines.dump_payload_stderr(tail_bytes(self._paths.stderr, STDERR_DUMP_BYTES))
            loglines.perform_initial_payload_error_analysis(ended.code, result.diag)
        return result

    def _judge(self, ended: ContainerExit) -> PayloadResult:
        """The experiment's verdict, unless the engine or the kernel knows
        better why it failed.
        """
        if ended.lost:
            log.error("the payload did not end by itself: %s", ended.lost)
        if ended.refused_forks:
            log.warning("the payload was refused a new process or thread %d times", ended.refused_forks)
        result = self._experiment.judge(ended.code, self._paths, out_of_memory=ended.out_of_memory)
        if result.code is ErrorCode.NONE:
            return result
        if ended.lost:
            return replace(result, code=ErrorCode.SERVICENOTAVAILABLE, diag=f"{ended.lost}; {result.diag}")
        if ended.out_of_memory:
            return result
        limit = f"limit of {self._tasks} processes and threads"
        if ended.refused_forks:
            refused = f"payload reached its {limit}, {ended.refused_forks} more were refused"
            return replace(result, code=ErrorCode.RESOURCEUNAVAILABLE, diag=f"{refused}; {result.diag}")
        if result.code is ErrorCode.RESOURCEUNAVAILABLE and self._tasks:
            return replace(result, diag=f"payload ran into its {limit}, or into the node's; {result.diag}")
        return result

    def _remove(self, container: Container) -> None:
        try:
            container.remove()
        except Exception as err:  # noqa: BLE001 - the machine waits for this thread's word
            log.warning("the payload's container %s could not be removed: %s", container.id, err)
