"""Did a job end as planned, and did each of its log records arrive once?"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import LOG_FILE, Step

from pilot_core.local.rows import JobRow

__all__ = ["Result", "judge", "records_of", "shipped_by_job"]

FIELDS = (
    *("name", "asctime", "message", "levelno", "levelname", "filename", "pathname"),
    *("lineno", "funcName", "process", "processName", "exc_info", "MDC"),
)
"""Of a record as lsst.daf.butler writes it; the pilot adds others."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one job.

    Attributes
    ----------
    written, shipped
        Records in the stored payload-log.json, and at the log service.
    complaint
        Empty if all is as it should be.
    """

    step: Step
    job: JobRow
    logs: Path
    written: int
    shipped: int
    complaint: str


def records_of(text: str) -> Counter[str]:
    """Records of a log, each in one form whatever was added to it.

    Only ``\\n`` ends a record: its texts may hold other line separators.
    """
    found: Counter[str] = Counter()
    for line in filter(None, text.split("\n")):
        record = json.loads(line)
        found[json.dumps({name: record[name] for name in FIELDS if name in record}, sort_keys=True)] += 1
    return found


def shipped_by_job(path: Path) -> Mapping[int, str]:
    """What the file sink holds, as lines by PandaID."""
    lines: dict[int, list[str]] = {}
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in filter(None, text.split("\n")):
        entry: dict[str, Any] = json.loads(line)
        record = entry.get("jsonPayload", entry)
        lines.setdefault(int(record["PandaJobID"]), []).append(json.dumps(record))
    return {panda_id: "\n".join(found) for panda_id, found in lines.items()}


def judge(step: Step, job: JobRow, logs: Path, shipped: str) -> Result:
    """Compare a job with its plan, and its log with what arrived of it."""
    stored = logs / LOG_FILE
    written = records_of(stored.read_text(encoding="utf-8")) if stored.is_file() else Counter[str]()
    arrived = records_of(shipped)
    if job.started_s is None:
        return Result(step, job, logs, 0, 0, "no pilot ran it, see the worker's log")
    complaints = []
    if job.status != step.state:
        why = f" ({job.pilot_error[1]})" if job.pilot_error[1] else ""
        complaints.append(f"is {job.status}, should be {step.state}{why}")
    if job.exit_code != step.exit_code:
        complaints.append(f"exit code {job.exit_code}, should be {step.exit_code}")
    if not written:
        complaints.append(f"no records in {stored}")
    if missing := written - arrived:
        complaints.append(f"{missing.total()} records did not arrive")
    if doubled := arrived - written:
        complaints.append(f"{doubled.total()} records arrived twice or were never written")
    if not (logs / "pilotlog.txt").is_file():
        complaints.append(f"no pilotlog.txt in {logs}")
    return Result(step, job, logs, written.total(), arrived.total(), "; ".join(complaints))
