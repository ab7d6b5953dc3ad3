"""What this pilot owes the server, on disk: so that a killed pilot's job still gets its final report.

One file in the pilot's home, `pilot_job_state.json`, mode 0600, replaced
atomically at each change. The starter reads it after a pilot that died
without a word; the next pilot in the same directory reads it before it asks
for a job. `docs/architecture.md` lists who writes what when.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pilot_core.base.files import write_atomic
from pilot_core.base.procs import alive, boot_id, start_ticks
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import FileReport, JobReport, JobState, Node
from pilot_core.model.sample import Usage

__all__ = ["FILE_NAME", "HeldJob", "Ledger", "last_report"]

log = logging.getLogger(__name__)

FILE_NAME = "pilot_job_state.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that was taken and whose end the server may not know.

    Attributes
    ----------
    report
        The latest report: the final one from the moment it was decided, before
        that the newest ordinary one, so that a last word can be made of it.
    stage
        `taken`, `running`, `wrapup` or `final`; the machine's state in one word.
    pid, pid_ticks, boot
        The pilot: pid, its start time in ticks, and the kernel's boot id.
    work, shared
        The job's folders.
    labels
        Labels on everything the job started.
    log_prefix, copytool
        Where its logs go and with which tool; empty if not yet known.
    """

    report: JobReport
    stage: str
    work: str
    shared: str
    pid: int
    pid_ticks: int
    boot: str
    labels: Mapping[str, str] = field(default_factory=dict)
    log_prefix: str = ""
    copytool: str = ""

    def owner_alive(self) -> bool:
        """True if the pilot that wrote this still runs on this machine."""
        return self.boot == boot_id() and alive(self.pid, self.pid_ticks)


class Ledger:
    """Writes and reads the file; one writer (the job's main thread)."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE_NAME
        self._held: HeldJob | None = None

    def take(
        self,
        report: JobReport,
        *,
        work: Path,
        shared: Path,
        labels: Mapping[str, str],
        log_prefix: str,
        copytool: str,
    ) -> None:
        """A job is ours from now on."""
        self._write(
            HeldJob(
                report=report,
                stage="taken",
                work=str(work),
                shared=str(shared),
                pid=os.getpid(),
                pid_ticks=start_ticks(os.getpid()) or 0,
                boot=boot_id(),
                labels=dict(labels),
                log_prefix=log_prefix,
                copytool=copytool,
            )
        )

    def note(self, stage: str, report: JobReport) -> None:
        """The job has got so far."""
        if self._held is not None:
            self._write(replace(self._held, stage=stage, report=report))

    def clear(self) -> None:
        """The server has the final report: nothing is owed."""
        self._held = None
        self.path.unlink(missing_ok=True)

    def held(self) -> HeldJob | None:
        """The job on record, or None; an unreadable file is set aside and said."""
        try:
            raw = self.path.read_text()
        except FileNotFoundError:
            return None
        try:
            document = json.loads(raw)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r} is not {FORMAT}")
            return _read(document["held"])
        except (ValueError, KeyError, TypeError) as err:
            aside = self.path.with_suffix(".unreadable")
            self.path.replace(aside)
            log.error("job state file %s cannot be read (%s); kept as %s", self.path, err, aside.name)
            return None

    def _write(self, held: HeldJob) -> None:
        self._held = held
        text = json.dumps({"format": FORMAT, "held": asdict(held)}, default=str)
        write_atomic(self.path, text, mode=0o600)


def _read(data: dict[str, Any]) -> HeldJob:
    report = dict(data["report"])
    report["state"] = JobState(report["state"])
    report["code"] = ErrorCode(report["code"])
    report["node"] = Node(**report["node"])
    report["usage"] = Usage(**report["usage"])
    report["files"] = tuple(FileReport(**f) for f in report["files"])
    report["timing"] = tuple(report["timing"])
    return HeldJob(**{**data, "report": JobReport(**report)})


def last_report(held: HeldJob, *, code: ErrorCode, diag: str, end_s: float) -> JobReport:
    """The report that ends a held job: its own final one if it was decided, else failed with `code`."""
    if held.report.state.final:
        return held.report
    return replace(held.report, state=JobState.FAILED, code=code, diag=diag, end_s=end_s)
