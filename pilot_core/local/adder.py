"""PURE: the local Adder, which turns a reported end into a final state.

A job whose pilot said `finished` is finished only if its file report names
every output and the log with guid, size and checksum. Texts and codes are
those of the Adder of panda-server 1.0.3.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from pilot_core.local.rows import JobRow

__all__ = ["file_error", "settle"]

DDM_ERROR = 200
UNREADABLE = "Could not get GUID/LFN/MD5/FSIZE/SURL from pilot JSON"


def settle(job: JobRow, *, now: float) -> JobRow:
    """The job after the Adder has seen it; call it for a job with `final` set."""
    columns = dict(job.columns)
    status = job.final
    command = job.command
    if job.final == "failed" and columns.get("jobSubStatus") == "pilot_closed":
        status, command = "closed", "tobekilled"
        columns |= {"taskBufferErrorCode": 100, "taskBufferErrorDiag": "closed by the pilot"}
    elif job.final == "failed" and job.command == "tobekilled":
        status = "cancelled"
    else:
        error = file_error(job)
        if error:
            status = "failed"
            columns |= {"ddmErrorCode": DDM_ERROR, "ddmErrorDiag": error}
    return replace(job, status=status, command=command, columns=columns, archived=True, modified_s=now)


def file_error(job: JobRow) -> str:
    """What is wrong with the file report; empty if nothing is.

    A failed job that names a reason needs no report.
    """
    expected = _expected(job.definition)
    named_reason = any(
        str(job.columns.get(name) or 0) not in ("0", "NULL")
        for name in ("pilotErrorCode", "transExitCode", "exeErrorCode")
    )
    if not expected or (job.final == "failed" and named_reason and not job.report):
        return ""
    files = _read(job.report)
    if files is None:
        return UNREADABLE
    for lfn in files:
        if not any(_belongs(lfn, name) for name in expected):
            return f"pilot produced {lfn} inconsistently with jobdef"
    if job.final == "finished":
        for name in expected:
            if not any(_belongs(lfn, name) for lfn in files):
                return f"expected output {name} is missing in pilot JSON"
    return ""


def _expected(definition: Mapping[str, object]) -> list[str]:
    names = str(definition.get("outFiles") or "").split(",")
    log = str(definition.get("logFile") or "")
    return [name for name in dict.fromkeys([*names, log]) if name and name != "NULL"]


def _belongs(lfn: str, name: str) -> bool:
    if name.startswith("regex|"):
        return re.fullmatch(name.removeprefix("regex|"), lfn) is not None
    return lfn == name or re.fullmatch(re.escape(name) + r"_\d+", lfn) is not None


def _read(report: str) -> Mapping[str, object] | None:
    try:
        files = json.loads(report)
        for entry in files.values():
            checksum = entry.get("adler32") or entry["md5sum"]
            if not (entry["guid"] and checksum and int(entry["fsize"]) >= 0):
                return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return dict(files)
