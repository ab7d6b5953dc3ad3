"""Jobs whose worker was killed as a whole, `kill -9` to starter and pilot: the
next worker in the same TMPDIR says their last will.

Beside its own work, so that its pilot does not wait for a server or a storage.
"""

import logging
import threading
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.ledger import Ledger
from pilot_core.model.codes import ErrorCode
from pilot_starter.kept import vacant
from pilot_starter.lastwill import LAST_WILL_S, Cause, Heirs, execute
from pilot_starter.place import HOME_PREFIX, leave_home

__all__ = ["settle"]

log = logging.getLogger(__name__)


def settle(tmp_dir: Path, heirs: Heirs, *, clock: Clock, stop: threading.Event) -> None:
    """Send the final reports that dead workers owe, remove what their jobs
    left running, store their logs.

    Only for folders in which certainly nobody lives. What cannot be done, or
    not before `stop`, is left for the worker after us.
    """
    for home in sorted(tmp_dir.glob(f"{HOME_PREFIX}*")):
        if stop.is_set():
            return
        with vacant(home) as mine:
            if mine:
                _settle(home, heirs, clock=clock, stop=stop)


def _settle(home: Path, heirs: Heirs, *, clock: Clock, stop: threading.Event) -> None:
    ledger = Ledger(home)
    try:
        held = ledger.held()
        if held is None or not held.owner_gone():
            return
        log.warning("%s: its worker died and owes the end of job %d", home, held.report.panda_id)
        diag = f"the worker died (pilot pid {held.pid}) while the job was at stage {held.stage!r}"
        execute(
            ledger,
            heirs,
            cause=Cause(ErrorCode.KILLSIGNAL, diag),
            now_s=clock.time(),
            budget=Budget(clock, LAST_WILL_S, "last will of an earlier worker"),
            stop=stop,
            hurried=False,
        )
        # With the credentials of a worker that had no time to.
        leave_home(home)
    except OSError as err:
        log.error("%s is left alone: %s", home, err.strerror or err)
