"""The worker's end: last will, last log records, upload; no step costs
another.
"""

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.errors import PilotError
from pilot_core.ledger import HeldJob, Ledger
from pilot_starter.attend import Abandoned, attended
from pilot_starter.child import ChildEnd
from pilot_starter.config import StarterConfig
from pilot_starter.heirs import Services
from pilot_starter.lastwill import LAST_WILL_S, cause_of_death, execute, oom_kills
from pilot_starter.logfile import WorkerLog
from pilot_starter.place import keepsakes
from pilot_starter.realtime import RealTimeLogger
from pilot_starter.upload import pack

__all__ = ["Closing"]

log = logging.getLogger(__name__)

_DRAIN_S = 30.0
_HURRIED_DRAIN_S = 3.0
# What is left of all this once somebody asks us to end, too.
_SHORT_S = 2.0
# Before another look at a job state file that could not be read.
_AGAIN_S = (0.1, 0.3, 0.0)
# In a hurry this much is kept back for the worker's own log.
_RESERVE_S = 0.6


class Closing:
    """What remains to be done once there is no pilot any more.

    Parameters
    ----------
    home
        The pilot's folder.
    services
        Server, engines, sinks.
    out, shipping
        The worker's log and its thread.
    preempted
        Whether the node is going away; may wait for the answer.
    """

    def __init__(
        self,
        config: StarterConfig,
        *,
        home: Path,
        services: Services,
        out: WorkerLog,
        shipping: RealTimeLogger,
        preempted: Callable[[], bool],
        clock: Clock,
        inbox: Inbox[signal.Signals],
    ) -> None:
        self._config = config
        self._home = home
        self._services = services
        self._out = out
        self._shipping = shipping
        self._preempted = preempted
        self._clock = clock
        self._inbox = inbox
        self._stop = threading.Event()
        self._oom_before = oom_kills()
        self._owed = ""

    def close(
        self,
        end: ChildEnd | None,
        *,
        words: str,
        hurry_s: float | None,
        sweep: Callable[[], None] = lambda: None,
    ) -> str:
        """Do it all; returns what became of the job the pilot still held, ""
        if none.

        Parameters
        ----------
        end
            How the pilot ended; None if there never was one.
        words
            The worker's last line.
        hurry_s
            Seconds for everything; None if nobody is waiting for our end.
        sweep
            Kills what the pilot left running: with a job's other remains, or
            at once if there was no job.
        """
        full_s = LAST_WILL_S + _DRAIN_S + self._config.upload_s
        budget = Budget(self._clock, full_s if hurry_s is None else hurry_s, "the worker's end")

        def work() -> None:
            if end is not None:
                self._step(
                    "last will", lambda: self._last_will(end, budget, sweep, hurried=hurry_s is not None)
                )
            kept = keepsakes(self._home)
            if kept:
                log.warning("%s is kept for %s", self._home, ", ".join(kept))
            owed = self._owed
            log.info("%s", f"{words}; {owed}" if owed else words)
            self._step("last lines", lambda: self._out.settle(min(1.0, budget.left)))
            self._step("last records", lambda: self._ship(budget, hurried=hurry_s is not None))
            self._step("upload", lambda: self._upload(budget))

        def on_signal(signum: signal.Signals) -> None:
            log.warning("%s received: the worker's end is cut short", signum.name)
            budget.shorten(_SHORT_S)
            self._stop.set()

        try:
            attended(
                "closing",
                work,
                inbox=self._inbox,
                on_signal=on_signal,
                clock=self._clock,
                patience_s=_SHORT_S + 0.5,
                limit_s=budget.seconds + 0.5,
            )
        except Abandoned as err:
            log.error("%s", err)
        return self._owed

    def _step(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except (PilotError, BudgetSpent, OSError) as err:
            log.error("%s: %s", name, err)
        except Exception:
            log.exception("%s failed", name)

    def _last_will(self, end: ChildEnd, budget: Budget, sweep: Callable[[], None], *, hurried: bool) -> None:
        ledger = Ledger(self._home)
        left = self._left(ledger)
        if left is not None and not left.owner_gone():
            # Ours has ended, and is not the only one here.
            log.error("job %d is left alone: %s may be running", left.report.panda_id, left.owner)
            left = None
        if left is None:
            sweep()
            return
        heirs = self._services.heirs

        def tidy(held: HeldJob, part: Budget) -> None:
            sweep()
            heirs.tidy(held, part)

        cause = cause_of_death(
            end, oom_before=self._oom_before, oom_after=oom_kills(), preempted=self._preempted()
        )
        seconds = max(0.0, budget.left - _RESERVE_S) if hurried else LAST_WILL_S
        self._owed = execute(
            ledger,
            replace(heirs, tidy=tidy),
            cause=cause,
            now_s=self._clock.time(),
            budget=budget.part(seconds, "last will"),
            stop=self._stop,
            hurried=hurried,
        )

    def _left(self, ledger: Ledger) -> HeldJob | None:
        """What the pilot left owing; a file that cannot be read is asked again:
        where the folder goes with the pod nobody else will.
        """
        for pause_s in _AGAIN_S:
            try:
                return ledger.held()
            except OSError as err:
                log.error("%s cannot be read: %s", ledger.path, err.strerror or err)
            self._clock.wait(self._stop, pause_s)
        return None

    def _ship(self, budget: Budget, *, hurried: bool) -> None:
        # Half of what is left at most: the upload comes after it.
        seconds = min(_HURRIED_DRAIN_S if hurried else _DRAIN_S, budget.left / 2)
        self._shipping.finish(budget.part(seconds, "last records of the worker log"))

    def _upload(self, budget: Budget) -> None:
        if not self._config.log_name:
            return
        packed = self._home / self._config.log_name
        # Half of what is left at most: what is packed must be sent.
        pack(self._out.file, packed, budget=budget.part(budget.left / 2, "packing it"))
        part = budget.part(self._config.upload_s, "upload of the worker log")
        self._services.upload(packed, part, self._stop)
        log.info("the worker log is at %s", self._config.log_link or self._config.log_name)
