"""Command line of the starter; the only reader of `os.environ` here."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pilot_core import __version__
from pilot_core.errors import PilotError, SetupError
from pilot_core.ledger import Ledger
from pilot_core.model.codes import exit_code
from pilot_core.options import Help, Parser, add_options, listing
from pilot_core.resolve import Value
from pilot_core.server.url import base_url
from pilot_starter.config import StarterConfig
from pilot_starter.health import examine, read_status
from pilot_starter.run import run
from pilot_starter.settings import read, settings
from pilot_starter.table import GROUPS, KINDS, MADE, SETTINGS

__all__ = ["build_config", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pilot-starter",
        usage="pilot-starter [run|healthcheck|status|shell] [options] [-- options of the pilot]",
        description="Start a PanDA pilot, keep it company, tell its story, outlive it.",
        epilog="In brackets: default, and variables that set the same; the option comes before them. "
        "Most settings are variables only, those that Harvester sets: --show-config names all of them.",
        argument_default=argparse.SUPPRESS,
        formatter_class=Help,
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="run",
        choices=("run", "healthcheck", "status", "shell"),
        metavar="command",
        help="run a worker (without a command), say if it is well, say all about it as JSON, or become "
        "a shell in its pilot's folder",
    )
    parser.add_argument("--version", action="version", version=f"pilot-starter {__version__}")
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print each setting with value, unit, source and what sets it, and end",
    )
    add_options(parser, GROUPS, KINDS)
    return parser


def build_config(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[str, StarterConfig]:
    """Command and settings.

    Raises
    ------
    SetupError
        Naming the variable or option.
    """
    command, config, _ = _read(argv, environment)
    return command, config


def _read(
    argv: Sequence[str], environment: Mapping[str, str]
) -> tuple[str, StarterConfig, Mapping[str, Value]]:
    own, extra = _split(argv)
    # An empty value is what a script's unset variable leaves behind.
    options = {name: value for name, value in vars(_parser().parse_args(own)).items() if value != ""}
    command = "show" if options.pop("show_config", False) else str(options.pop("command"))
    values = read(options, environment)
    if command == "run":
        _check(values)
    return command, settings(values, extra, environment), values


def _check(values: Mapping[str, Value]) -> None:
    """What a worker cannot do without; said before anything runs."""
    if "queue" not in values or not values["queue"].value:
        raise SetupError("no queue: give -q or pandaQueueName")
    if server := values.get("server_url"):
        # Else first met when a dead pilot's job is to be reported.
        base_url(str(server.value), setting=server.source)
    key = values.get("source.public_key")
    if key is None:
        return
    try:
        why = "" if b"PUBLIC KEY-----" in Path(str(key.value)).read_bytes() else "holds no public key (PEM)"
    except OSError as err:
        why = str(err.strerror)
    if why:
        raise SetupError(f"{key.source}={str(key.value)!r}: {why}")


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    if "--" in argv:
        cut = list(argv).index("--")
        return list(argv[:cut]), list(argv[cut + 1 :])
    return list(argv), []


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `pilot-starter`; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s | %(levelname)-8s | %(message)s")
    try:
        command, config, values = _read(sys.argv[1:] if argv is None else argv, os.environ)
        if command == "show":
            print(listing(config, values, SETTINGS, MADE))
            return 0
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
    shown = {**asdict(status), "started": _time(status.started)}
    print(json.dumps({**shown, "health": asdict(health), "job": _job(Path(status.home))}, indent=1))
    return 0


def _time(seconds: float) -> str:
    """Epoch seconds for people: ISO 8601 in UTC, as the pilot's log has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _job(home: Path) -> dict[str, str | int] | None:
    """The job that the pilot holds; its record is not ours to touch."""
    try:
        held = Ledger(home).look()
    except (OSError, ValueError) as err:
        return {"unreadable": str(err)}
    if held is None:
        return None
    return {
        "PandaID": held.report.panda_id,
        "attempt": held.report.attempt,
        "stage": held.stage,
        "folder": held.work,
        "engine": held.engine,
        "payload": held.payload,
        "since": "" if held.report.start_s is None else _time(held.report.start_s),
    }


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
