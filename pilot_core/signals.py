"""Signals of the process: heard as events, and what each one means."""

import logging
import signal
from collections.abc import Callable

from pilot_core.base.clock import Clock
from pilot_core.base.procs import alive, signal_at_death_of
from pilot_core.config import Config
from pilot_core.events import Signalled
from pilot_core.jobtools import Drain, Signal
from pilot_core.model.codes import ErrorCode
from pilot_core.monitor.shutdown import PREEMPTED_URL, PreemptionNotice

__all__ = ["ENDING_SIGNALS", "Signals"]

log = logging.getLogger(__name__)

#: Signals that end the pilot, with the code and name the server sees. SIGSEGV
#: and SIGBUS are not among them: after those no Python code can be trusted,
#: and the starter's last will speaks for the pilot.
ENDING_SIGNALS = {
    signal.SIGTERM: ErrorCode.SIGTERM,
    signal.SIGINT: ErrorCode.SIGINT,
    signal.SIGQUIT: ErrorCode.SIGQUIT,
    signal.SIGXCPU: ErrorCode.SIGXCPU,
    signal.SIGUSR1: ErrorCode.SIGUSR1,
    signal.SIGHUP: ErrorCode.KILLSIGNAL,
}

#: Asking the metadata server why costs at most this of the time that is left.
WHY_S = 0.7


class Signals:
    """What this process hears, and why it was told."""

    def __init__(self, config: Config, *, clock: Clock) -> None:
        self._worker = config.worker
        self._wrapup = config.wrapup
        self._clock = clock
        self._heard = 0

    def listen(self, tell: Callable[[Signal | Drain], None]) -> None:
        """From now on signals become events; the handlers do nothing else."""
        for number in ENDING_SIGNALS:
            # Who started us with `nohup` wants us to stay.
            nohup = number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
            if not nohup or self._worker.starter_pid:
                signal.signal(number, lambda n, _: tell(Signal(n)))
        signal.signal(signal.SIGUSR2, lambda _, __: tell(Drain()))
        # Without the starter nobody reads our output nor speaks for us
        # afterwards.
        starter = self._worker.starter_pid
        if starter and not signal_at_death_of(starter, signal.SIGTERM):
            log.warning("the starter (pid %d) is not our parent: its end will not be noticed", starter)

    def why(self, event: Signal) -> Signalled:
        """What `event` means, and how many seconds are left; may ask the metadata
        server.
        """
        number = signal.Signals(event.number)
        self._heard += 1
        wrapup = self._wrapup
        began = self._clock.monotonic()
        if self._heard > 1:
            return Signalled(
                ENDING_SIGNALS[number], f"killed by a second signal, {number.name}", wrapup.hasty_s
            )
        code, diag = ENDING_SIGNALS[number], f"the pilot was killed by signal {number.name}"
        if number is signal.SIGTERM and self._worker.batch_type == "Kubernetes":
            notice = PreemptionNotice(wrapup.metadata_url or PREEMPTED_URL, timeout_s=WHY_S)
            if notice.preempted():
                code, diag = ErrorCode.PREEMPTION, "the node is being preempted (metadata server)"
        starter = self._worker.starter_pid
        if number is signal.SIGTERM and starter and not alive(starter):
            diag = f"the starter (pid {starter}) ended without ending the pilot"
        # Whoever counts our time does so from the signal.
        asked_s = self._clock.monotonic() - began
        return Signalled(code, diag, max(1.0, wrapup.preempt_s - asked_s))
