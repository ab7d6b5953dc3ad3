"""What is done before there is a pilot, by a thread that a signal can end."""

import logging
import signal
import threading
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.errors import PilotError
from pilot_starter.attend import attended
from pilot_starter.config import StarterConfig
from pilot_starter.credentials import Credentials
from pilot_starter.fetch import fetch_pilot
from pilot_starter.kept import sweep
from pilot_starter.place import cache_folder, copy_job

__all__ = ["Asked", "prepare"]

log = logging.getLogger(__name__)

# A download cannot be interrupted at once.
_PATIENCE_S = 1.0


class Asked(Exception):
    """A signal came before there was a pilot to pass it on to."""

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(signum.name)
        self.signum = signum


def prepare(
    config: StarterConfig,
    home: Path,
    credentials: Credentials,
    *,
    inbox: Inbox[signal.Signals],
    clock: Clock,
) -> bool:
    """Credentials, job file, room for it, and the pilot; True if the installed
    pilot is to run.

    Raises
    ------
    Asked
        Somebody wants the worker to end.
    PilotError, OSError
        It cannot begin.
    """
    stop = threading.Event()
    asked: list[signal.Signals] = []

    def work() -> bool:
        credentials.prepare()
        if config.submit_mode == "PUSH":
            copy_job(config.job_dirs, home)
        sweep(config.tmp_dir, now=clock.time(), stop=stop)
        return not fetch_pilot(
            config.source,
            home=home,
            cache=cache_folder(config.tmp_dir),
            clock=clock,
            stop=stop,
            ca=config.ca_file,
        )

    def on_signal(signum: signal.Signals) -> None:
        log.warning("%s received before the pilot was started", signum.name)
        asked.append(signum)
        stop.set()

    try:
        installed = attended(
            "prepare", work, inbox=inbox, on_signal=on_signal, clock=clock, patience_s=_PATIENCE_S
        )
    except (PilotError, OSError) as err:
        if asked:
            raise Asked(asked[0]) from err
        raise
    if asked:
        raise Asked(asked[0])
    return installed
