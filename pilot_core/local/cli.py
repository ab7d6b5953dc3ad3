"""`pilot-local`: a PanDA server on this machine, and what one does with it."""

import argparse
import os
import shlex
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pilot_core import __version__
from pilot_core.local import commands as console
from pilot_core.local.client import Unanswered
from pilot_core.local.folder import DEFAULT_FOLDER, sole_server
from pilot_core.local.image import ImageProblem
from pilot_core.local.run import Outcome, run_demo
from pilot_core.local.server import LocalPanda, TlsFiles
from pilot_core.local.shared import SHARED, shared_root
from pilot_core.local.views import duration, table, text
from pilot_core.options import Parser

__all__ = ["main"]

DEFAULT_PORT = 25080
LAST_PORT = 2**16 - 1
WATCH_EVERY_S = 60.0

_EXAMPLES = """\
examples:
  pilot-local run                                     four demonstration jobs from submit to logs
  pilot-local serve                                   a server, until Ctrl-C
  pilot-local submit --command 'echo hello; exit 3'   a shell command as a job
  pilot-local submit --image my/stack:w_2026_30 --command 'pipetask --version'
  pilot-local submit --file job.json                  a definition with the server's own keys
  pilot-local work                                    a pilot, until no job is left
  pilot-local status                                  all jobs; with a PandaID, one of them closely
  pilot-local logs                                    what the last job left behind
  pilot-local cancel 1234567001                       its pilot hears of it with the next heartbeat
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options, unknown = _parser().parse_known_args(argv)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        command: Callable[[argparse.Namespace], int] = options.command_function
        code = command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `| head` has seen enough. What is still in our buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (Unanswered, ImageProblem) as err:
        print(f"pilot-local: {err}", file=sys.stderr)
        return 1
    except OSError as err:
        named = f"{err.filename}: {err.strerror}" if err.filename else str(err)
        print(f"pilot-local: {named}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pilot-local",
        description="A PanDA server for one machine: to try the pilot, to debug a payload.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str,
        function: Callable[[argparse.Namespace], int],
        text: str,
        default: object = DEFAULT_FOLDER,
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command_function=function, parser=sub)
        sub.add_argument("--folder", type=Path, help=f"where everything is kept [{default}]")
        return sub

    def client(
        name: str, function: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = command(name, function, text)
        sub.add_argument("--url", type=_url, help="the server, if it is not the one on --folder")
        sub.add_argument("--cacert", type=Path, help="PEM file with the CA of an HTTPS server")
        return sub

    serve = command("serve", _serve, "run a server until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    serve.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="port, 0 for a free one [%(default)s]"
    )
    serve.add_argument("--tls-cert", type=Path, help="PEM file with the server's certificate: HTTPS")
    serve.add_argument("--tls-key", type=Path, help="PEM file with its key")
    serve.add_argument("--tls-client-ca", type=Path, help="PEM file with the CA of client certificates")

    submit = client("submit", console.submit, "submit a job")
    submit.add_argument("--queue", help="PanDA queue [LOCAL]")
    submit.add_argument("--image", help="container image to run the command in")
    submit.add_argument("--transformation", help="URL of a payload script, or the name of one of ours")
    submit.add_argument("--command", help="shell command, or the parameters of the transformation")
    submit.add_argument(
        "--file", type=Path, help="JSON file with (a part of) a job definition; the options count more"
    )
    submit.add_argument("--name", help="name of the job")

    work = client("work", lambda given: console.work(given, os.environ), "run the jobs until none is left")
    work.add_argument("--queue", default="LOCAL", help="PanDA queue [%(default)s]")
    work.add_argument("--engine", choices=("auto", "docker", "process"), default="auto", help="[%(default)s]")
    shared = f"folder with the same path in containers [PILOT_SHARED_ROOT, else {SHARED}]"
    work.add_argument("--shared-root", type=Path, metavar="FOLDER", help=shared)
    work.add_argument("--jobs", type=_count, default=0, help="end after so many, 0 for all [%(default)s]")
    work.add_argument(
        "--pass-environment",
        default="",
        metavar="NAMES",
        help="variables of yours for the payload, names or PREFIX_* with commas between",
    )

    status = client("status", console.status, "show all jobs, or one of them closely")
    status.add_argument("id", type=int, nargs="?", help="PandaID")
    cancel = client("cancel", console.cancel, "cancel a job")
    cancel.add_argument("id", type=int, help="PandaID")
    logs = client("logs", console.logs, "show the end of each log of a job")
    logs.add_argument("id", type=int, nargs="?", help="PandaID; without it the last job")
    logs.add_argument(
        "--lines", type=_count, default=20, help="lines of each file, 0 for all, whole [%(default)s]"
    )
    logs.add_argument("--all", action="store_true", help="the memory monitor's files, too")

    run = command(
        "run",
        _run,
        "run four demonstration jobs: server, starter, pilot, payloads",
        "a new one in the folder for temporary files, which stays",
    )
    run.add_argument("--engine", choices=("auto", "docker", "process"), default="auto", help="[%(default)s]")
    run.add_argument("--shared-root", type=Path, metavar="FOLDER", help=shared)
    return parser


def _url(given: str) -> str:
    try:
        parts = urlsplit(given)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{given!r} is no URL like http://127.0.0.1:{DEFAULT_PORT}")
    return given.rstrip("/")


def _count(given: str) -> int:
    if not given.isdecimal():
        raise argparse.ArgumentTypeError(f"{given!r} is no whole number of 0 or more")
    return int(given)


def _port(given: str) -> int:
    if not given.isdecimal() or int(given) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{given!r} is no port, which is a number up to {LAST_PORT}")
    return int(given)


def _tls(options: argparse.Namespace) -> TlsFiles | None:
    """The PEM files of HTTPS, each of them seen to be good."""
    cert, key, ca = options.tls_cert, options.tls_key, options.tls_client_ca
    files = {"--tls-cert": cert, "--tls-key": key, "--tls-client-ca": ca}
    given = {option: path for option, path in files.items() if path is not None}
    if not given:
        return None
    if cert is None or key is None:
        raise Unanswered(f"{', '.join(given)}: HTTPS needs both --tls-cert and --tls-key")
    for option, path in given.items():
        try:
            path.open("rb").close()
        except OSError as err:
            raise Unanswered(f"{option} {path}: {err.strerror}") from None
    made = TlsFiles(cert, key, ca)
    try:
        TlsFiles(cert, key).context()
    except ssl.SSLError as err:
        pair = f"--tls-cert {cert}, --tls-key {key}"
        raise Unanswered(f"{pair}: no PEM of a certificate and its key: {err}") from None
    try:
        made.context()
    except ssl.SSLError as err:
        raise Unanswered(f"--tls-client-ca {ca}: no PEM of a certificate: {err}") from None
    return made


def _serve(options: argparse.Namespace) -> int:
    tls = _tls(options)
    folder = console.folder_of(options)
    with sole_server(folder):
        try:
            panda = LocalPanda(folder, host=options.host, port=options.port, tls=tls)
        except (OSError, UnicodeError) as err:
            what = getattr(err, "filename", None) or f"cannot serve on {options.host}:{options.port}"
            raise Unanswered(f"{what}: {getattr(err, 'strerror', None) or err}") from None
        # Blocked and waited for, rather than handled: no thread of the server is
        # disturbed.
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        with panda:
            print("\n".join(_welcome(panda, options)), flush=True)
            while signal.sigtimedwait(ends, WATCH_EVERY_S) is None:
                for panda_id in panda.store.watch():
                    print(f"job {panda_id} was silent too long and is failed", flush=True)
    print("stopped")
    return 0


def _program() -> str:
    """This program as it can be called again."""
    called = Path(sys.argv[0])
    return "pilot-local" if called.name != "pilot-local" or shutil.which("pilot-local") else str(called)


def _welcome(panda: LocalPanda, options: argparse.Namespace) -> list[str]:
    where = "" if options.folder is None else f"; all with --folder {shlex.quote(str(panda.folder))}"
    url = panda.url
    return [
        f"PanDA for one machine: {url}",
        f"everything is kept in  {panda.folder}",
        f"queues                 {', '.join(panda.cric.names())}",
        f"in another terminal    {_program()} submit, work, status, logs, cancel{where}",
        f"a pilot by hand        PILOT_CRIC_URL={url} pilot.py -q LOCAL --url {url} -g {url}/trf",
    ]


def _run(options: argparse.Namespace) -> int:
    made = (
        Path(tempfile.mkdtemp(prefix="panda-local-"))
        if options.folder is None
        else console.folder_of(options)
    )
    begin = time.monotonic()
    with sole_server(made):
        outcomes = run_demo(
            made,
            engine=options.engine,
            shared=shared_root(options.shared_root, os.environ),
            environment=dict(os.environ),
            say=lambda text: print(text, flush=True),
        )
    print()
    print("\n".join(_summary(outcomes)))
    print("records: of the payload's log, which arrived while the job ran")
    print()
    bad = [outcome for outcome in outcomes if outcome.complaint]
    for outcome in bad:
        print(f"job {outcome.job.panda_id} ({outcome.demo.title}): {outcome.complaint}")
    if not bad:
        print(f"each job ended as it should, in {time.monotonic() - begin:.0f} s")
    where = f"--folder {shlex.quote(str(made))}"
    print(f"to see more: {_program()} status {where}; {_program()} logs {where} PANDAID")
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
                text(job.payload_code),
                str(outcome.records),
                "NO" if outcome.complaint else "ok",
                outcome.demo.title,
                str(outcome.logs),
            )
        )
    return table(rows)


if __name__ == "__main__":
    raise SystemExit(main())
