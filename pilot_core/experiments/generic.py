"""A plain experiment: transformations and images, without any custom of its
own.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pilot_core.base.files import UnsafeName, safe_join, tail_bytes
from pilot_core.errors import PayloadError
from pilot_core.experiments.diagnose import (
    LONGEST,
    TAIL_BYTES,
    clean_line,
    find_reason,
    last_line,
    names_refused_fork,
)
from pilot_core.experiments.environment import BATCH_SITE, HOST_BASICS, PANDA_CLIENT, WORKER, identity, select
from pilot_core.experiments.exits import explain_exit
from pilot_core.experiments.files import ERROR_REPORT, log_files
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadKind, PayloadResult, PayloadSpec
from pilot_core.model.queue import Queue

__all__ = ["GenericExperiment"]

_LONGEST_REPORT = 64 * 1024

# MAX_ARG_STRLEN of Linux, its final NUL left out; it holds for each argument
# alone.
_LONGEST_ARGUMENT = 32 * 4096 - 1

# exeErrorCode is a number(38) in the database; a 32 bit one fits everywhere.
_LARGEST_CODE = 2**31 - 1


class GenericExperiment:
    """Runs what the job says; subclasses name what is particular to theirs.

    Parameters
    ----------
    pass_environment
        Names or `PREFIX_*` that the operator hands on besides the declared
        ones.
    """

    name = "generic"
    base_urls: tuple[str, ...] = ("https://pandaserver-doma.cern.ch", "https://pandaserver.cern.ch")

    #: Variables for every payload, and further ones for scripts beside the
    #: pilot.
    everywhere: tuple[str, ...] = WORKER
    beside_pilot: tuple[str, ...] = HOST_BASICS + BATCH_SITE + PANDA_CLIENT

    #: True where a transformation may use the pilot's X.509 proxy.
    hands_over_proxy = False

    def __init__(self, *, pass_environment: Sequence[str] = ()) -> None:
        self._pass = tuple(pass_environment)

    def payload(self, job: Job, queue: Queue, paths: JobPaths, environment: Mapping[str, str]) -> PayloadSpec:
        """The payload of a job; see the contract."""
        name = _script_name(job.transformation, paths)
        image = bool(job.image)
        if not name and not (image and job.parameters.strip()):
            raise PayloadError("job names neither a transformation nor an image with a command")
        command = f"./{name} {job.parameters}" if name else job.parameters
        proxy = environment.get("X509_USER_PROXY", "")
        if self.hands_over_proxy and proxy and not image:
            # In the command and not in the environment, as pilot3 has it: the
            # text in the log is what a user may paste to run the job again.
            command = f"export X509_USER_PROXY={shlex.quote(proxy)};{command}"
        _check_argument(command)
        return PayloadSpec(
            panda_id=job.panda_id,
            kind=PayloadKind.IMAGE if image else PayloadKind.TRANSFORMATION,
            command=command,
            # An image may have no bash; a transformation of Rubin's needs it.
            shell=("/bin/sh", "-c") if image else ("/bin/bash", "-c"),
            image=job.image,
            script_url=job.transformation if name and "://" in job.transformation else "",
            script_name=name,
            environment=self._environment(job, queue, paths, environment),
        )

    def _environment(
        self, job: Job, queue: Queue, paths: JobPaths, environment: Mapping[str, str]
    ) -> dict[str, str]:
        patterns = self.everywhere + self._pass
        if not job.image:
            # PATH, HOME and the like are the image's own inside an image.
            patterns += self.beside_pilot
        return {**select(environment, patterns), **identity(job, queue, paths, self.name)}

    def judge(self, exit_code: int, paths: JobPaths, *, out_of_memory: bool) -> PayloadResult:
        """Verdict on a payload that ended by itself; see the contract.

        Exit 0 is success, whatever the output says. Everything else is
        PAYLOADEXECUTIONFAILURE; PAYLOADOUTOFMEMORY where the kernel said so;
        RESOURCEUNAVAILABLE where the payload itself says that it was refused
        a process or thread.
        """
        if exit_code == 0:
            return PayloadResult(exit_code=0)
        # Where the payload runs: the shared folder, if it came as an image.
        reports = (_error_report(folder / ERROR_REPORT) for folder in (paths.work, paths.shared))
        exe_code, exe_diag = next((report for report in reports if report != (0, "")), (0, ""))
        outputs = [tail_bytes(path, TAIL_BYTES) for path in (paths.stderr, paths.stdout)]
        reason = exe_diag or find_reason(exit_code, outputs)
        last = "" if reason else last_line(outputs[1])
        code = ErrorCode.PAYLOADEXECUTIONFAILURE
        if out_of_memory:
            code = ErrorCode.PAYLOADOUTOFMEMORY
        elif names_refused_fork(reason or last):
            code = ErrorCode.RESOURCEUNAVAILABLE
        said = explain_exit(exit_code)
        if out_of_memory:
            said = f"payload ran out of memory: {said}"
        if last:
            said = f"{said}; last line of {paths.stdout.name}: {last}"[:LONGEST]
        return PayloadResult(
            exit_code=exit_code,
            code=code,
            diag=_join(reason, said, said_first=out_of_memory),
            exe_code=exe_code,
            exe_diag=exe_diag,
        )

    def log_files(self, paths: JobPaths) -> Sequence[Path]:
        """Files to keep as logs; see the contract."""
        return log_files(paths)


def _script_name(transformation: str, paths: JobPaths) -> str:
    """File name of the transformation in the work directory; empty if the job
    has none.

    Raises
    ------
    PayloadError
        If it cannot be a file name.
    """
    transformation = transformation.strip()
    if not transformation:
        return ""
    path = urlsplit(transformation).path if "://" in transformation else transformation
    name = unquote(path.rpartition("/")[2]) if "://" in transformation else path.removeprefix("./")
    try:
        safe_join(paths.work, name)
    except UnsafeName as err:
        raise PayloadError(f"transformation {transformation[:100]!r}: {err}") from err
    if shlex.quote(name) != name or name.startswith("-"):
        # The name goes into a line for the shell, unquoted.
        raise PayloadError(f"transformation {transformation[:100]!r}: no plain file name for a shell")
    return name


def _check_argument(command: str) -> None:
    """Refuse what no kernel takes as one argument, before anything is started.

    Raises
    ------
    PayloadError
    """
    if "\0" in command:
        raise PayloadError("jobPars hold a NUL character")
    size = len(command.encode("utf-8", "surrogatepass"))
    if size > _LONGEST_ARGUMENT:
        raise PayloadError(f"the payload's command is {size} bytes long, Linux takes {_LONGEST_ARGUMENT}")


def _join(reason: str, said: str, *, said_first: bool) -> str:
    """Most specific first, both whole if they fit, else the reason cut."""
    if not reason:
        return said
    room = LONGEST - len(said) - 3
    reason = reason if len(reason) <= room else reason[: room - 3] + "..."
    return f"{said}: {reason}" if said_first else f"{reason} ({said})"


def _error_report(path: Path) -> tuple[int, str]:
    """Code and diagnosis of the payload's own report; 0 and "" if it is no
    use.
    """
    raw = tail_bytes(path, _LONGEST_REPORT + 1) if path.is_file() else b""
    if not raw or len(raw) > _LONGEST_REPORT:
        return 0, ""
    try:
        report = json.loads(raw)
    except (ValueError, RecursionError):
        return 0, ""
    if not isinstance(report, dict):
        return 0, ""
    code, diag = report.get("error_code"), report.get("error_diag")
    if not isinstance(code, int) or isinstance(code, bool) or abs(code) > _LARGEST_CODE:
        code = 0
    return code, clean_line(diag)[:LONGEST] if isinstance(diag, str) else ""
