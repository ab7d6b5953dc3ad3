"""A monitor measures; it never judges, kills or reports.

`sampler.py` asks each monitor from its one thread, every `sample_s` seconds
while a payload runs, and merges the answers into a `Sample`; `limits.py`
judges. A monitor keeps no state between calls but what makes the next look
cheaper. It reads below the root it was given, so that recorded trees test it.
"""

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Monitor"]


class Monitor(Protocol):
    """Measures one thing about a running payload."""

    name: str

    def measure(self, now: float) -> Mapping[str, float | int | str]:
        """Fields of `Sample` with their values at epoch second `now`.

        A field that cannot be measured is left out. Never raises for
        something that vanished meanwhile (a process, a file, a container).
        """
        ...
