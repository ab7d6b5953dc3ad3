"""Log lines that other programs read: today's starter, wrapper and people's
searches know these words.

Logger and function names are part of the line in the long format, and
today's starter looks for some of them (`add_error_codes`,
`perform_initial_payload_error_analysis`), so they are pilot3's here although
our modules are called otherwise. Nothing else in the pilot logs under them.
"""

import logging

from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job

__all__ = [
    "ANALYSIS",
    "ERROR_CODES",
    "ERROR_DIAGS",
    "JOB_DEFINITION",
    "PAYLOAD_FINISHED",
    "READY",
    "STDERR_DUMP",
    "add_error_codes",
    "dump_job_definition",
    "dump_payload_stderr",
    "payload_finished",
    "payload_started",
    "perform_initial_payload_error_analysis",
    "pilot_finished",
    "ready_for_new_job",
]

# What our own starter knows these lines by; to change one is to change what
# yesterday's starter understands of today's pilot.
JOB_DEFINITION = "job definition = "
PAYLOAD_FINISHED = "finished pid=%d exit_code=%d state=%s"
ANALYSIS = "main payload execution returned non-zero exit code"
STDERR_DUMP = "payload stderr dump"
ERROR_CODES = "pilotErrorCodes = "
ERROR_DIAGS = "pilotErrorDiags = "
READY = "ready for new job"

_job = logging.getLogger("pilot.control.job")
_payload = logging.getLogger("pilot.control.payloads.generic")
_analysis = logging.getLogger("pilot.control.payload")
_https = logging.getLogger("pilot.util.https")
_diagnose = logging.getLogger("pilot.user.rubin.diagnose")
_main = logging.getLogger("pilot")


def dump_job_definition(job: Job) -> None:
    """The definition as a Python literal without a `|`: the starter takes the
    last field of the line for it.

    Secrets are not in `job.definition`. A `|` inside a value is written as the
    escape `\\x7c`, which the literal parser turns back.
    """
    text = repr(dict(job.definition)).replace("|", "\\x7c")
    _job.info("%s%s", JOB_DEFINITION, text)
    _job.info("received job: %d (sleep until the job has finished)", job.panda_id)
    _job.info("processing PanDA job %d from task %s", job.panda_id, job.task_id)


def payload_started(pid: int, command: str) -> None:
    """The payload runs."""
    _payload.info("\n\npayload execution command:\n\n%s\n", command)
    _payload.info("started -- pid=%d executable=%s", pid, command)


def payload_finished(pid: int, exit_code: int, state: str) -> None:
    """The block from which the starter learns that a payload failed."""
    _payload.info(f"\n\n{PAYLOAD_FINISHED}\n", pid, exit_code, state)


def perform_initial_payload_error_analysis(exit_code: int, diag: str) -> None:
    """Why the payload is thought to have failed."""
    _analysis.warning("%s: %d", ANALYSIS, exit_code)
    if diag:
        _analysis.warning("%s", diag)


def dump_payload_stderr(tail: bytes) -> None:
    """The end of the payload's stderr; the starter appends its last lines to
    the record.
    """
    _diagnose.info("%s\n%s", STDERR_DUMP, tail.decode("utf-8", "replace"))


def add_error_codes(code: ErrorCode, diag: str) -> None:
    """What the final report will say."""
    _https.warning("%s[%d] (will report primary/first error code)", ERROR_CODES, code)
    _https.warning("%s[%r] (will report primary/first error diag)", ERROR_DIAGS, diag)


def ready_for_new_job(panda_id: int) -> None:
    """The job is over for the pilot: what follows in the log is not about it."""
    _job.info("job %d has completed (purged errors)", panda_id)
    _job.info(READY)


def pilot_finished(code: ErrorCode, exit_code: int) -> None:
    """The last line of a pilot."""
    _main.info("pilot has finished (exit code=%d, shell exit code=%d)", code, exit_code)
