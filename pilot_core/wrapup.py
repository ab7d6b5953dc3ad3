"""After the payload: last log lines, bundle, upload; each with its own
allowance of time.

The failure of one step never stops the next, and each failure is named in the
job's diagnostics. Order: what is read (the payload's last records) before what
is stored, what is stored before what is told, and the pilot's own log stored
once more at the very end, so that it holds the end.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.config import WrapupConfig
from pilot_core.errors import PilotError, StorageError
from pilot_core.experiments.contract import Experiment
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.report import FileReport
from pilot_core.storage.logs import LogUploader

if TYPE_CHECKING:
    from pilot_core.logship.shipper import LogShipper

__all__ = ["SHARE", "WORTHY_SHARE", "WrapUpResult", "Wrapper"]

log = logging.getLogger(__name__)

#: Storing the pilot's log once more after the final report. The main thread
#: waits for it, and a signal must not wait longer than this.
LAST_LOG_S = 5.0

#: Of the time left when the pilot is killed during the wrap-up: what is not
#: stored within this part of it is stored after the final report, if at all.
SHARE = 1 / 8

#: The same where the payload succeeded: without its files the job failed, and
#: all that it computed is computed again. With what the pilot has of 12 s, the
#: report is still there within 2 s.
WORTHY_SHARE = 0.18

# Measurements, which no job is failed for.
_BESIDE = "memory_monitor"


@dataclass(slots=True)
class WrapUpResult:
    """What became of the job's files; `stored` is True if all log files are
    where people look for them.
    """

    log_url: str = ""
    files: tuple[FileReport, ...] = ()
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
        if self._shipper is not None:
            self._shipper.finish(budget)

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
        needed = {path: err for path, err in upload.failed.items() if not path.name.startswith(_BESIDE)}
        for path in upload.failed.keys() - needed.keys():
            log.warning("%s is not stored: %s", path.name, upload.failed[path])
        for path, err in needed.items():
            self.result.problems.append(replace_diag(err, f"{path.name}: {err.diag}"))
        stored = upload.stored.get(self._paths.log)
        if stored is not None:
            self.result.log_url = self._uploader.url(self._paths.log.name) or stored.url
        if self._packed is not None and not needed:
            self.result.files += (self._packed,)


def replace_diag(err: StorageError, diag: str) -> StorageError:
    """The same failure with other words."""
    return type(err)(diag, err.code)
