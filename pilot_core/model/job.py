"""One job as the server defined it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["InputFile", "Job", "OutputFile"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file the payload wants to find in its directory.

    Attributes
    ----------
    lfn, guid, scope, dataset
        Its names in the catalogue.
    endpoint
        ddmendpoint that holds it; empty if the queue decides.
    size
        Bytes, 0 if unknown.
    checksum
        `ad:<8 hex>` or `md5:<32 hex>`; empty if unknown.
    """

    lfn: str
    guid: str = ""
    scope: str = ""
    dataset: str = ""
    endpoint: str = ""
    size: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file the job must report: an output of the payload, or the log.

    `dataset` may hold `#{pandaid}`, which stands for the job's id
    (`PandaJob_#{pandaid}/` in every Rubin job).
    """

    lfn: str
    guid: str = ""
    scope: str = ""
    dataset: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What the server asked for, with the server's spellings of "unset"
    resolved.

    Attributes
    ----------
    panda_id
        PandaID.
    attempt
        attemptNr; echoed in each update, a wrong one gets `tobekilled`.
    task_id, request_id, jobset_id
        None where the server sent NULL.
    transformation
        URL or name of the payload script; may be empty for an image job.
    parameters
        jobPars, byte for byte.
    image
        Container image named by the job; empty for none.
    log
        The log file the report must name; None if the job defines none.
    cores
        coreCount, at least 1.
    max_walltime_s, min_ram_mb, max_disk_mb
        0 where unset.
    looping_check
        False forbids killing the payload for silence.
    debug, debug_command
        Debug mode asked for in the definition.
    secrets
        User secrets for the payload; never printed.
    pilot_secrets
        Secrets for the pilot itself; never printed.
    definition
        The raw map as received, for `job_definition.json` and the log;
        secrets left out.
    """

    panda_id: int
    attempt: int
    transformation: str
    parameters: str
    image: str = ""
    name: str = ""
    task_id: int | None = None
    request_id: int | None = None
    jobset_id: int | None = None
    label: str = ""
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[OutputFile, ...] = ()
    log: OutputFile | None = None
    cores: int = 1
    max_walltime_s: int = 0
    min_ram_mb: int = 0
    max_disk_mb: int = 0
    resource_type: str = ""
    looping_check: bool = True
    debug: bool = False
    debug_command: str = ""
    secrets: str = field(default="", repr=False)
    pilot_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    definition: Mapping[str, object] = field(default_factory=dict, repr=False)
