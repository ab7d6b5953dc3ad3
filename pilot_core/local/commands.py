"""Commands of the console that need a server which runs already: submit,
work, status, cancel, logs. Each returns the exit code.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilot_core.local.client import Client, Unanswered, find_url
from pilot_core.local.definition import make
from pilot_core.local.worker import WorkerPlan, config_text, worker_environment

__all__ = [
    "DEFAULT_FOLDER",
    "cancel",
    "duration",
    "folder_of",
    "logs",
    "status",
    "submit",
    "table",
    "text",
    "work",
]

DEFAULT_FOLDER = Path("~/.panda-local")


def folder_of(options: argparse.Namespace) -> Path:
    """Where everything of the server is kept."""
    folder: Path = options.folder or DEFAULT_FOLDER
    return folder.expanduser().resolve()


def _client(options: argparse.Namespace) -> Client:
    return Client(options.url or find_url(folder_of(options)), options.cacert)


def submit(options: argparse.Namespace) -> int:
    """Submit a job and print its PandaID."""
    client = _client(options)
    definition: dict[str, Any] = {}
    if options.file:
        try:
            definition = json.loads(options.file.read_text())
        except (OSError, ValueError) as err:
            raise Unanswered(f"{options.file}: {err}") from None
        if not isinstance(definition, dict):
            raise Unanswered(f"{options.file}: a job definition is a JSON object")
    elif options.command is None:
        raise Unanswered("what is the job? Give --command or --file")
    if options.command is not None:
        definition = {**_shell_job(options, client.url), **definition}
    panda_id = client.submit(definition)
    print(panda_id)
    return 0


def _shell_job(options: argparse.Namespace, url: str) -> dict[str, object]:
    """A definition from the options: image, transformation, or plain command."""
    common: dict[str, Any] = {"queue": options.queue, "name": options.name}
    if options.image:
        return make(image=options.image, parameters=options.command, **common)
    transformation = options.transformation
    if not transformation:
        # Encoded as Rubin's are, so that no shell on the way reads it.
        return make(transformation=f"{url}/trf/bash-c-enc", parameters=options.command, encode=True, **common)
    if "://" not in transformation:
        transformation = f"{url}/trf/{transformation}"
    return make(transformation=transformation, parameters=options.command, **common)


def work(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Become a pilot that runs the jobs of one queue until none is left."""
    plan = WorkerPlan(
        url=options.url or find_url(folder_of(options)),
        folder=folder_of(options) / "work",
        queue=options.queue,
        engine=options.engine,
        jobs=options.jobs,
        environment=environment,
    )
    made = {**worker_environment(plan), "TERM": environment.get("TERM", "dumb")}
    (plan.folder / "tmp").mkdir(parents=True, exist_ok=True)
    (plan.folder / "pilot.cfg").write_text(config_text(plan))
    command = [
        sys.executable,
        "-m",
        "pilot_core",
        "-q",
        plan.queue,
        "--url",
        plan.url,
        "--pilot-user",
        "rubin",
    ]
    command += ["--getjobrequests", "1", "--realtime-interval", "0.5", "--max-jobs", str(plan.jobs)]
    if options.cacert is not None:
        command += ["--cacert", str(options.cacert.absolute())]
    os.chdir(plan.folder)
    os.execve(sys.executable, command, made)


def status(options: argparse.Namespace) -> int:
    """Print all jobs, or one of them closely."""
    client = _client(options)
    if options.id is None:
        rows = [("PandaID", "queue", "state", "time", "exit", "name")]
        for job in client.jobs():
            rows.append(
                (
                    str(job["id"]),
                    job["queue"],
                    job["state"],
                    duration(job["seconds"]),
                    text(job["exit_code"]),
                    job["name"],
                )
            )
        print("\n".join(table(rows)))
        return 0
    job = client.job(options.id)
    shown = {
        "PandaID": job["id"],
        "name": job["name"],
        "queue": job["queue"],
        "state": job["state"],
        "time": duration(job["seconds"]),
        "exit code": job["exit_code"],
        "error": f"{job['error_code']} {job['error']}" if job["error_code"] or job["error"] else None,
        "command": job["command"],
        "node": job["node"],
        "CPU time": None if job["cpu_s"] is None else f"{job['cpu_s']} s",
        "memory": None if job["max_rss_kb"] is None else f"{int(job['max_rss_kb']) // 1024} MB",
        "updates": job["updates"],
        "log": job["log_url"],
        "stdout": job["stdout"],
    }
    for name, value in shown.items():
        if value not in (None, ""):
            print(f"{name:10} {value}")
    return 0


def cancel(options: argparse.Namespace) -> int:
    """Cancel a job."""
    client = _client(options)
    if not client.cancel(options.id):
        raise Unanswered(f"job {options.id} does not exist or has ended")
    gone = client.job(options.id)["state"] == "cancelled"
    later = "will be cancelled: its pilot hears of it with the next heartbeat"
    print(f"job {options.id} {'is cancelled' if gone else later}")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print the end of each log of a job, the last one if none is named."""
    client = _client(options)
    panda_id = options.id or max((int(job["id"]) for job in client.jobs()), default=None)
    if panda_id is None:
        raise Unanswered("there is no job yet: `pilot-local submit --command 'echo hello'` makes one")
    job = client.job(panda_id)
    folder = folder_of(options) / "logs" / job["queue"] / f"PandaJob_{panda_id}"
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    if not files:
        url = job["log_url"] or "not known"
        raise Unanswered(f"job {panda_id} is {job['state']}, {folder} is empty; its log URL is {url}")
    for path in files:
        lines = path.read_text(errors="replace").split("\n")
        print(f"==> {path} ({path.stat().st_size} bytes)")
        print("\n".join(lines[-options.lines - 1 :] if options.lines else lines))
    return 0


def duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{max(0.0, seconds):.1f} s"


def text(value: object) -> str:
    return "-" if value is None else str(value)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
