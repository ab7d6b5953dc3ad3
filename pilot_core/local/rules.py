"""PURE: what an update does to a job, and when a silent job is given up.

Source: panda-server 1.0.3 and 0.8.1 (`update_job`, Watcher), their source and
their answers. Field names here are those of the v1 dialect.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pilot_core.base.clock import server_time
from pilot_core.local.rows import JobRow

__all__ = ["STATES", "Verdict", "accepts_label", "cancel", "overdue", "update"]

#: What a pilot may report.
STATES = ("running", "starting", "holding", "transferring", "finished", "failed")
FINAL = ("finished", "failed")

SUCCESS = 0
FAILED = 30

INT4 = 2**31
TEN_DIGITS = 10**10 - 1

SENT_LIMIT_S = 30 * 60
RUNNING_LIMIT_S = 2 * 3600
HOLDING_LIMIT_S = 3 * 3600

Convert = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an update.

    Attributes
    ----------
    code
        StatusCode; 0 even where nothing was stored.
    command
        Of the reply: `NULL`, `tobekilled`, `alreadydone` or an operator's
        text.
    job
        The job afterwards; None if nothing is to be stored.
    message
        Said beside a StatusCode other than 0.
    """

    code: int
    command: str
    job: JobRow | None = None
    message: str = ""


def _cut(length: int) -> Convert:
    return lambda value: str(value)[:length]


def _whole(value: object) -> object:
    return int(float(str(value)))


def _kilo(value: object) -> object:
    """Bytes come in, kB are stored, at most ten digits of them."""
    return min(int(float(str(value)) / 1024), TEN_DIGITS)


def _same(value: object) -> object:
    return value


#: v1 field -> (database column, what is done to the value).
COLUMNS: Mapping[str, tuple[str, Convert]] = {
    "node": ("modificationHost", _cut(128)),
    "scheduler_id": ("schedulerID", _same),
    "pilot_id": ("pilotID", _cut(200)),
    "batch_id": ("batchID", _cut(80)),
    "job_sub_status": ("jobSubStatus", _cut(80)),
    "core_count": ("actualCoreCount", _same),
    "mean_core_count": ("meanCoreCount", _same),
    "n_events": ("nEvents", _same),
    "n_input_files": ("nInputFiles", _same),
    "trans_exit_code": ("transExitCode", _same),
    "pilot_error_code": ("pilotErrorCode", _same),
    "pilot_error_diag": ("pilotErrorDiag", _cut(500)),
    "exe_error_code": ("exeErrorCode", _same),
    "exe_error_diag": ("exeErrorDiag", _cut(500)),
    "cpu_consumption_time": ("cpuConsumptionTime", _same),
    "cpu_consumption_unit": ("cpuConsumptionUnit", _same),
    "cpu_conversion_factor": ("cpuConversion", _same),
    "cpu_architecture_level": ("cpu_architecture_level", _cut(20)),
    "job_metrics": ("jobMetrics", _cut(500)),
    "pilot_timing": ("pilotTiming", _same),
    "grid": ("grid", _cut(50)),
    "source_site": ("source_site", _cut(36)),
    "destination_site": ("destination_site", _cut(36)),
    **{
        f"{kind}_{name}": (f"{kind}{name.upper()}", _whole)
        for kind in ("max", "avg")
        for name in ("rss", "vmem", "swap", "pss")
    },
    **{
        f"{kind}_{name}": (f"{kind}{name.upper()}", _kilo)
        for kind in ("tot", "rate")
        for name in ("rchar", "wchar", "rbytes", "wbytes")
    },
}

#: The older dialect divides the totals but not the rates.
LEGACY_COLUMNS: Mapping[str, tuple[str, Convert]] = {
    name: (column, _whole if name.startswith("rate_") else convert)
    for name, (column, convert) in COLUMNS.items()
}

#: Columns whose values are not cut: a longer one costs the whole update.
TOO_LONG = {"cpuConsumptionUnit": 128, "pilotTiming": 100, "schedulerID": 128}
#: Columns of four bytes, and the widest number of numeric(9,4).
TOO_LARGE = {"actualCoreCount": INT4, "meanCoreCount": INT4, "nInputFiles": INT4, "cpuConversion": 10**5}


def update(job: JobRow | None, fields: Mapping[str, object], *, now: float, dialect: str = "v1") -> Verdict:
    """Judge an update of a pilot.

    Parameters
    ----------
    job
        The job it is about; None if there is none of that number.
    fields
        Checked parameters under the names of v1; None and absent are the same.
    now
        Epoch seconds.
    dialect
        `v1` or `legacy`, which differ in the unit of the rates.
    """
    state = str(fields["job_status"])
    if fields.get("meta_data") and state != "failed" and job is None:
        return Verdict(FAILED, "NULL", message="Failed to add meta_data")
    attempt = fields.get("attempt_nr")
    if job is None or job.archived or (attempt is not None and attempt != job.attempt):
        return Verdict(SUCCESS, "tobekilled")
    if job.status == "failed" or (job.final and state in FINAL):
        return Verdict(SUCCESS, "alreadydone")
    columns = _columns(fields, LEGACY_COLUMNS if dialect == "legacy" else COLUMNS)
    if _refused_by_database(columns) or _other_batch(job, columns):
        return Verdict(FAILED, "NULL", message="Database error")
    changed = _apply(job, state, fields, columns, now)
    return Verdict(SUCCESS, reply_command(job), changed)


def reply_command(job: JobRow) -> str:
    """What every reply about this job says."""
    if job.command == "tobekilled":
        return "tobekilled"
    parts = [text for text in ("debug" if job.debug else "", job.command) if text]
    return ",".join(parts) or "NULL"


def _columns(fields: Mapping[str, object], table: Mapping[str, tuple[str, Convert]]) -> dict[str, object]:
    columns: dict[str, object] = {}
    for name, (column, convert) in table.items():
        value = fields.get(name)
        if value is not None and value != "":
            columns[column] = convert(value)
    return columns


def _refused_by_database(columns: Mapping[str, object]) -> bool:
    if any(len(str(columns.get(name, ""))) > limit for name, limit in TOO_LONG.items()):
        return True
    return any(abs(float(str(columns.get(name, 0)))) >= limit for name, limit in TOO_LARGE.items())


def _other_batch(job: JobRow, columns: Mapping[str, object]) -> bool:
    """True if another batch job claims to run this one: meant to end as
    `tobekilled`.

    In 1.0.3 a slip in the server turns it into a database error.
    """
    old, new = str(job.columns.get("batchID") or ""), str(columns.get("batchID") or "")
    return bool(old and new and old != new and not (old.isdigit() and new.isdigit()))


def _apply(
    job: JobRow, state: str, fields: Mapping[str, object], columns: Mapping[str, object], now: float
) -> JobRow:
    merged = {**job.columns, **columns}
    status = _next_status(job.status, state)
    if state in ("holding", "transferring") and status == state:
        merged["jobDispatcherErrorDiag"] = f"set to {state} by the pilot at {server_time(now)}"
    text = fields.get("job_output_report") if state in FINAL else None
    metadata = fields.get("meta_data") if state != "failed" else None
    return replace(
        job,
        status=status,
        columns=merged,
        final=state if state in FINAL else job.final,
        report=str(text) if text else job.report,
        metadata=job.metadata or str(metadata or ""),
        pilot_log=str(fields.get("pilot_log") or job.pilot_log)[:4000],
        stdout=str(fields.get("stdout") or job.stdout),
        started_s=_when(fields.get("start_time")) or job.started_s or now,
        ended_s=(_when(fields.get("end_time")) or now) if state in FINAL else job.ended_s,
        # `holding` on a holding job is no sign of life.
        modified_s=job.modified_s if (job.status, state) == ("holding", "holding") else now,
    )


def _next_status(old: str, state: str) -> str:
    if state in FINAL:
        return "holding"
    if old == "holding" or (old == "transferring" and state != "holding"):
        return old
    if old == "running" and state == "starting":
        return "running"
    return state


def _when(value: object) -> float | None:
    """Epoch seconds of `YYYY-MM-DD HH:MM:SS` in UTC; other spellings are
    ignored.
    """
    if not isinstance(value, str):
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def cancel(job: JobRow, *, code: int | None, who: str, now: float) -> JobRow:
    """An operator or the user kills a job.

    A job that no pilot has yet is gone at once, and so is any with a code that
    forces it; the others are flagged and become cancelled when the pilot says
    `failed`.
    """
    columns = {**job.columns, "taskBufferErrorDiag": f"killed by {who}"}
    if job.status == "activated" or code in (9, 52, 99):
        columns["taskBufferErrorCode"] = 100
        return replace(
            job,
            status="cancelled",
            archived=True,
            command="tobekilled",
            columns=columns,
            ended_s=now,
            modified_s=now,
        )
    return replace(job, command="tobekilled", columns=columns)


def overdue(job: JobRow, *, now: float) -> JobRow | None:
    """The job as the Watcher leaves it, if it has been silent too long; else
    None.
    """
    idle = now - job.modified_s
    code, diag = 100, f"lost heartbeat : {server_time(job.modified_s)}"
    if job.status == "sent":
        limit: float = SENT_LIMIT_S
        code, diag = 102, "Sent job didn't receive reply from pilot within 30 min"
    elif job.status in ("starting", "running"):
        limit = RUNNING_LIMIT_S
    elif job.status == "holding" and job.priority > 800:
        limit = HOLDING_LIMIT_S
    else:
        return None
    if idle < limit:
        return None
    columns = {**job.columns, "jobDispatcherErrorCode": code, "jobDispatcherErrorDiag": diag}
    return replace(job, status="failed", archived=True, columns=columns, ended_s=now, modified_s=now)


_MANAGED = frozenset({"managed", "test", "prod_test", "install"})
_USER = frozenset({"user", "panda", "install"})


def accepts_label(asked: str | None, label: str, *, queue_in_test: bool) -> bool:
    """May a request with this prodSourceLabel have a job with that one?"""
    asked = asked or "managed"
    if queue_in_test and asked in ("user", "managed", "unified"):
        asked = "test"
    groups = {"managed": _MANAGED, "user": _USER, "unified": _MANAGED | _USER}
    return label in groups.get(asked, {asked})
