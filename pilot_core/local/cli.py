"""`pilot-local`: a PanDA server on this machine, and what one does with it."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pilot_core.local.client import Client, Unanswered, find_url
from pilot_core.local.definition import make
from pilot_core.local.image import ImageProblem
from pilot_core.local.run import Outcome, run_demo
from pilot_core.local.server import LocalPanda, TlsFiles

__all__ = ["main"]

DEFAULT_FOLDER = Path("~/.panda-local")
DEFAULT_PORT = 25080
WATCH_EVERY_S = 60.0

_EXAMPLES = """\
examples:
  pilot-local run                                     four demonstration jobs from submit to logs
  pilot-local serve                                   a server, until Ctrl-C
  pilot-local submit --command 'echo hello; exit 3'   a shell command as a job
  pilot-local submit --image my/stack:w_2026_30 --command 'pipetask --version'
  pilot-local submit --file job.json                  a definition with the server's own keys
  pilot-local status                                  all jobs
  pilot-local logs 1795252001                         what a job left behind

A pilot for the server, in another terminal:
  pilot.py -q LOCAL --pilot-user rubin --url http://127.0.0.1:25080 -g http://127.0.0.1:25080/trf
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], int] = options.command_function
        return command(options)
    except (Unanswered, ImageProblem) as err:
        print(f"pilot-local: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pilot-local",
        description="A PanDA server for one machine: to try the pilot, to debug a payload.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, function: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command_function=function)
        sub.add_argument("--folder", type=Path, help=f"where everything is kept [{DEFAULT_FOLDER}]")
        return sub

    def client(
        name: str, function: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = command(name, function, text)
        sub.add_argument("--url", help="the server, if it is not the one on --folder")
        return sub

    serve = command("serve", _serve, "run a server until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for a free one [%(default)s]")
    serve.add_argument("--tls-cert", type=Path, help="PEM file with the server's certificate: HTTPS")
    serve.add_argument("--tls-key", type=Path, help="PEM file with its key")
    serve.add_argument("--tls-client-ca", type=Path, help="PEM file with the CA of client certificates")

    submit = client("submit", _submit, "submit a job")
    submit.add_argument("--queue", default="LOCAL", help="PanDA queue [%(default)s]")
    submit.add_argument("--image", default="", help="container image to run the command in")
    submit.add_argument(
        "--transformation", default="", help="URL of a payload script, or the name of one of ours"
    )
    submit.add_argument("--command", help="shell command, or the parameters of the transformation")
    submit.add_argument("--file", type=Path, help="JSON file with (a part of) a job definition")
    submit.add_argument("--name", default="", help="name of the job")

    status = client("status", _status, "show all jobs, or one of them closely")
    status.add_argument("id", type=int, nargs="?", help="PandaID")
    cancel = client("cancel", _cancel, "cancel a job")
    cancel.add_argument("id", type=int, help="PandaID")
    logs = client("logs", _logs, "show the end of each log of a job")
    logs.add_argument("id", type=int, help="PandaID")
    logs.add_argument("--lines", type=int, default=20, help="lines of each file, 0 for all [%(default)s]")

    run = command("run", _run, "run four demonstration jobs: server, starter, pilot, payloads")
    run.add_argument("--engine", choices=("auto", "docker", "process"), default="auto", help="[%(default)s]")
    return parser


def _folder(options: argparse.Namespace) -> Path:
    folder: Path = options.folder or DEFAULT_FOLDER
    return folder.expanduser().resolve()


def _client(options: argparse.Namespace) -> Client:
    return Client(options.url or find_url(_folder(options)))


def _serve(options: argparse.Namespace) -> int:
    tls = None
    if options.tls_cert or options.tls_key:
        if not (options.tls_cert and options.tls_key):
            raise Unanswered("--tls-cert and --tls-key belong together")
        tls = TlsFiles(options.tls_cert, options.tls_key, options.tls_client_ca)
    # Blocked and waited for, rather than handled: no thread of the server is
    # disturbed.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        panda = LocalPanda(_folder(options), host=options.host, port=options.port, tls=tls)
    except OSError as err:
        raise Unanswered(f"cannot serve on {options.host}:{options.port}: {err.strerror or err}") from None
    with panda:
        pilot = f"pilot.py -q LOCAL --pilot-user rubin --url {panda.url} -g {panda.url}/trf"
        print(f"PanDA for one machine: {panda.url}")
        print(f"everything is kept in  {panda.folder}")
        print(f"queues                 {', '.join(panda.cric.names())}")
        print(f"a pilot for it         {pilot}", flush=True)
        while signal.sigtimedwait(ends, WATCH_EVERY_S) is None:
            for panda_id in panda.store.watch():
                print(f"job {panda_id} was silent too long and is failed", flush=True)
    print("stopped")
    return 0


def _submit(options: argparse.Namespace) -> int:
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


def _status(options: argparse.Namespace) -> int:
    client = _client(options)
    if options.id is None:
        rows = [("PandaID", "queue", "state", "time", "exit", "name")]
        for job in client.jobs():
            rows.append(
                (
                    str(job["id"]),
                    job["queue"],
                    job["state"],
                    _duration(job["seconds"]),
                    _text(job["exit_code"]),
                    job["name"],
                )
            )
        print("\n".join(_table(rows)))
        return 0
    job = client.job(options.id)
    shown = {
        "PandaID": job["id"],
        "name": job["name"],
        "queue": job["queue"],
        "state": job["state"],
        "time": _duration(job["seconds"]),
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


def _cancel(options: argparse.Namespace) -> int:
    client = _client(options)
    if not client.cancel(options.id):
        raise Unanswered(f"job {options.id} does not exist or has ended")
    gone = client.job(options.id)["state"] == "cancelled"
    later = "will be cancelled: its pilot hears of it with the next heartbeat"
    print(f"job {options.id} {'is cancelled' if gone else later}")
    return 0


def _logs(options: argparse.Namespace) -> int:
    job = _client(options).job(options.id)
    folder = _folder(options) / "logs" / job["queue"] / f"PandaJob_{options.id}"
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    if not files:
        url = job["log_url"] or "not known"
        raise Unanswered(f"job {options.id} is {job['state']}, {folder} is empty; its log URL is {url}")
    for path in files:
        lines = path.read_text(errors="replace").split("\n")
        print(f"==> {path} ({path.stat().st_size} bytes)")
        print("\n".join(lines[-options.lines - 1 :] if options.lines else lines))
    return 0


def _run(options: argparse.Namespace) -> int:
    made = Path(tempfile.mkdtemp(prefix="panda-local-")) if options.folder is None else _folder(options)
    begin = time.monotonic()
    outcomes = run_demo(
        made,
        engine=options.engine,
        environment=dict(os.environ),
        say=lambda text: print(text, flush=True),
    )
    print()
    print("\n".join(_summary(outcomes)))
    bad = [outcome for outcome in outcomes if outcome.complaint]
    print()
    for outcome in bad:
        print(f"job {outcome.job.panda_id} ({outcome.demo.title}): {outcome.complaint}")
    if not bad:
        print(f"each job ended as it should, in {time.monotonic() - begin:.0f} s")
    return 1 if bad else 0


def _summary(outcomes: Sequence[Outcome]) -> list[str]:
    rows = [("PandaID", "queue", "state", "time", "exit", "records", "", "job", "logs")]
    for outcome in outcomes:
        job = outcome.job
        rows.append(
            (
                str(job.panda_id),
                job.queue,
                job.status,
                _duration(job.seconds(time.time())),
                _text(job.exit_code),
                str(outcome.records),
                "NO" if outcome.complaint else "ok",
                outcome.demo.title,
                str(outcome.logs),
            )
        )
    return _table(rows)


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{max(0.0, seconds):.1f} s"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


if __name__ == "__main__":
    raise SystemExit(main())
