"""Why are we being ended? Asked at once, so that the answer is there when the
last will needs it.
"""

import threading
from types import TracebackType

from pilot_core.base.clock import Clock
from pilot_core.base.scope import Scope
from pilot_core.monitor.shutdown import PREEMPTED_URL, PreemptionNotice

__all__ = ["Why"]

# The question, all in all; the pilot takes as long for its own.
_WHY_S = 0.7


class Why:
    """A `with` block in which the metadata server may be asked once, from a
    thread of its own.

    Parameters
    ----------
    in_pod
        Nobody is asked elsewhere than on Kubernetes.
    url
        Where the notice of preemption is; empty for Google's place.
    """

    def __init__(self, *, in_pod: bool, url: str, clock: Clock) -> None:
        self._notice = (
            PreemptionNotice(url or PREEMPTED_URL, timeout_s=_WHY_S, clock=clock) if in_pod else None
        )
        self._clock = clock
        self._asked = False
        self._answered = threading.Event()
        self._preempted = False
        self._scope = Scope("starter", join_s=0.1, on_death=lambda _name, _err: None, clock=clock)

    def __enter__(self) -> "Why":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.stop()

    def ask(self) -> None:
        """Begin; once is enough."""
        if self._notice is not None and not self._asked:
            self._asked = True
            self._scope.spawn("why", self._ask, self._notice)

    def preempted(self) -> bool:
        """True if the node is said to go away; waits for the answer, should it
        not be there.
        """
        if self._asked:
            self._clock.wait(self._answered, _WHY_S)
        return self._preempted

    def _ask(self, notice: PreemptionNotice) -> None:
        try:
            self._preempted = bool(notice.preempted())
        finally:
            self._answered.set()
