"""After the payload: last log lines, bundle, upload, final report; each with
its own allowance of time.

The failure of one step never stops the next, and each failure is named in the
job's diagnostics. Order: what is read (the payload's last records) before what
is stored, what is stored before what is told, and the pilot's own log stored
once more at the very end, so that it holds the end.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.retry import insistence, retry
from pilot_core.config import WrapupConfig
from pilot_core.errors import PilotError, ServerRefused, StorageError
from pilot_core.experiments.contract import Experiment
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.report import FileReport, JobReport
from pilot_core.server.contract import Server
from pilot_core.storage.logs import LogUploader

if TYPE_CHECKING:
    from pilot_core.logship.contract import ShipCounts
    from pilot_core.logship.shipper import LogShipper

__all__ = ["HANGING", "SHARE", "WrapUpResult", "Wrapper", "breather_s", "deliver", "deliver_at_last"]

log = logging.getLogger(__name__)

#: Storing the pilot's log once more after the final report. The main thread
#: waits for it, and a signal must not wait longer than this.
LAST_LOG_S = 5.0

#: Longest pause after a final report that had to wait, in units of its wait
#: and in seconds.
BREATHER = 2.0
LONGEST_BREATHER_S = 1_800.0

#: Of the time left when the pilot is killed during the wrap-up: what is not
#: stored within this part of it is stored after the final report, if at all.
SHARE = 1 / 8

#: And what of it a final report may take that hangs just then.
HANGING = 1 / 3


@dataclass(slots=True)
class WrapUpResult:
    """What became of the job's files; `stored` is True if all log files are
    where people look for them.
    """

    log_url: str = ""
    files: tuple[FileReport, ...] = ()
    counts: "ShipCounts | None" = None
    stored: bool = False
    problems: list[PilotError] = field(default_factory=list)

    @property
    def code(self) -> ErrorCode:
        """Code of the first problem, NONE if all went well."""
        return self.problems[0].code if self.problems else ErrorCode.NONE

    @property
    def diag(self) -> str:
        """All problems, the first one first."""
        return "; ".join(p.diag for p in self.problems)


class Wrapper:
    """Carries out the steps between the payload's end and the final report, in
    one thread.

    Parameters
    ----------
    uploader
        Stores logs one by one; None if the queue has no storage for them
        (`no_storage` then says why), or one that takes only the bundle.
    bundle
        Makes `log.tgz` and returns its report; may raise StorageError.
    stage_out
        Stores the payload's outputs: reports of the stored ones, and what
        failed.
    """

    def __init__(
        self,
        job: Job,
        paths: JobPaths,
        *,
        experiment: Experiment,
        shipper: "LogShipper | None",
        uploader: LogUploader | None,
        no_storage: StorageError | None,
        bundle: Callable[[Budget], FileReport | None],
        stage_out: Callable[[Budget], tuple[tuple[FileReport, ...], StorageError | None]],
        config: WrapupConfig,
    ) -> None:
        self._job = job
        self._paths = paths
        self._experiment = experiment
        self._shipper = shipper
        self._uploader = uploader
        self._no_storage = no_storage
        self._bundle = bundle
        self._stage_out = stage_out
        self._config = config
        self._packed: FileReport | None = None
        self._left_over: tuple[Path, ...] = ()
        self.result = WrapUpResult()

    def run(self, whole: Budget, *, hurried: bool, succeeded: bool) -> WrapUpResult:
        """All steps; never raises.

        Parameters
        ----------
        whole
            Time for all of it; shortened from outside when the pilot is
            killed.
        hurried
            The pilot was being killed before this began.
        succeeded
            The payload did: only then are its outputs worth storing.
        """
        config = self._config
        steps: tuple[tuple[Callable[[Budget], None], float], ...] = (
            (self._drain, config.drain_s),
            *(((self._outputs, config.stageout_s),) if succeeded and self._job.outputs else ()),
            (self._pack, config.upload_s),
            (self._store, config.upload_s),
        )
        if hurried:
            # A failed job's report names no files: nothing is packed for it.
            steps = ((self._drain, whole.left / 3), (self._store, whole.left - 1.5))
        for step, seconds in steps:
            name = step.__name__.strip("_")
            budget = whole.part(max(0.0, seconds), name)
            try:
                step(budget)
            except PilotError as err:
                log.error("%s failed: %s", name, err)
                self.result.problems.append(err)
            except BudgetSpent as err:
                log.error("%s skipped: %s", name, err)
                self.result.problems.append(StorageError(f"{name}: {err}", ErrorCode.STAGEOUTTIMEOUT))
            except Exception as err:
                # The machine waits for this thread's word.
                log.exception("%s failed", name)
                self.result.problems.append(StorageError(f"{name}: {type(err).__name__}: {err}"))
        return self.result

    def store_last_log(self, whole: Budget) -> None:
        """Store the log once more, now that it holds the end, and what failed
        before.
        """
        if self._uploader is None:
            return
        budget = whole.part(LAST_LOG_S, "last log")
        files = dict.fromkeys((self._paths.log, *self._left_over))
        for path, err in self._uploader.upload(list(files), budget=budget).failed.items():
            log.warning("%s could not be stored at last: %s", path.name, err)

    def _drain(self, budget: Budget) -> None:
        if self._shipper is None:
            return
        self.result.counts = counts = self._shipper.finish(budget)
        if counts.left_bytes or counts.rejected:
            log.error("real-time log incomplete: %s", counts)

    def _outputs(self, budget: Budget) -> None:
        self.result.files, problem = self._stage_out(budget)
        if problem is not None:
            raise problem

    def _pack(self, budget: Budget) -> None:
        if self._no_storage is None and self._job.log is not None:
            self._packed = self._bundle(budget)

    def _store(self, budget: Budget) -> None:
        if self._no_storage is not None:
            raise self._no_storage
        if self._uploader is None:
            self.result.stored = self._packed is not None
            self.result.files += (self._packed,) if self._packed is not None else ()
            return
        files = tuple(self._experiment.log_files(self._paths))
        self._left_over = files
        upload = self._uploader.upload(files, budget=budget)
        self._left_over = tuple(upload.failed)
        self.result.stored = not upload.failed
        for path, err in upload.failed.items():
            self.result.problems.append(replace_diag(err, f"{path.name}: {err.diag}"))
        stored = upload.stored.get(self._paths.log)
        if stored is not None:
            self.result.log_url = self._uploader.url(self._paths.log.name) or stored.url
        if self._packed is not None and not upload.failed:
            self.result.files += (self._packed,)


def replace_diag(err: StorageError, diag: str) -> StorageError:
    """The same failure with other words."""
    return type(err)(diag, err.code)


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


def deliver_at_last(
    server: Server, report: JobReport, *, patient: Budget, budget: Budget, hasten: threading.Event
) -> float:
    """Deliver; once `hasten` is set, again with what is then left of the
    budget, which is so little that nothing waits long.

    Parameters
    ----------
    patient
        The part of the budget that ends when there is haste: what hangs then
        must not take all of it.

    Returns the seconds it took.

    Raises
    ------
    ServerError, BudgetSpent
        As `deliver`.
    """
    began_s = budget.clock.monotonic()
    try:
        deliver(server, report, budget=patient, stop=hasten)
    except (PilotError, BudgetSpent):
        if not hasten.is_set():
            raise
        deliver(server, report, budget=budget, stop=threading.Event())
    return budget.clock.monotonic() - began_s


def breather_s(waited_s: float) -> float:
    """Seconds for which a pilot neither asks for a job nor makes room for
    another pilot, after a final report that had to wait so long.

    The others' reports come just now, and a new job is three requests more:
    those of a fleet are spread over twice the time that the server was away
    (`benchmarks/fleet_server.py`).
    """
    return random.uniform(0.0, min(BREATHER * waited_s, LONGEST_BREATHER_S))


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
