"""PURE. How often one pilot of very many may ask: slower when the service is
full.

A log service's quota belongs to the project: 120,000 requests a minute of
Cloud Logging are one a pilot in 100 s where 200,000 pilots share them. No
pilot knows of the others. Each doubles its gap when it hears "too many" and
takes a tenth off with each yes, so that all together settle where about one
request in eight is refused (`benchmarks/fleet_logging.py`), and the gap is
gone soon after the crowd is.
"""

import random
from collections.abc import Callable

__all__ = ["Pace"]

FIRST_S = 5.0
CAP_S = 120.0
_WIDER = 2.0
_CLOSER = 0.9
# Below this there is no crowd any more: the usual interval is longer.
_LEAST_S = 1.0


class Pace:
    """The gap between two requests.

    Parameters
    ----------
    first_s
        The gap after the first "too many", seconds.
    chance
        A number from 0 to 1: jitter, so that pilots which start together part.

    Attributes
    ----------
    gap_s
        Seconds, before jitter; 0 as long as nobody said "too many".
    """

    def __init__(self, first_s: float = FIRST_S, chance: Callable[[], float] = random.random) -> None:
        self.gap_s = 0.0
        self._first_s = first_s
        self._chance = chance

    def refused(self) -> None:
        """The service has too many requests."""
        self.gap_s = min(CAP_S, max(self._first_s, self.gap_s * _WIDER))

    def accepted(self) -> None:
        """A request was taken."""
        self.gap_s *= _CLOSER
        if self.gap_s < _LEAST_S:
            self.gap_s = 0.0

    def wait_s(self) -> float:
        """Seconds until the next request: half the gap to one and a half."""
        return self.gap_s * (0.5 + self._chance())
