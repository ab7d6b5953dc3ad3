"""An experiment turns a job into a payload and reads the payload's end.

All methods are called from the job's own threads; implementations hold no
state. `payload` is pure; `judge` reads only below the job's work directory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadResult, PayloadSpec
from pilot_core.model.queue import Queue

__all__ = ["Experiment"]


class Experiment(Protocol):
    """Rubin, or a plain one."""

    #: Name as given with `--pilot-user`.
    name: str
    #: URL prefixes a transformation may come from when the operator names
    #: none.
    base_urls: tuple[str, ...]

    def payload(self, job: Job, queue: Queue, paths: JobPaths, environment: Mapping[str, str]) -> PayloadSpec:
        """The payload of a job.

        Parameters
        ----------
        environment
            The pilot's own environment; the payload gets a declared part of
            it.

        Raises
        ------
        PayloadError
            If the job does not say what to run.
        """
        ...

    def judge(self, exit_code: int, paths: JobPaths, *, out_of_memory: bool) -> PayloadResult:
        """Verdict on a payload that ended by itself with `exit_code` (0 to
        255).

        Reads the ends of payload.stdout and payload.stderr and, if there,
        `payload_error_report.json`. Bytes that are no UTF-8 do no harm.
        """
        ...

    def log_files(self, paths: JobPaths) -> Sequence[Path]:
        """Files to keep as logs, the most useful first; only files that exist."""
        ...
