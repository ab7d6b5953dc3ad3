"""A scope that is left in a hurry."""

import threading
import time

from pilot_core.base.scope import Scope


def test_the_last_joins_can_be_cut_short() -> None:
    free = threading.Event()
    began = time.monotonic()
    with Scope("test", join_s=60.0) as scope:
        thread = scope.spawn("stuck", free.wait, 60.0)
        scope.stop(0.05)
    assert time.monotonic() - began < 10.0, "an abandoned thread was waited for again"
    free.set()
    thread.join(10)
