"""Sampling from one thread while the end comes from another."""

import threading
from collections.abc import Mapping
from pathlib import Path

from pilot_core.base.clock import SystemClock
from pilot_core.config import MonitorConfig
from pilot_core.limits import Judge, limits_for
from pilot_core.model.job import Job
from pilot_core.model.queue import Queue
from pilot_core.monitor.prmon_writer import PrmonWriter
from pilot_core.monitor.sampler import Sampler
from pilot_core.watch import Watch


class Slow:
    """A monitor that says if two threads ask it at once."""

    name = "slow"

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.looks = 0
        self.crowded = False
        self._lock = threading.Lock()

    def measure(self, now: float) -> Mapping[str, float | int | str]:
        if not self._lock.acquire(blocking=False):
            self.crowded = True
            return {}
        try:
            self.looks += 1
            self.inside.set()
            self.go_on.wait(10)
            return {"rss_kb": 7}
        finally:
            self._lock.release()


def test_the_last_look_waits_for_the_one_under_way(tmp_path: Path) -> None:
    monitor, clock = Slow(), SystemClock()
    limits = limits_for(Job(1, 1, "x", ""), Queue("Q", "Q"), MonitorConfig(), remaining_s=None)
    watch = Watch(
        Sampler([monitor], started=clock.time(), clock=clock),
        Judge(limits),
        writer=PrmonWriter(tmp_path),
        period_s=0.01,
        clock=clock,
    )
    looking = threading.Thread(target=watch.run, args=(threading.Event(), lambda _: None))
    looking.start()
    assert monitor.inside.wait(10)
    ending = threading.Thread(target=watch.finish, args=(None,), kwargs={"running_s": 2.0})
    ending.start()
    ending.join(0.1)
    monitor.go_on.set()
    for thread in (looking, ending):
        thread.join(10)
        assert not thread.is_alive()
    assert not monitor.crowded
    assert monitor.looks == 2
    assert watch.usage().max_rss == 7
