"""How long a test may wait for what a document promises within seconds."""

import os

__all__ = ["stated"]

_MOST = 6.0


def stated(seconds: float) -> float:
    """The time a document states, on a machine that has other things to do.

    With more runnable processes than cores everything takes that much longer;
    with as many or fewer the stated time is what counts.
    """
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * min(_MOST, max(1.0, busy))
