"""The last word on jobs that this pilot does not see through: left by an
earlier pilot here, refused, or lost to a mistake of ours.
"""

import logging
import threading
from dataclasses import replace
from pathlib import Path

from pilot_core import __version__, loglines
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.files import remove_tree
from pilot_core.config import WorkerConfig
from pilot_core.errors import PilotError, ServerError, ServerRefused, SetupError
from pilot_core.experiments.files import forget_secrets
from pilot_core.finalreport import deliver
from pilot_core.jobtools import JobTools
from pilot_core.ledger import HeldJob, last_report
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.report import JobReport, JobState, pilot_id, with_log_url

__all__ = ["LastWord", "remove_job"]

log = logging.getLogger(__name__)

#: A failed report for a job that was never run.
LAST_WORD_S = 60.0

#: Storing the logs of an earlier life.
EARLIER_LOGS_S = 60.0


def remove_job(paths: JobPaths) -> None:
    """Remove a job's folders."""
    remove_tree(paths.work)
    remove_tree(paths.shared)


class LastWord:
    """Says it.

    Parameters
    ----------
    whole
        All the time the pilot has.
    final_s
        For the report of an earlier life: as long as for one of our own, since
        no job may be taken before it is delivered.
    """

    def __init__(
        self, *, worker: WorkerConfig, tools: JobTools, clock: Clock, whole: Budget, final_s: float
    ) -> None:
        self._worker = worker
        self._final_s = final_s
        self._tools = tools
        self._clock = clock
        self._whole = whole

    def settle(self, held: HeldJob, stop: threading.Event) -> None:
        """Logs and last word of a job that an earlier pilot in this directory
        left.

        Raises
        ------
        ServerError, SetupError
            It could not be delivered, or that pilot still runs: no job may be
            taken, since the ledger has room for one.
        """
        if not held.owner_gone():
            words = f"{self._tools.ledger.path} belongs to {held.owner}, which may be running"
            raise SetupError(words, ErrorCode.GENERALERROR)
        diag = f"the pilot (pid {held.pid}) died while the job was at stage {held.stage!r}"
        report = last_report(held, code=ErrorCode.KILLSIGNAL, diag=diag, end_s=self._clock.time())
        log.warning(
            "job %d of an earlier life is reported %s: %s", report.panda_id, report.state, report.diag
        )
        paths = JobPaths(self._worker.home, Path(held.work), Path(held.shared))
        self._tools.redactor.renew(*forget_secrets(paths))
        url = self._store_logs(held, paths)
        if url:
            report = replace(report, pilot_id=with_log_url(report.pilot_id, url))
        self._deliver(report, stop, self._final_s)
        self._tools.ledger.clear()

    def _store_logs(self, held: HeldJob, paths: JobPaths) -> str:
        """The URL of that job's log, empty if it could not be stored."""
        if not held.log_prefix:
            return ""
        try:
            uploader = self._tools.uploader_for(held.copytool, held.log_prefix, paths)
            files = self._tools.experiment.log_files(paths)
            done = uploader.upload(files, budget=self._whole.part(EARLIER_LOGS_S, "earlier logs"))
        except PilotError as err:
            log.error("the logs of that job are not stored: %s", err)
            return ""
        for path, why in done.failed.items():
            log.error("%s of that job is not stored: %s", path.name, why)
        if self._worker.cleanup and not done.failed:
            remove_job(paths)
        stored = done.stored.get(paths.log)
        return (uploader.url(paths.log.name) or stored.url) if stored is not None else ""

    def give_up(self, job: Job, err: Exception) -> None:
        """The job's own loop failed: its end is told with what was noted of
        it.
        """
        diag = err.diag if isinstance(err, PilotError) else f"{type(err).__name__}: {err}"
        code = err.code if isinstance(err, PilotError) else ErrorCode.INTERNALPILOTPROBLEM
        held = self._tools.ledger.own
        if held is None or held.report.panda_id != job.panda_id:
            self.refuse(job.panda_id, job.attempt, code, diag)
            return
        report = last_report(held, code=code, diag=diag, end_s=self._clock.time())
        try:
            self._deliver(report, threading.Event())
        except ServerError as fault:
            log.error("the report of job %d was not delivered: %s", job.panda_id, fault)
        else:
            self._tools.ledger.clear()

    def refuse(self, panda_id: int, attempt: int, code: ErrorCode, diag: str) -> None:
        """Report a job failed that we took and will not run."""
        report = JobReport(
            panda_id=panda_id,
            attempt=attempt,
            state=JobState.FAILED,
            site=self._worker.queue,
            node=self._tools.node,
            pilot_id=pilot_id(
                self._worker.log_url, self._tools.node.batch_type, self._worker.version_tag, __version__
            ),
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

    def _deliver(self, report: JobReport, stop: threading.Event, seconds: float = LAST_WORD_S) -> None:
        """Send a last word; one that the server will never take is as good as
        sent.

        Raises
        ------
        ServerError
            It was not delivered.
        """
        budget = self._whole.part(seconds, "last word")
        try:
            deliver(self._tools.server, report, budget=budget, stop=stop)
        except ServerRefused as err:
            if err.unclear:
                raise
            log.error("the server refuses the last word of job %d: %s", report.panda_id, err)
        except BudgetSpent as err:
            raise ServerError(str(err)) from err
