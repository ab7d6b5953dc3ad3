"""What the server is told of one job: ordinary updates and the final report."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from pilot_core import __version__
from pilot_core.actions import Ending
from pilot_core.base.files import open_regular, tail_bytes
from pilot_core.config import WorkerConfig
from pilot_core.jobtools import JobTools
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue
from pilot_core.model.report import JobReport, JobState, pilot_id
from pilot_core.model.sample import Usage
from pilot_core.payloadrun import PayloadRun
from pilot_core.wrapup import WrapUpResult

__all__ = ["JobReports"]

log = logging.getLogger(__name__)

#: The server keeps this much of pilotLog in every release (pilot3 sends as
#: much).
LOG_TAIL_BYTES = 1024

#: jobReport.json is sent whole as metaData; a larger one is not a job report.
METADATA_BYTES = 4 * 1024 * 1024


class JobReports:
    """Makes the reports of one job; any thread may ask.

    Parameters
    ----------
    asked_s
        Epoch seconds when the pilot began to ask for this job.
    setup_s
        What it needed before that: from its start, or from the end of the job
        before.
    payload
        Knows when the payload started and ended.
    usage
        The payload's consumption so far.
    """

    def __init__(
        self,
        job: Job,
        queue: Queue,
        paths: JobPaths,
        *,
        asked_s: float,
        setup_s: float,
        payload: PayloadRun,
        usage: Callable[[], Usage],
        tools: JobTools,
        config: WorkerConfig,
    ) -> None:
        self._job = job
        self._queue = queue
        self._paths = paths
        self._asked_s = asked_s
        self._setup_s = setup_s
        self._payload = payload
        self._usage = usage
        self._tools = tools
        self._config = config
        self._clock = tools.clock
        self._taken_s = tools.clock.time()
        self._missed: list[str] = []

    def miss(self, name: str) -> None:
        """One of the job's threads died; each report says so from now on."""
        self._missed.append(name)

    def ordinary(self, state: JobState) -> JobReport:
        """An update with today's numbers; called from the heartbeat's thread
        as well.
        """
        usage = self._usage()
        if usage.cores > max(os.cpu_count() or 1, self._job.cores):
            # The payload's own prmon may count more than this payload, or the
            # time before our first look.
            usage = replace(usage, cores=0.0)
        return JobReport(
            panda_id=self._job.panda_id,
            attempt=self._job.attempt,
            state=state,
            site=self._queue.resource,
            node=self._tools.node,
            pilot_id=self._pilot_id(self._config.log_url),
            start_s=self._taken_s,
            started_s=self._payload.started_s,
            cores=max(1, round(usage.cores) or self._job.cores),
            usage=usage,
            metrics=" ".join(self._metrics()),
        )

    def _metrics(self) -> Iterator[str]:
        if self._tools.node.cpu_mhz:
            yield f"cpuFrequency={self._tools.node.cpu_mhz:.0f}"
        if self._missed:
            yield f"diedThreads={','.join(self._missed)}"

    def final(self, ending: Ending, wrapped: WrapUpResult | None) -> JobReport:
        result = ending.result
        failed = ending.state is JobState.FAILED
        url = wrapped.log_url if wrapped is not None else ""
        return replace(
            self.ordinary(ending.state),
            pilot_id=self._pilot_id(url or self._config.log_url),
            end_s=self._payload.ended_s or self._clock.time(),
            # The clock may have been set meanwhile.
            timing=tuple(max(0, seconds) for seconds in self._timing()),
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
        return pilot_id(url, self._tools.node.batch_type, self._config.version_tag, __version__)

    def _timing(self) -> tuple[int, ...]:
        """getjob, stage-in, payload, stage-out, initial setup, setup; seconds."""
        now = self._clock.time()
        started = self._payload.started_s
        ended = self._payload.ended_s or now
        return (
            round(self._taken_s - self._asked_s),
            round(self._payload.stagein_s),
            round(ended - started) if started else 0,
            round(now - ended),
            round(self._setup_s),
            round((started or ended) - self._taken_s),
        )

    def _log_tail(self) -> str:
        tail = tail_bytes(self._paths.log, LOG_TAIL_BYTES - 32).decode("utf-8", "replace")
        return self._tools.redactor.text(f"- Log from {self._paths.log.name} -\n{tail}")

    def _metadata(self) -> str:
        """jobReport.json from where the payload runs: the work or the shared
        folder.
        """
        for folder in (self._paths.work, self._paths.shared):
            try:
                with open_regular(folder / "jobReport.json") as src:
                    raw = src.read(METADATA_BYTES + 1)
            except OSError:
                continue
            if len(raw) <= METADATA_BYTES:
                return self._tools.redactor.text(raw.decode("utf-8", "replace"))
            log.warning("jobReport.json is not sent: more than %d bytes", METADATA_BYTES)
        return ""
