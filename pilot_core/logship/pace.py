"""PURE. How much one pilot of very many may ask of a service that is full.

A log service's quota belongs to the project, and no pilot knows of the
others. 120,000 requests a minute of Cloud Logging are one a pilot in 100 s
where 200,000 pilots share them: each doubles its gap when it hears "too many"
and takes a tenth off with each yes, so that all together settle where one
request in four or five is refused, and the gap is gone soon after the crowd is.

Where the bytes are too many, a gap alone would serve those who send most.
Each halves its share, the bytes of a request, with each such refusal, and adds
a little with each yes: those who have more to send than that come to equal
shares, and those who have less are heard. It doubles where requests are too
many: they have to be fewer and larger then. `benchmarks/fleet_logging.py` shows
it.
"""

import math
import random
from collections.abc import Callable

__all__ = ["FIRST_S", "Pace"]

FIRST_S = 5.0
CAP_S = 120.0
_WIDER = 2.0
_CLOSER = 0.9
# Below this there is no crowd any more: the usual interval is longer.
_LEAST_S = 1.0

# 200,000 pilots at the least share and the widest gap send 400 MB a minute if
# all of them have that much; four in five do not. 300 MB is the quota of a
# small region.
LEAST_BYTES = 4096
_STEP_BYTES = 2048
_HURRY_GAP, _HURRY_SHARE = 1 / 3, 4


class Pace:
    """The gap between two requests, and the size of one.

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
    share_bytes
        The most bytes of a request; infinite as long as nobody said "too many
        bytes". An entry that is larger goes alone.
    """

    def __init__(self, first_s: float = FIRST_S, chance: Callable[[], float] = random.random) -> None:
        self.gap_s = 0.0
        self.share_bytes = math.inf
        self._first_s = first_s
        self._chance = chance

    def too_many_requests(self) -> None:
        """The service has too many requests."""
        self._widen()
        self.share_bytes *= 2

    def too_many_bytes(self, size: int) -> None:
        """The service has too many bytes; `size` of them were in a request
        that it refused.
        """
        self._widen()
        self.share_bytes = max(LEAST_BYTES, min(self.share_bytes, size) / 2)

    def accepted(self, *, hurry: bool) -> None:
        """A request was taken.

        With `hurry`, at the end of a job, the share is four times as large and
        the gap a third as long after each yes: where there is room again, a
        backlog of 10 MB goes in 30 s.
        """
        self.gap_s *= _HURRY_GAP if hurry else _CLOSER
        self.share_bytes = self.share_bytes * _HURRY_SHARE if hurry else self.share_bytes + _STEP_BYTES
        if self.gap_s < _LEAST_S:
            self.gap_s, self.share_bytes = 0.0, math.inf

    def _widen(self) -> None:
        self.gap_s = min(CAP_S, max(self._first_s, self.gap_s * _WIDER))

    def wait_s(self) -> float:
        """Seconds until the next request: half the gap to one and a half."""
        return self.gap_s * (0.5 + self._chance())

    def apart_s(self) -> float:
        """Seconds to the next request of a backlog, after a yes."""
        return 0.0 if self.share_bytes == math.inf else self.wait_s()
