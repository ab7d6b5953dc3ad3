"""PURE: every field the pilot may send, one row each, in both dialects.

The server is closed: a keyword it does not know, a number in quotes or a float
for an int costs the whole message (panda-server 1.0.3), and so does a text
longer than its column where the server does not cut it itself. So nothing is
sent that is not in these tables. `docs/protocol.md` shows the same rows; a
test
compares the two.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pilot_core.base.clock import server_time
from pilot_core.model.report import JobReport, WorkerState
from pilot_core.server.field import Field, Kind, Value, When

__all__ = ["ACQUIRE", "UPDATE", "WORKER", "WorkerNote"]


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """The content of a worker's notice: who, where, and started or finished."""

    worker_id: int
    harvester_id: str
    state: WorkerState
    site: str
    node: str


def _positive(attribute: str) -> Callable[[Any], object]:
    """Take a number only if it is above zero: zero stands for "not known"."""
    take = attrgetter(attribute)

    def get(message: Any) -> object:
        value = take(message)
        return value if value and value > 0 else None

    return get


def _sampled(attribute: str) -> Callable[[Any], object]:
    """Take a number once something was measured: zero is a measurement then."""
    take = attrgetter(attribute)
    return lambda report: take(report) if report.usage.samples else None


def _used(attribute: str) -> Callable[[Any], object]:
    """Take a memory figure once it was measured: only swap may be zero then."""
    return _sampled(attribute) if attribute.endswith("swap") else _positive(attribute)


def _when(attribute: str) -> Callable[[Any], object]:
    take = attrgetter(attribute)

    def get(report: Any) -> object:
        value = take(report)
        return None if value is None else server_time(value)

    return get


def _start(report: JobReport) -> object:
    return _when("start_s" if report.started_s is None else "started_s")(report)


def _code(report: JobReport) -> object:
    """An error is named as soon as there is one; a final report always has a
    code.
    """
    return int(report.code) if report.code or report.state.final else None


def _file_report(report: JobReport) -> object:
    """`{lfn: {guid, fsize, adler32[, surl, endpoint]}}`, for panda-server's
    Adder.
    """
    if not report.files:
        return None
    found = {}
    for file in report.files:
        entry: dict[str, Value] = {"guid": file.guid, "fsize": file.size, "adler32": file.adler32}
        entry |= {key: text for key, text in (("surl", file.surl), ("endpoint", file.endpoint)) if text}
        found[file.lfn] = entry
    return json.dumps(found)


# Column sizes; a number beyond them makes the server answer "Database error".
_INT4 = 2**31 - 1
_INT8 = 2**63 - 1
_DIGITS10 = 10**10 - 1


def _memory(source: str, v1: str, legacy: str) -> Field:
    return Field(source, v1, legacy, Kind.INT, _DIGITS10, "kB", When.UNDERWAY, get=_used(source))


def _io(source: str, v1: str, legacy: str) -> Field:
    """Bytes: the server itself divides totals by 1024 (rates in v1 only)."""
    unit, limit = ("B/s", _DIGITS10) if "rate" in source else ("B", _INT8)
    return Field(source, v1, legacy, Kind.INT, limit, unit, When.UNDERWAY, get=_sampled(source))


UPDATE: tuple[Field, ...] = (
    Field("panda_id", "job_id", "jobId", Kind.INT, _INT8, required=True),
    Field("state", "job_status", "state", required=True),
    Field("attempt", "attempt_nr", "attemptNr", Kind.INT, _INT4, essential=True),
    Field("site", "site_name", "siteName", limit=128, essential=True),
    Field("node.name", "node", "node", limit=128),
    Field("node.scheduler_id", "scheduler_id", "schedulerID", limit=128),
    Field("pilot_id", "pilot_id", "pilotID", limit=200, essential=True),
    Field("node.batch_id", "batch_id", "batchID", limit=80),
    Field("sub_state", "job_sub_status", "jobSubStatus", limit=80, essential=True),
    # From here on the server counts walltime, CPU efficiency and IO rates: not
    # while an image is pulled. Without a payload only the job's own time is
    # left. pilot3 counts from when the job was taken.
    Field("started_s, else start_s", "start_time", "startTime", unit="UTC", when=When.UNDERWAY, get=_start),
    Field("end_s", "end_time", "endTime", unit="UTC", when=When.FINAL, get=_when("end_s")),
    Field("cores", "core_count", "coreCount", Kind.INT, _INT4, "cores", get=_positive("cores")),
    # A whole number in v1, where the server refuses a float.
    Field("usage.cores", "mean_core_count", "meanCoreCount", Kind.AMOUNT, _INT4, "cores",
          When.UNDERWAY, get=_positive("usage.cores"), legacy_kind=Kind.FLOAT),
    Field("usage.cpu_s", "cpu_consumption_time", "cpuConsumptionTime", Kind.INT, 10**9, "s",
          When.UNDERWAY, get=_positive("usage.cpu_s")),
    # The server multiplies by it; pilot3 always sends 1.
    Field("1 where CPU time is sent", "cpu_conversion_factor", "cpuConversionFactor", Kind.FLOAT, 99_999,
          when=When.UNDERWAY, get=lambda r: 1.0 if 0 < r.usage.cpu_s <= 10**9 else None),
    Field("node.cpu_unit", "cpu_consumption_unit", "cpuConsumptionUnit", limit=128),
    Field("node.cpu_level", "cpu_architecture_level", "cpu_architecture_level", limit=20),
    _memory("usage.max_rss", "max_rss", "maxRSS"),
    _memory("usage.max_vmem", "max_vmem", "maxVMEM"),
    _memory("usage.max_swap", "max_swap", "maxSWAP"),
    _memory("usage.max_pss", "max_pss", "maxPSS"),
    _memory("usage.avg_rss", "avg_rss", "avgRSS"),
    _memory("usage.avg_vmem", "avg_vmem", "avgVMEM"),
    _memory("usage.avg_swap", "avg_swap", "avgSWAP"),
    _memory("usage.avg_pss", "avg_pss", "avgPSS"),
    _io("usage.rchar", "tot_rchar", "totRCHAR"),
    _io("usage.wchar", "tot_wchar", "totWCHAR"),
    _io("usage.read_bytes", "tot_rbytes", "totRBYTES"),
    _io("usage.write_bytes", "tot_wbytes", "totWBYTES"),
    _io("usage.rate_rchar", "rate_rchar", "rateRCHAR"),
    _io("usage.rate_wchar", "rate_wchar", "rateWCHAR"),
    _io("usage.rate_read_bytes", "rate_rbytes", "rateRBYTES"),
    _io("usage.rate_write_bytes", "rate_wbytes", "rateWBYTES"),
    Field("metrics", "job_metrics", "jobMetrics", Kind.WORDS, 500),
    Field("stdout", "stdout", "stdout", Kind.TAIL, 2048, when=When.UNDERWAY),
    Field("code", "pilot_error_code", "pilotErrorCode", Kind.INT, _INT4, essential=True, get=_code),
    Field("diag", "pilot_error_diag", "pilotErrorDiag", limit=500, essential=True),
    Field("exit_code", "trans_exit_code", "transExitCode", Kind.INT, _INT4, when=When.FINAL, essential=True),
    Field("exe_code", "exe_error_code", "exeErrorCode", Kind.INT, _INT4, when=When.FINAL, essential=True),
    Field("exe_diag", "exe_error_diag", "exeErrorDiag", limit=500, when=When.FINAL, essential=True),
    Field("timing", "pilot_timing", "pilotTiming", limit=100, unit="s", when=When.FINAL,
          get=lambda r: "|".join(str(int(seconds)) for seconds in r.timing)),
    Field("log_tail", "pilot_log", "pilotLog", Kind.TAIL, 4000, when=When.FINAL, legacy_limit=1024),
    Field("files", "job_output_report", "xml", Kind.WHOLE, when=When.FINAL, essential=True, get=_file_report),
    Field("metadata", "meta_data", "metaData", Kind.WHOLE, when=When.FINISHED),
)  # fmt: skip

ACQUIRE: tuple[Field, ...] = (
    Field("site", "site_name", "siteName", required=True),
    Field("computing_element", "computing_element", "computingElement"),
    Field("label", "prod_source_label", "prodSourceLabel"),
    Field("node", "node", "node", limit=128),
    Field("disk_mb", "disk_space", "diskSpace", Kind.INT, _INT4, "MB", get=_positive("disk_mb")),
    Field("memory_mb", "memory", "mem", Kind.INT, _INT4, "MB", get=_positive("memory_mb")),
    Field("cpu_mhz", "", "cpu", Kind.FLOAT, unit="MHz", get=_positive("cpu_mhz")),
    Field("resource_type", "resource_type", "resourceType"),
    Field("job_type", "job_type", "jobType"),
    Field("working_group", "", "workingGroup"),
    Field("country_group", "", "countryGroup"),
    Field(
        "allow_other_country",
        "",
        "allowOtherCountry",
        get=lambda q: "True" if q.allow_other_country else None,
    ),
    Field("task_id", "task_id", "taskID", Kind.INT, _INT8),
    Field("harvester_id", "harvester_id", "harvester_id"),
    Field("worker_id", "worker_id", "worker_id", Kind.INT, _INT8),
    Field("scheduler_id", "scheduler_id", "schedulerID", limit=128),
    Field("remaining_s", "remaining_time", "remaining_time", Kind.INT, _INT4, "s"),
    Field("user", "prod_user_id", "prodUserID"),
)

WORKER: tuple[Field, ...] = (
    Field("worker_id", "worker_id", "workerID", Kind.INT, _INT8, required=True),
    Field("harvester_id", "harvester_id", "harvesterID", required=True),
    Field("state", "status", "status", required=True),
    Field("site", "", "site", required=True),
    Field("node", "node_id", "node_id", limit=128),
)
