"""Asks each monitor in turn and merges the answers into one sample.

A look costs one request to the engine (or one walk of /proc), a few stat calls
and a slice of the walk through the job's files. At the default period of 30 s
each monitor is asked every time; the walk has a period of its own, 60 s.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from pilot_core.base.clock import Clock
from pilot_core.model.sample import Sample
from pilot_core.monitor.contract import Monitor

__all__ = ["Sampler", "merge"]

log = logging.getLogger(__name__)

Reading = Mapping[str, float | int | str]

# Figures that only make sense together, from the one source that sees most.
_MEMORY = ("rss_kb", "pss_kb", "vmem_kb", "swap_kb", "memory_source")


def merge(readings: Iterable[Reading]) -> dict[str, float | int | str]:
    """One answer from several sources about the same payload.

    Each source may see only a part (the engine sees the `docker run` client,
    prmon the payload in the container behind it; prmon misses what runs
    beside it), and none sees too much: so the larger number is the better
    one. Memory is taken as a whole from the source that sees most of it.
    """
    found: dict[str, float | int | str] = {}
    memory: Reading = {}
    for reading in readings:
        if _seen(reading) > _seen(memory):
            memory = reading
        for field, value in reading.items():
            before = found.get(field)
            if field in _MEMORY or isinstance(value, str):
                continue
            if not isinstance(before, (int, float)) or value > before:
                found[field] = value
    found.update((field, memory[field]) for field in _MEMORY if field in memory)
    return found


def _seen(reading: Reading) -> float:
    """kB of memory a source sees, -1 if it sees none."""
    return max((float(reading[field]) for field in ("rss_kb", "pss_kb") if field in reading), default=-1.0)


class Sampler:
    """Makes samples of one running payload; called from one thread.

    Parameters
    ----------
    monitors
        Asked in this order.
    started
        Epoch second at which the payload started.
    clock
        For the time of a sample, and for how long the payload runs: a step
        of the machine's clock does not change that.
    """

    def __init__(self, monitors: Sequence[Monitor], *, started: float, clock: Clock) -> None:
        self._monitors = monitors
        self._clock = clock
        self._origin = clock.monotonic() - max(0.0, clock.time() - started)
        self._failed: set[str] = set()

    def sample(self) -> Sample:
        """Look once."""
        now = self._clock.time()
        running_s = self._clock.monotonic() - self._origin
        fields = merge([self._ask(monitor, now) for monitor in self._monitors])
        return Sample(time=now, running_s=running_s, **fields)  # type: ignore[arg-type]

    def _ask(self, monitor: Monitor, now: float) -> Reading:
        """A monitor's answer; empty, and said once, if the system refuses it."""
        try:
            return monitor.measure(now)
        except OSError as err:
            if monitor.name not in self._failed:
                self._failed.add(monitor.name)
                log.warning("monitor %s cannot measure: %s", monitor.name, err)
            return {}
