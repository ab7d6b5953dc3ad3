"""Watch one running payload: sample, sum up, judge; a thread of the job's
scope.
"""

import logging
import threading
from collections.abc import Callable

from container.spec import ContainerExit
from pilot_core.base.clock import Clock
from pilot_core.jobthreads import JobThreads
from pilot_core.limits import Judge
from pilot_core.model.sample import Usage, Verdict
from pilot_core.monitor.prmon_writer import PrmonWriter
from pilot_core.monitor.sampler import Sampler
from pilot_core.monitor.usage import UsageMeter

__all__ = ["Watch"]

log = logging.getLogger(__name__)

#: The first samples come early, so that short jobs have numbers too: after so
#: many seconds, then each after three times as long, up to the usual pause.
FIRST_S = 0.1
GROWTH = 3.0


class Watch:
    """Samples a payload until told to stop; tells the first crossed limit.

    `usage` may be called from any thread at any time.
    """

    def __init__(
        self,
        sampler: Sampler,
        judge: Judge,
        *,
        writer: PrmonWriter,
        period_s: float,
        clock: Clock,
    ) -> None:
        self._sampler = sampler
        self._judge = judge
        self._meter = UsageMeter()
        self._writer = writer
        self._period_s = period_s
        self._clock = clock
        self._first_s = min(FIRST_S, period_s)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._usage = Usage()

    def usage(self) -> Usage:
        """The sum of all samples so far."""
        return self._usage

    def begin(self, threads: JobThreads, crossed: Callable[[Verdict], None], *, again: bool = True) -> None:
        """Run in a thread of the job, and once more if that dies.

        After that the payload runs on without our limits: hours of its work
        are worth more than what engine, batch system and server limit, too.
        """

        def died(_why: str) -> None:
            if again and not threads.stopping.is_set():
                log.error("the watch of the payload begins again")
                self.begin(threads, crossed, again=False)
            else:
                log.error("nobody watches the payload any more: the pilot keeps no limits of its own")

        threads.spawn("watch", self.run, threads.stopping, crossed, on_death=died)

    def run(self, stop: threading.Event, crossed: Callable[[Verdict], None]) -> None:
        """Thread body; calls `crossed` at most once.

        If a look raised, another thread may begin again, after a whole period:
        what it stumbled over may be gone by then.
        """
        told = False
        pause, self._first_s = self._first_s, self._period_s
        while not self._clock.wait(self._over, pause) and not stop.is_set():
            pause = min(pause * GROWTH, self._period_s)
            # The sampler is not made for two threads: `finish` waits for this
            # look.
            with self._lock:
                if self._over.is_set():
                    return
                sample = self._sampler.sample()
                self._usage = self._meter.add(sample)
                self._writer.add(sample, self._usage)
                verdict = self._judge.look(sample)
            if verdict is not None and not told:
                told = True
                log.error("limit crossed: %s", verdict.diag)
                crossed(verdict)

    def finish(self, ended: ContainerExit | None, *, running_s: float) -> None:
        """The payload is over after `running_s`: take what the engine counted,
        write the summary.
        """
        self._over.set()
        with self._lock:
            # The files (sizes, prmon's last lines) still tell; a short job has
            # no other sample.
            sample = self._sampler.sample()
            self._writer.add(sample, self._meter.add(sample))
            self._usage = self._meter.close(
                running_s=running_s,
                cpu_s=ended.cpu_s if ended else None,
                max_rss_kb=ended.max_rss_bytes // 1024 if ended and ended.max_rss_bytes else None,
            )
            self._writer.close(self._usage)
