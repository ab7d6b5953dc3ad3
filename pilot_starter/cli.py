"""Command line of the starter; the only reader of `os.environ` here."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pilot_core import __version__
from pilot_core.errors import PilotError
from pilot_core.ledger import Ledger
from pilot_core.model.codes import exit_code
from pilot_starter.config import StarterConfig
from pilot_starter.health import examine, read_status
from pilot_starter.run import run
from pilot_starter.settings import DEFAULT_LOG, settings

__all__ = ["build_config", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pilot-starter",
        description="Start a PanDA pilot, keep it company, tell its story, outlive it.",
        epilog="Harvester's environment variables are read first; options come before them. "
        "Options after `--` are the pilot's.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="run",
        choices=("run", "healthcheck", "status", "shell"),
        help="default: run",
    )
    parser.add_argument("-q", "--queue", default="", help="PanDA queue (pandaQueueName)")
    parser.add_argument("-s", "--site", default="", help="site (computingSite)")
    parser.add_argument("-j", "--label", default="", help="prodSourceLabel, default managed")
    parser.add_argument("--url", default="", help="PanDA server (PANDA_SERVER_URL)")
    parser.add_argument(
        "--pilot-url", default="", help="`image`, or http(s)/file URL of pilot3.tar.gz (PILOT_SOURCE)"
    )
    parser.add_argument("--sha256", default="", help="what the tarball must have (PILOT_SHA256)")
    parser.add_argument(
        "--public-key", default="", metavar="PEM", help="whose signature it must have (PILOT_PUBLIC_KEY)"
    )
    parser.add_argument("--no-fallback", action="store_true", help="no pilot rather than the installed one")
    parser.add_argument("--work-dir", default="", help="the pilot's folder; kept at the end (PILOT_WORK_DIR)")
    parser.add_argument(
        "--worker-log", default="", help=f"default {DEFAULT_LOG} (PILOT_WORKER_LOG); `.json` beside it"
    )
    parser.add_argument(
        "--grace", type=float, default=None, help="seconds from SIGTERM to the end (PILOT_GRACE_SECONDS, 12)"
    )
    parser.add_argument(
        "--silent",
        type=float,
        default=None,
        help="seconds without a move that make it unwell (PILOT_SILENT_SECONDS, 600)",
    )
    parser.add_argument(
        "--health-port",
        default="",
        metavar="[ADDRESS:]PORT",
        help="serve /healthz and /metrics, on loopback unless told otherwise (PILOT_HEALTH_PORT)",
    )
    parser.add_argument("--version", action="version", version=f"pilot-starter {__version__}")
    return parser


def build_config(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[str, StarterConfig]:
    """Command and settings.

    Raises
    ------
    SetupError
        Naming the variable or option.
    """
    own, extra = _split(argv)
    options = _parser().parse_args(own)
    return options.command, settings(options, extra, environment)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    if "--" in argv:
        cut = list(argv).index("--")
        return list(argv[:cut]), list(argv[cut + 1 :])
    return list(argv), []


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `pilot-starter`; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s | %(levelname)-8s | %(message)s")
    try:
        command, config = build_config(sys.argv[1:] if argv is None else argv, os.environ)
        if command == "run":
            return run(config)
        return _SUBCOMMANDS[command](config)
    except PilotError as err:
        print(f"pilot-starter: {err}", file=sys.stderr)
        return exit_code(err.code)


def _healthcheck(config: StarterConfig) -> int:
    """0 if the worker is well: for a liveness probe."""
    health = examine(status_file=config.state_file, worker_log=config.worker_log, silent_s=config.silent_s)
    print(health.reason)
    return 0 if health.well else 1


def _status(config: StarterConfig) -> int:
    """What there is to know, for people and scripts: JSON on stdout."""
    status = read_status(config.state_file)
    if status is None:
        print(f"there is no worker at {config.state_file}")
        return 1
    health = examine(status_file=config.state_file, worker_log=config.worker_log, silent_s=config.silent_s)
    print(json.dumps({**asdict(status), "health": asdict(health), "job": _job(Path(status.home))}, indent=1))
    return 0


def _job(home: Path) -> dict[str, str | int] | None:
    """The job that the pilot holds; its record is not ours to touch."""
    try:
        held = Ledger(home).look()
    except ValueError as err:
        return {"unreadable": str(err)}
    if held is None:
        return None
    return {"PandaID": held.report.panda_id, "attempt": held.report.attempt, "stage": held.stage}


def _shell(config: StarterConfig) -> int:
    """Become a shell in the pilot's folder, with its proxy.

    `kubectl exec -it POD -- pilot-starter shell`; returns only if it cannot.
    """
    status = read_status(config.state_file)
    if status is None:
        print(f"there is no worker at {config.state_file}")
        return 1
    proxy = Path(status.home) / ".credentials/x509up"
    environment = {**os.environ, **({"X509_USER_PROXY": str(proxy)} if proxy.exists() else {})}
    try:
        os.chdir(status.home)
    except OSError as err:
        print(f"the worker has {status.phase}: {status.home}: {err.strerror}")
        return 1
    return os.execvpe("bash", ["bash", "-i"], environment)


_SUBCOMMANDS = {"healthcheck": _healthcheck, "status": _status, "shell": _shell}
