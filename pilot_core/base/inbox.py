"""The one place where threads and signal handlers leave word for the main
thread.
"""

import queue
from typing import Generic, TypeVar

__all__ = ["Inbox"]

E = TypeVar("E")

# The kernel may hand a signal to another thread, and one that comes right
# before a wait does not end it: the handler, which Python runs in the main
# thread alone, would then wait as long as its reader. So no wait is longer.
_SLICE_S = 0.5


class Inbox(Generic[E]):
    """Events in, in the order of their arrival, for one reader.

    `SimpleQueue.put` is reentrant, so a signal handler may call it while the
    main thread sits in `get`; `queue.Queue` would deadlock there.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[E] = queue.SimpleQueue()

    def put(self, event: E) -> None:
        """Leave an event; never blocks, may be called from a signal handler."""
        self._queue.put(event)

    def get(self, timeout_s: float) -> E | None:
        """Next event, or None after `timeout_s` seconds without one."""
        left = max(0.0, timeout_s)
        while True:
            part = min(left, _SLICE_S)
            try:
                return self._queue.get(timeout=part)
            except queue.Empty:
                left -= part
                if left <= 0.0:
                    return None
