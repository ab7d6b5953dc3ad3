"""What the local server remembers: jobs, updates, workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_core.model.codes import ErrorCode

__all__ = ["ARCHIVED_STATES", "JobRow", "UpdateRow", "WorkerRow"]

#: States a job never leaves.
ARCHIVED_STATES = frozenset({"finished", "failed", "cancelled", "closed"})

# What a job fails with when somebody else has ended its payload.
_ENDED = frozenset(
    {
        ErrorCode.NOLOCALSPACE,
        ErrorCode.USERDIRTOOLARGE,
        ErrorCode.STDOUTTOOBIG,
        ErrorCode.OUTPUTFILETOOLARGE,
        ErrorCode.PANDAKILL,
        ErrorCode.LOOPINGJOB,
        ErrorCode.KILLSIGNAL,
        ErrorCode.SIGTERM,
        ErrorCode.SIGQUIT,
        ErrorCode.SIGSEGV,
        ErrorCode.SIGXCPU,
        ErrorCode.USERKILL,
        ErrorCode.SIGBUS,
        ErrorCode.SIGUSR1,
        ErrorCode.SIGINT,
        ErrorCode.REACHEDMAXTIME,
        ErrorCode.PREEMPTION,
    }
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job. Times are epoch seconds, None before they happened.

    Attributes
    ----------
    status
        activated, sent, starting, running, holding, transferring, then one of
        finished, failed, cancelled, closed.
    queue, label, priority
        Who may take it, and which one first.
    definition
        The flat map that a pilot receives.
    columns
        What updates have set, under the database's own names (pilotID,
        pilotErrorCode, maxRSS...).
    command
        Repeated in each reply until it changes; empty for none.
    debug
        Debug mode is on.
    final
        `finished` or `failed` as the pilot said; empty before.
    report, metadata, pilot_log, stdout
        Texts of the updates.
    archived
        No longer in the active table: each further update gets `tobekilled`.
    """

    panda_id: int
    queue: str
    definition: Mapping[str, object] = field(repr=False)
    status: str = "activated"
    attempt: int = 1
    label: str = "managed"
    priority: int = 900
    columns: Mapping[str, object] = field(default_factory=dict, repr=False)
    command: str = ""
    debug: bool = False
    final: str = ""
    report: str = field(default="", repr=False)
    metadata: str = field(default="", repr=False)
    pilot_log: str = field(default="", repr=False)
    stdout: str = field(default="", repr=False)
    archived: bool = False
    created_s: float = 0.0
    sent_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    modified_s: float = 0.0

    @property
    def name(self) -> str:
        """jobName."""
        return str(self.definition.get("jobName", ""))

    def seconds(self, now: float) -> float | None:
        """From the hand-over to a pilot to the end, or to now; None before."""
        if self.sent_s is None:
            return None
        return (self.modified_s if self.archived else now) - self.sent_s

    @property
    def exit_code(self) -> int | None:
        """transExitCode as a number; None if no update named one."""
        value = self.columns.get("transExitCode")
        return None if value in (None, "", "NULL") else int(str(value))

    @property
    def payload_code(self) -> int | None:
        """The same, but None for the 0 that a report has to name where somebody
        else ended the payload.
        """
        ended = self.status == "cancelled" or self.pilot_error[0] in _ENDED
        return None if ended and not self.exit_code else self.exit_code

    @property
    def pilot_error(self) -> tuple[int, str]:
        """pilotErrorCode and pilotErrorDiag."""
        return int(str(self.columns.get("pilotErrorCode") or 0)), str(
            self.columns.get("pilotErrorDiag") or ""
        )

    @property
    def ddm_error(self) -> tuple[int, str]:
        """ddmErrorCode and ddmErrorDiag, set by the Adder."""
        return int(str(self.columns.get("ddmErrorCode") or 0)), str(self.columns.get("ddmErrorDiag") or "")

    @property
    def log_url(self) -> str:
        """Where the monitor would link the log: pilotID up to the first `|`."""
        return str(self.columns.get("pilotID") or "").split("|", 1)[0]


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """One update of a job, as it came and as it was answered.

    Attributes
    ----------
    fields
        Under the names of the v1 dialect, whichever dialect it came in.
    code
        StatusCode of the answer.
    command
        Command of the answer, `NULL` for none.
    dialect
        `v1` or `legacy`.
    """

    time_s: float
    panda_id: int
    fields: Mapping[str, object]
    code: int
    command: str
    dialect: str

    @property
    def status(self) -> str:
        """job_status."""
        return str(self.fields.get("job_status", ""))


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker's word about itself."""

    time_s: float
    harvester_id: str
    worker_id: str
    status: str
    node: str = ""
    site: str = ""
