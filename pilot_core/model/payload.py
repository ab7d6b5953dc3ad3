"""What to run for a job, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pilot_core.model.codes import ErrorCode

__all__ = ["JobPaths", "PayloadKind", "PayloadResult", "PayloadSpec"]


class PayloadKind(StrEnum):
    """How the payload comes."""

    TRANSFORMATION = "transformation"
    """A script of the experiment, run beside the pilot; it may start
    containers itself.
    """
    IMAGE = "image"
    """A container image that the pilot starts."""


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The folders and files of one job.

    Attributes
    ----------
    home
        The pilot's main directory.
    work
        `home/PanDA_Pilot-<PandaID>`: the payload's working directory.
    shared
        `/tmp/panda/<PandaID>`: the same path on the host and in the pilot's
        container, so that it can be mounted into a payload's container.
    """

    home: Path
    work: Path
    shared: Path

    @property
    def stdout(self) -> Path:
        return self.work / "payload.stdout"

    @property
    def stderr(self) -> Path:
        return self.work / "payload.stderr"

    @property
    def log(self) -> Path:
        return self.work / "pilotlog.txt"


@dataclass(frozen=True, slots=True)
class PayloadSpec:
    """A payload ready to be compiled into a container spec; decided by the
    experiment.

    Attributes
    ----------
    kind, image
        See `PayloadKind`; `image` is empty for a transformation.
    script_url
        Where to fetch the transformation; empty if there is none to fetch.
    script_name
        Its file name in the work directory.
    command
        One line for the shell. Written by the job: quoting is the job's.
    shell
        The shell that runs it, as an argument list without the line itself.
    environment
        Everything the payload's environment holds, and nothing else.
    """

    panda_id: int
    kind: PayloadKind
    command: str
    shell: tuple[str, ...]
    image: str = ""
    script_url: str = ""
    script_name: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PayloadResult:
    """How a payload ended, judged.

    Attributes
    ----------
    exit_code
        What the payload's command returned, 0 to 255; 128 + n after signal n.
    code, diag
        The pilot's verdict; `ErrorCode.NONE` if the job succeeded.
    exe_code, exe_diag
        From the payload's own `payload_error_report.json`, else 0 and "".
    """

    exit_code: int
    code: ErrorCode = ErrorCode.NONE
    diag: str = ""
    exe_code: int = 0
    exe_diag: str = ""
