"""What the pilot tells the server about a job, free of any dialect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from pilot_core.model.codes import ErrorCode
from pilot_core.model.sample import Usage

__all__ = [
    "Command",
    "CommandKind",
    "FileReport",
    "JobReport",
    "JobState",
    "Node",
    "Reply",
    "WorkerState",
    "pilot_id",
    "with_log_url",
]

#: The server cuts `pilotID` there (panda-server 1.0.3).
PILOT_ID_CHARS = 200


class JobState(StrEnum):
    """States the server accepts from a pilot (panda-server 1.0.3, 0.8.1)."""

    STARTING = "starting"
    RUNNING = "running"
    HOLDING = "holding"
    TRANSFERRING = "transferring"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in (JobState.FINISHED, JobState.FAILED)


class WorkerState(StrEnum):
    """States of a worker in update_worker_status."""

    STARTED = "started"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Node:
    """Where the pilot runs; the same in every report of its life.

    Attributes
    ----------
    name
        `[slot@]host`, cut to 128 characters by the server.
    batch_type, batch_id
        `Kubernetes` and the Job's name, `SLURM` and its id...; empty if
        unknown.
        The id must not change within a job: the server kills a job whose
        batch_id changes.
    scheduler_id
        PANDA_JSID.
    cpu_unit
        `s+<model> <cache> KB <n>-Core Processor HT <n>-Socket+AVX2`, at most
        128 characters: a longer one costs the whole update.
    cpu_level
        `x86_64-v3`...
    """

    name: str
    batch_type: str = ""
    batch_id: str = ""
    scheduler_id: str = ""
    cpu_unit: str = ""
    cpu_mhz: float = 0.0
    cpu_level: str = ""
    cores: int = 1
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class FileReport:
    """One stored file of the job, for `job_output_report`.

    `adler32` is 8 hex digits. A `finished` job whose report misses a file,
    or names one the job does not define, is turned into `failed` by the
    server.
    """

    lfn: str
    guid: str
    size: int
    adler32: str
    surl: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class JobReport:
    """One update of one job. Which fields travel depends on the state; see
    `server/wire_*`.

    Attributes
    ----------
    start_s, started_s, end_s
        Epoch seconds when the job was taken, when its payload started, and
        when that ended, or the job without one; None where not yet known.
    pilot_id
        Of `pilot_id`, which see.
    timing
        Seconds for getjob, stage-in, payload, stage-out, initial setup, setup.
    exit_code
        transExitCode.
    log_tail
        End of the pilot's log, sent with a failed job.
    stdout
        Output of a debug command.
    files
        The file report of a final update.
    metadata
        Text of `jobReport.json`.
    """

    panda_id: int
    attempt: int
    state: JobState
    site: str
    node: Node
    pilot_id: str = ""
    sub_state: str = ""
    start_s: float | None = None
    started_s: float | None = None
    end_s: float | None = None
    cores: int = 1
    usage: Usage = field(default_factory=Usage)
    timing: tuple[int, ...] = ()
    exit_code: int | None = None
    code: ErrorCode = ErrorCode.NONE
    diag: str = ""
    exe_code: int = 0
    exe_diag: str = ""
    log_tail: str = ""
    stdout: str = ""
    metrics: str = ""
    metadata: str = ""
    files: tuple[FileReport, ...] = ()


class CommandKind(Enum):
    """What the server can ask for in the reply to an update."""

    KILL = auto()
    """`tobekilled`"""
    SOFT_KILL = auto()
    """`softkill`"""
    DEBUG = auto()
    """`debug`: send the tail of the payload's newest log"""
    DEBUG_OFF = auto()
    """`debugoff`"""
    DEBUG_COMMAND = auto()
    """tail, ls, ps, du or gdb with arguments"""
    NO_CLEANUP = auto()
    """`nocleanup`"""
    ALREADY_DONE = auto()
    """`alreadydone`: the final report had been taken before; as good as
    accepted
    """
    UNKNOWN = auto()
    """anything else; said in the log, no reaction"""


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the back-channel, parsed at the edge."""

    kind: CommandKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered to an update that it accepted."""

    commands: tuple[Command, ...] = ()
    pilot_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def pilot_id(url: str, *about: str) -> str:
    """`<log URL>|<batch system>|<version tag>|<version>`, within the server's
    200 characters.

    A signed URL is longer than that: it goes without its signature, for those
    who may read anyway.
    """
    told = "|".join(part for part in (url, *about) if part)
    if len(told) <= PILOT_ID_CHARS or "?" not in url:
        return told
    return pilot_id(url.partition("?")[0], *about)


def with_log_url(told: str, url: str) -> str:
    """A pilotID with another log's address in its first place, which may have
    held none, or the word that pilot3 has for none.
    """
    first, *rest = told.split("|")
    return pilot_id(url, *rest) if "://" in first or first == "unknown" else pilot_id(url, first, *rest)
