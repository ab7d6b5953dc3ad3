"""`pilot-local`: a PanDA server on this machine, and what one does with it."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pilot_core.local import commands as console
from pilot_core.local.client import Unanswered
from pilot_core.local.commands import DEFAULT_FOLDER, duration, table, text
from pilot_core.local.image import ImageProblem
from pilot_core.local.run import Outcome, run_demo
from pilot_core.local.server import LocalPanda, TlsFiles

__all__ = ["main"]

DEFAULT_PORT = 25080
WATCH_EVERY_S = 60.0

_EXAMPLES = """\
examples:
  pilot-local run                                     four demonstration jobs from submit to logs
  pilot-local serve                                   a server, until Ctrl-C
  pilot-local submit --command 'echo hello; exit 3'   a shell command as a job
  pilot-local submit --image my/stack:w_2026_30 --command 'pipetask --version'
  pilot-local submit --file job.json                  a definition with the server's own keys
  pilot-local work                                    a pilot, until no job is left
  pilot-local status                                  all jobs
  pilot-local logs                                    what the last job left behind
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
        sub.add_argument("--cacert", type=Path, help="PEM file with the CA of an HTTPS server")
        return sub

    serve = command("serve", _serve, "run a server until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for a free one [%(default)s]")
    serve.add_argument("--tls-cert", type=Path, help="PEM file with the server's certificate: HTTPS")
    serve.add_argument("--tls-key", type=Path, help="PEM file with its key")
    serve.add_argument("--tls-client-ca", type=Path, help="PEM file with the CA of client certificates")

    submit = client("submit", console.submit, "submit a job")
    submit.add_argument("--queue", default="LOCAL", help="PanDA queue [%(default)s]")
    submit.add_argument("--image", default="", help="container image to run the command in")
    submit.add_argument(
        "--transformation", default="", help="URL of a payload script, or the name of one of ours"
    )
    submit.add_argument("--command", help="shell command, or the parameters of the transformation")
    submit.add_argument("--file", type=Path, help="JSON file with (a part of) a job definition")
    submit.add_argument("--name", default="", help="name of the job")

    work = client("work", lambda given: console.work(given, os.environ), "run the jobs until none is left")
    work.add_argument("--queue", default="LOCAL", help="PanDA queue [%(default)s]")
    work.add_argument("--engine", choices=("auto", "docker", "process"), default="auto", help="[%(default)s]")
    work.add_argument("--jobs", type=int, default=0, help="end after so many, 0 for all [%(default)s]")

    status = client("status", console.status, "show all jobs, or one of them closely")
    status.add_argument("id", type=int, nargs="?", help="PandaID")
    cancel = client("cancel", console.cancel, "cancel a job")
    cancel.add_argument("id", type=int, help="PandaID")
    logs = client("logs", console.logs, "show the end of each log of a job")
    logs.add_argument("id", type=int, nargs="?", help="PandaID; without it the last job")
    logs.add_argument("--lines", type=int, default=20, help="lines of each file, 0 for all [%(default)s]")

    run = command("run", _run, "run four demonstration jobs: server, starter, pilot, payloads")
    run.add_argument("--engine", choices=("auto", "docker", "process"), default="auto", help="[%(default)s]")
    return parser


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
        panda = LocalPanda(console.folder_of(options), host=options.host, port=options.port, tls=tls)
    except OSError as err:
        raise Unanswered(f"cannot serve on {options.host}:{options.port}: {err.strerror or err}") from None
    with panda:
        print(f"PanDA for one machine: {panda.url}")
        print(f"everything is kept in  {panda.folder}")
        print(f"queues                 {', '.join(panda.cric.names())}")
        print("in another terminal    pilot-local submit, work, status, logs", flush=True)
        while signal.sigtimedwait(ends, WATCH_EVERY_S) is None:
            for panda_id in panda.store.watch():
                print(f"job {panda_id} was silent too long and is failed", flush=True)
    print("stopped")
    return 0


def _run(options: argparse.Namespace) -> int:
    made = (
        Path(tempfile.mkdtemp(prefix="panda-local-"))
        if options.folder is None
        else console.folder_of(options)
    )
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
                duration(job.seconds(time.time())),
                text(job.exit_code),
                str(outcome.records),
                "NO" if outcome.complaint else "ok",
                outcome.demo.title,
                str(outcome.logs),
            )
        )
    return table(rows)


if __name__ == "__main__":
    raise SystemExit(main())
