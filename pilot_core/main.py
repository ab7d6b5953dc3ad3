"""The pilot as a process: its arguments, its folder, its log, its exit code."""

import contextlib
import faulthandler
import logging
import os
import platform
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pilot_core import __version__, cli, loglines
from pilot_core.app import Pilot
from pilot_core.base.clock import SystemClock
from pilot_core.base.files import remove_tree
from pilot_core.base.logs import file_log, setup_logging
from pilot_core.base.ownsecrets import own_secrets
from pilot_core.base.procs import few_heaps
from pilot_core.base.redact import Redactor
from pilot_core.config import Config
from pilot_core.errors import PilotError, SetupError
from pilot_core.ledger import FILE_NAME as LEDGER
from pilot_core.logship.target import parse_target
from pilot_core.model.codes import ErrorCode, exit_code

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(argv: Sequence[str]) -> int:
    """Parse, build, live; returns the exit code of the process."""
    try:
        invocation = cli.parse(argv)
    except SetupError as err:
        sys.stderr.write(f"pilot.py: {err}\n")
        return exit_code(err.code)
    if invocation.show:
        sys.stdout.write(cli.show(invocation) + "\n")
        return _check(invocation.config)
    if find_spec("requests") is None:
        # Imported when it is first needed: without this, deep in some thread.
        lacks = f"{sys.executable} has no Python package 'requests': name a Python that has the pilot's"
        sys.stderr.write(f"pilot.py: {lacks} packages (wrappers take PILOT_PYTHON), or install it there\n")
        return exit_code(ErrorCode.GENERALERROR)
    config = invocation.config
    # The payload gets some of these as they are, may read all, and print them.
    server, environment = config.server, config.payload.environment
    files = (server.proxy_file, server.token_file, server.token_key_file)
    redactor = Redactor(own=lambda: own_secrets(files, environment))
    setup_logging(debug=config.worker.debug, redactor=redactor)
    faulthandler.enable()
    few_heaps()
    launched = Path.cwd()
    home = config.worker.home
    with contextlib.ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            os.chdir(home)
            stack.enter_context(file_log(home / "pilotlog.txt", debug=config.worker.debug, redactor=redactor))
        except OSError as err:
            log.error("work directory %s: %s", home, err.strerror)
            return exit_code(ErrorCode.MKDIR)
        _banner(config, invocation.remarks)
        code = _live(config, redactor)
        shell = exit_code(code)
        loglines.pilot_finished(code, shell)
    os.chdir(launched)
    if config.worker.cleanup and home != launched and code is ErrorCode.NONE and not _owes(home):
        remove_tree(home)
    return shell


def _check(config: Config) -> int:
    """What a pilot would only say in its log; 0 if there is nothing."""
    try:
        if config.realtime.enabled:
            realtime = config.realtime
            parse_target(realtime.server, realtime.loki_url, realtime.loki_labels)
    except ValueError as err:
        sys.stderr.write(f"pilot.py: real-time logging would be off: --realtime-logging-server {err}\n")
        return exit_code(ErrorCode.GENERALERROR)
    return 0


def _owes(home: Path) -> bool:
    """True if the server or the storage does not have all of a job that ran
    here.
    """
    return (home / LEDGER).exists() or any(home.glob("PanDA_Pilot-*"))


def _banner(config: Config, remarks: Sequence[str]) -> None:
    log.info("*" * 40)
    log.info("***  PanDA Pilot version %s  ***", __version__)
    log.info("*" * 40)
    log.info(
        "queue %s, host %s, python %s", config.worker.queue, config.worker.hostname, platform.python_version()
    )
    log.info("work directory %s", config.worker.home)
    for remark in remarks:
        log.warning("%s", remark)


def _live(config: Config, redactor: Redactor) -> ErrorCode:
    try:
        with Pilot(config, redactor=redactor, clock=SystemClock()) as pilot:
            return pilot.agent.run()
    except PilotError as err:
        log.error("%s", err)
        return err.code
