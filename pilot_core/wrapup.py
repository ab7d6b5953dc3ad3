"""After the payload: last log lines, bundle, upload, final report; each with its own allowance of time.

The failure of one step never stops the next, and each failure is named in the
job's diagnostics. Order: what is read (the payload's last records) before what
is stored, what is stored before what is told, and the pilot's own log stored
once more at the very end, so that it holds the end.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.config import WrapupConfig
from pilot_core.errors import PilotError, ServerRefused, StorageError
from pilot_core.experiments.contract import Experiment
from pilot_core.logship.contract import ShipCounts
from pilot_core.logship.shipper import LogShipper
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.report import FileReport, JobReport
from pilot_core.server.contract import Server
from pilot_core.storage.logs import LogUploader

__all__ = ["WrapUpResult", "Wrapper", "deliver"]

log = logging.getLogger(__name__)

#: Storing the pilot's log once more after the final report.
LAST_LOG_S = 20.0


@dataclass(slots=True)
class WrapUpResult:
    """What became of the job's files."""

    log_url: str = ""
    files: tuple[FileReport, ...] = ()
    counts: ShipCounts | None = None
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
    """Carries out the steps between the payload's end and the final report, in one thread.

    Parameters
    ----------
    uploader
        Stores logs; None if the queue has no storage for them (`no_storage`
        then says why).
    bundle
        Makes `log.tgz` and returns its report; may raise StorageError.
    whole
        All the time there is; shortened from outside when the pilot is being
        killed.
    """

    def __init__(
        self,
        job: Job,
        paths: JobPaths,
        *,
        experiment: Experiment,
        shipper: LogShipper | None,
        uploader: LogUploader | None,
        no_storage: StorageError | None,
        bundle: Callable[[Budget], FileReport],
        config: WrapupConfig,
        whole: Budget,
        clock: Clock,
    ) -> None:
        self._job = job
        self._paths = paths
        self._experiment = experiment
        self._shipper = shipper
        self._uploader = uploader
        self._no_storage = no_storage
        self._bundle = bundle
        self._config = config
        self._whole = whole
        self._clock = clock
        self.result = WrapUpResult()

    def run(self, *, hurried: bool) -> WrapUpResult:
        """All steps; never raises."""
        for step, seconds in (
            (self._drain, self._config.drain_s if not hurried else self._whole.left / 3),
            (self._store, self._config.upload_s if not hurried else self._whole.left - 1.5),
        ):
            name = step.__name__.strip("_")
            budget = self._whole.part(max(0.0, seconds), name)
            try:
                step(budget)
            except PilotError as err:
                log.error("%s failed: %s", name, err)
                self.result.problems.append(err)
            except BudgetSpent as err:
                log.error("%s skipped: %s", name, err)
                self.result.problems.append(StorageError(f"{name}: {err}", ErrorCode.STAGEOUTTIMEOUT))
            except Exception as err:  # noqa: BLE001 - the machine waits for this thread's word
                log.exception("%s failed", name)
                self.result.problems.append(StorageError(f"{name}: {type(err).__name__}: {err}"))
        return self.result

    def store_last_log(self) -> None:
        """Store the pilot's log once more, now that it holds the end; best effort."""
        if self._uploader is None or not self.result.log_url:
            return
        budget = self._whole.part(LAST_LOG_S, "last log")
        try:
            again = self._uploader.upload([self._paths.log], budget=budget)
        except BudgetSpent:
            return
        for path, err in again.failed.items():
            log.warning("%s could not be stored again: %s", path.name, err)

    def _drain(self, budget: Budget) -> None:
        if self._shipper is None:
            return
        self.result.counts = counts = self._shipper.finish(budget)
        if counts.left_bytes or counts.rejected:
            log.error("real-time log incomplete: %s", counts)

    def _store(self, budget: Budget) -> None:
        if self._uploader is None:
            raise self._no_storage or StorageError("no storage for logs", ErrorCode.NOSTORAGE)
        bundled = self._bundle(budget) if self._job.log is not None else None
        upload = self._uploader.upload(self._files(), budget=budget)
        for path, err in upload.failed.items():
            self.result.problems.append(replace_diag(err, f"{path.name}: {err.diag}"))
        stored = upload.stored.get(self._paths.log)
        if stored is not None:
            self.result.log_url = stored.public_url or stored.url
        if bundled is not None and not upload.failed:
            self.result.files = (bundled,)

    def _files(self) -> Sequence[Path]:
        return self._experiment.log_files(self._paths)


def replace_diag(err: StorageError, diag: str) -> StorageError:
    """The same failure with other words."""
    return type(err)(diag, err.code)


def deliver(server: Server, report: JobReport, *, budget: Budget, stop: threading.Event) -> None:
    """Get the final report accepted.

    The server's client repeats it until the server says that it has stored it,
    or the budget is over. A report that is refused as such is sent once more
    without all that is not needed to end the job.

    Raises
    ------
    ServerError, BudgetSpent
        If it could not be delivered; the report stays in the ledger then.
    """
    try:
        server.update_job(report, budget=budget, stop=stop)
    except ServerRefused as err:
        log.error("the server refused the final report (%s); trying the bare one", err)
        server.update_job(bare(report), budget=budget, stop=stop)


def bare(report: JobReport) -> JobReport:
    """Only what ends the job: no text that could be too long, no numbers that could be out of range."""
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
