"""Keeps the samples as a time series in the job's logs, in prmon's own format.

`prmon_plot.py` of HSF/prmon reads the text file: tab separated, a header, one
line a sample, `Time` in epoch seconds. The names match the `memory_monitor*`
files that are uploaded, and differ from those the payload's own prmon writes.
"""

import json
import logging
import os
from pathlib import Path

from pilot_core.base.files import write_atomic
from pilot_core.model.sample import Sample, Usage

__all__ = ["PrmonWriter"]

log = logging.getLogger(__name__)

TEXT_NAME = "memory_monitor_pilot.txt"
SUMMARY_NAME = "memory_monitor_pilot.json"

#: Seconds between two writings of the summary.
SUMMARY_S = 300.0

# The payload may write in this folder too: a link it left under this name
# would lead the pilot's pen to any file, and a FIFO would make it wait.
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# prmon's columns, and the fields of Sample they come from. prmon tells user
# from system time; the engines' sum stands under utime.
_COLUMNS = (
    ("nprocs", "processes"),
    ("nthreads", "threads"),
    ("wtime", "running_s"),
    ("stime", ""),
    ("utime", "cpu_s"),
    ("pss", "pss_kb"),
    ("rss", "rss_kb"),
    ("swap", "swap_kb"),
    ("vmem", "vmem_kb"),
    ("rchar", "rchar"),
    ("read_bytes", "read_bytes"),
    ("wchar", "wchar"),
    ("write_bytes", "write_bytes"),
)
_MEMORY = ("pss", "rss", "swap", "vmem")
_IO = ("rchar", "read_bytes", "wchar", "write_bytes")


class PrmonWriter:
    """Appends samples to the text file, rewrites the summary.

    A disk that is full is said once and costs lines of this file, never the
    job.
    A value that could not be measured repeats the line before (0 at first):
    prmon's readers know no gaps.

    Parameters
    ----------
    folder
        The work directory.
    """

    def __init__(self, folder: Path) -> None:
        self._text = folder / TEXT_NAME
        self._summary = folder / SUMMARY_NAME
        self._values = dict.fromkeys((name for name, _ in _COLUMNS), 0)
        self._most = dict.fromkeys((name for name, _ in _COLUMNS), 0)
        self._summed_at: float | None = None
        self._refused = False

    def add(self, sample: Sample, usage: Usage) -> None:
        """Append a sample; now and then, and first of all, write the summary
        too.
        """
        for name, field in _COLUMNS:
            value = getattr(sample, field) if field else None
            if value is not None:
                self._values[name] = int(value)
                self._most[name] = max(self._most[name], int(value))
        row = "\t".join(str(value) for value in (int(sample.time), *self._values.values()))
        try:
            with os.fdopen(os.open(self._text, _APPEND, 0o644), "a", encoding="ascii") as target:
                if target.tell() == 0:
                    target.write("\t".join(("Time", *self._values)) + "\n")
                target.write(row + "\n")
        except OSError as err:
            self._refuse(err)
        if self._summed_at is None or sample.running_s - self._summed_at >= SUMMARY_S:
            self._summed_at = sample.running_s
            self.close(usage)

    def close(self, usage: Usage) -> None:
        """Write the summary; may be called again."""
        most: dict[str, int | float] = dict(self._most)
        average: dict[str, int | float] = {}
        for name in _MEMORY:
            most[name] = getattr(usage, f"max_{name}")
            average[name] = round(getattr(usage, f"avg_{name}"))
        for name in _IO:
            most[name] = getattr(usage, name)
            average[name] = round(getattr(usage, f"rate_{name}"))
        most["utime"] = round(usage.cpu_s)
        document = {"Avg": average, "HW": {}, "Max": most}
        try:
            write_atomic(self._summary, json.dumps(document, indent=2) + "\n")
        except OSError as err:
            self._refuse(err)

    def _refuse(self, err: OSError) -> None:
        if not self._refused:
            self._refused = True
            log.warning("samples are not kept in %s: %s", self._text, err)
