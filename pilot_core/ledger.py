"""What this pilot owes the server, on disk: so that a killed pilot's job still
gets its final report.

One file in the pilot's home, `pilot_job_state.json`, mode 0600, replaced
atomically at each change. The starter reads it after a pilot that died
without a word; the next pilot in the same directory reads it before it asks
for a job. `docs/architecture.md` lists who writes what when.

A disk that is full costs the record, not the job: the file then says less
than it might, which is said in the log.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pilot_core.base.files import NotRegular, open_regular, write_atomic
from pilot_core.base.procs import alive, boot_id, start_ticks
from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import FileReport, JobReport, JobState, Node
from pilot_core.model.sample import Usage

__all__ = ["FILE_NAME", "LOCK_NAME", "UNREADABLE", "HeldJob", "Ledger", "last_report"]

log = logging.getLogger(__name__)
T = TypeVar("T")

FILE_NAME = "pilot_job_state.json"
#: What a file is called that nobody here can read; people may.
UNREADABLE = "pilot_job_state.unreadable"
LOCK_NAME = "pilot_job_state.lock"
FORMAT = 1

#: A state file is some kB, with a job report in it a few MB.
_LONGEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that was taken and whose end the server may not know.

    Attributes
    ----------
    report
        The latest report: the final one from the moment it was decided, before
        that the newest ordinary one, so that a last word can be made of it.
    stage
        `taken`, `running`, `wrapup` or `final`; the machine's state in one
        word.
    pid, pid_ticks, boot, host
        The pilot: pid, its start time in ticks, the kernel's boot id, and the
        host's name, which is a container's own. Empty in older files.
    work, shared
        The job's folders.
    labels
        Labels on everything the job started.
    engine
        What runs payloads here, as `--engine` has it; empty if not known.
    payload
        What runs it: a pid, the id of a container or a pod; empty before its
        start.
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
    engine: str = ""
    host: str = ""
    payload: str = ""

    def owner_gone(self) -> bool:
        """True if the pilot that wrote this certainly runs no more.

        Of one on another host, whose folder we share, nobody here can tell.
        """
        here = self.host in ("", socket.gethostname())
        return here and not (self.boot == boot_id() and alive(self.pid, self.pid_ticks))

    @property
    def owner(self) -> str:
        """That pilot in words."""
        return f"pilot {self.pid} on {self.host}" if self.host else f"pilot {self.pid}"


class Ledger:
    """Writes and reads the file; may be called from any thread of one pilot."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE_NAME
        self._home = home
        self._held: HeldJob | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """The directory is this pilot's alone while the block lasts.

        Two pilots in one would overwrite each other's record. The kernel lets
        go of the claim with the process, however that ends.

        Raises
        ------
        SetupError
            A running pilot has it.
        """
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._home / LOCK_NAME, flags, 0o600)
        except OSError as err:
            raise SetupError(f"{self._home / LOCK_NAME}: {err.strerror}", ErrorCode.MKDIR) from err
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            os.close(fd)
            raise SetupError(f"another pilot is running in {self._home}", ErrorCode.GENERALERROR) from err
        except OSError as err:
            # A file system without locks: `owner_gone` has to do.
            log.warning("%s cannot be locked: %s", self._home / LOCK_NAME, err.strerror)
        try:
            yield
        finally:
            os.close(fd)

    def take(
        self,
        report: JobReport,
        *,
        work: Path,
        shared: Path,
        labels: Mapping[str, str],
        engine: str = "",
    ) -> None:
        """A job is ours from now on."""
        with self._lock:
            self._write(
                HeldJob(
                    report=report,
                    stage="taken",
                    work=str(work),
                    shared=str(shared),
                    pid=os.getpid(),
                    pid_ticks=start_ticks(os.getpid()) or 0,
                    boot=boot_id(),
                    host=socket.gethostname(),
                    labels=dict(labels),
                    engine=engine,
                )
            )

    def logs_at(self, prefix: str, copytool: str) -> None:
        """Where the job's logs go is known now."""
        with self._lock:
            if self._held is not None:
                self._write(replace(self._held, log_prefix=prefix, copytool=copytool))

    def runs_as(self, payload: str) -> None:
        """The payload has been started."""
        with self._lock:
            if self._held is not None:
                self._write(replace(self._held, payload=payload))

    def note(self, stage: str, report: JobReport) -> None:
        """The job has got so far."""
        with self._lock:
            if self._held is not None:
                self._write(replace(self._held, stage=stage, report=report))

    def clear(self) -> None:
        """The server has the final report: nothing is owed."""
        with self._lock:
            self._held = None
            try:
                self.path.unlink(missing_ok=True)
            except OSError as err:
                log.error("%s cannot be removed: %s", self.path, err.strerror)

    @property
    def own(self) -> HeldJob | None:
        """The job that this pilot has taken, as it knows it itself."""
        return self._held

    def held(self) -> HeldJob | None:
        """The job on record, or None; an unreadable file is set aside and
        said.

        Raises
        ------
        OSError
            As `look`: what is owed is not known, and the file stays.
        """
        try:
            return self.look()
        except ValueError as err:
            log.error("job state file %s cannot be read (%s); kept as %s", self.path, err, UNREADABLE)
            with contextlib.suppress(OSError):
                self.path.replace(self._home / UNREADABLE)
            return None

    def look(self) -> HeldJob | None:
        """The job on record, or None; touches nothing.

        Raises
        ------
        ValueError
            What is there is no record, and never will be.
        OSError
            It could not be read this time: no descriptor free, a disk or a
            server of files that fails. Nothing is known about its content.
        """
        try:
            with open_regular(self.path) as src:
                document = json.loads(src.read(_LONGEST))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r} is not {FORMAT}")
            return _read(document["held"])
        except FileNotFoundError:
            return None
        except (NotRegular, KeyError, TypeError, AttributeError, RecursionError) as err:
            raise ValueError(str(err)) from err

    def _write(self, held: HeldJob) -> None:
        self._held = held
        text = json.dumps({"format": FORMAT, "held": asdict(held)}, default=str)
        try:
            write_atomic(self.path, text, mode=0o600)
        except OSError as err:
            log.error("%s is not up to date: %s", self.path, err.strerror or err)


def _read(data: dict[str, Any]) -> HeldJob:
    report = dict(data["report"])
    report["state"] = JobState(report["state"])
    report["code"] = _code(report["code"])
    report["node"] = _made(Node, report["node"])
    report["usage"] = _made(Usage, report["usage"])
    report["files"] = tuple(_made(FileReport, f) for f in report["files"])
    report["timing"] = tuple(report["timing"])
    return _made(HeldJob, {**data, "report": _made(JobReport, report)})


def _made(kind: type[T], data: Mapping[str, Any]) -> T:
    """Without what only a newer pilot than this starter knows."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type] # all of them are dataclasses
    return kind(**{key: value for key, value in data.items() if key in names})


def _code(number: int) -> ErrorCode:
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.INTERNALPILOTPROBLEM


def last_report(held: HeldJob, *, code: ErrorCode, diag: str, end_s: float) -> JobReport:
    """The report that ends a held job: its own final one if it was decided,
    else failed with `code`.
    """
    if held.report.state.final:
        return held.report
    return replace(held.report, state=JobState.FAILED, code=code, diag=diag, end_s=end_s)
