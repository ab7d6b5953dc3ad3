"""PURE but for reading logs: jobs and their logs as lines for the console."""

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pilot_core.local.rows import ARCHIVED_STATES
from pilot_core.model.codes import ErrorCode

__all__ = [
    "duration",
    "job_folder",
    "jobs_table",
    "live_logs",
    "log_folder",
    "no_logs",
    "one_job",
    "split_logs",
    "table",
    "tail",
    "text",
]

#: Characters of an error shown in a table, and of a line of a log.
DIAG, LINE = 60, 500

#: The order in which a reader wants to see the logs of a job; any other comes
#: before the last.
_FIRST = ("payload.stderr", "payload.stdout", "payload-log.json")
_LAST = "pilotlog.txt"
#: Seldom asked for.
_MONITORS = "memory_monitor"


def duration(seconds: float | None) -> str:
    """A time in s."""
    return "-" if seconds is None else f"{max(0.0, seconds):.1f} s"


def text(value: object) -> str:
    """A value, or `-`."""
    return "-" if value is None else str(value)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows, the first of them the titles, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a job, as `Desk.job_view` describes them."""
    rows = [("PandaID", "queue", "state", "time", "exit", "code", "name", "error")]
    for job in jobs:
        rows.append(
            (
                str(job["id"]),
                job["queue"],
                _state(job),
                duration(job["seconds"]),
                text(job["exit_code"]),
                text(job["error_code"] or None),
                job["name"],
                _cut(" ".join(job["error"].split()), DIAG),
            )
        )
    return table(rows)


def one_job(job: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """Everything known of a job, a line each; `folder` is where it runs."""
    shown = {
        "PandaID": job["id"],
        "name": job["name"],
        "queue": job["queue"],
        "state": _state(job),
        "time": duration(job["seconds"]),
        "exit code": job["exit_code"],
        "error": _error(job["error_code"], job["error"]),
        "command": job["command"],
        "node": job["node"],
        "CPU time": None if job["cpu_s"] is None else f"{job['cpu_s']} s",
        "memory": None if job["max_rss_kb"] is None else f"{int(job['max_rss_kb']) // 1024} MB",
        "updates": job["updates"],
        "folder": folder,
        "log": job["log_url"],
        "stdout": job["stdout"],
    }
    return [f"{name:10} {value}" for name, value in shown.items() if value not in (None, "")]


def _state(job: Mapping[str, Any]) -> str:
    killed = job["command"] == "tobekilled" and job["state"] not in ARCHIVED_STATES
    return f"{job['state']}, being cancelled" if killed else str(job["state"])


def _error(code: int, diag: str) -> str:
    """Number, name and text."""
    words = [str(code)] if code else []
    with contextlib.suppress(ValueError):
        words += [ErrorCode(code).name] if code else []
    return " ".join([*words, diag]).rstrip()


def _cut(line: str, length: int) -> str:
    return line if len(line) <= length else line[:length] + "..."


def log_folder(job: Mapping[str, Any], folder: Path) -> Path:
    """Where the logs of a job are: as its log URL says, else below the
    server's `folder`.
    """
    url = urlsplit(job["log_url"])
    told = Path(unquote(url.path)).parent
    if url.scheme == "file" and told.is_dir():
        return told
    return folder / "logs" / str(job["queue"]) / f"PandaJob_{job['id']}"


def job_folder(job: Mapping[str, Any], folder: Path) -> Path | None:
    """Where a job of `pilot-local work` or `run` on this machine runs, or what
    is left of that; None if there is nothing.
    """
    name = f"PanDA_Pilot-{job['id']}"
    found = [folder / "work" / name, *folder.glob(f"worker/tmp/panda_*/{name}")]
    return next((path for path in found if path.is_dir()), None)


def live_logs(folder: Path) -> list[Path]:
    """What a job has written so far."""
    return [folder / name for name in (*_FIRST, _LAST) if (folder / name).is_file()]


def no_logs(job: Mapping[str, Any], folder: Path) -> str:
    """Why a job has no logs to show."""
    panda_id, state = job["id"], _state(job)
    if job["state"] not in ARCHIVED_STATES:
        return f"job {panda_id} is {state}: its logs come when it has ended"
    url = job["log_url"]
    elsewhere = f"; its log URL is {url}" if url and not url.startswith("file:") else ""
    why = f"`pilot-local status {panda_id}` tells what happened"
    return f"job {panda_id} ({state}) left no logs in {folder}{elsewhere}; {why}"


def split_logs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of a job in the order for reading, and those of the monitors."""
    order = {name: place for place, name in enumerate(_FIRST)} | {_LAST: len(_FIRST) + 1}
    files = sorted(path for path in folder.glob("*") if path.is_file())
    files.sort(key=lambda path: order.get(path.name, len(_FIRST)))
    monitors = [path for path in files if path.name.startswith(_MONITORS)]
    return [path for path in files if path not in monitors], monitors


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a file, long ones cut; 0 for all, as they
    are.
    """
    with path.open(errors="replace", newline="\n") as lines:
        last = deque((line.rstrip("\n") for line in lines), maxlen=count or None)
    if not count:
        return list(last)
    return [line if len(line) <= LINE else f"{line[:LINE]}... ({len(line)} characters)" for line in last]
