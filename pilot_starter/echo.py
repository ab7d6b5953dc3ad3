"""A copy of the worker's log on our stdout, for as long as somebody takes it.

Whoever reads a pod's stdout may stop reading, and a pipe that is full blocks
whoever writes: a starter that waits there ends neither a job nor itself.
"""

import contextlib
import errno
import os
import select
from collections.abc import Callable

__all__ = ["Echo"]

# What a pipe takes without blocking once it says that it has room (pipe(7),
# PIPE_BUF).
_PIECE = 4096
# A reader that takes nothing for so long is none.
_PATIENCE_S = 5.0
_SLICE_S = 0.2


class Echo:
    """Writes to a descriptor that is left as it is: others share it, so it
    must not be made non-blocking.

    Parameters
    ----------
    fd
        Where to.
    hurry
        True once nobody must wait any more.
    """

    def __init__(self, fd: int, *, hurry: Callable[[], bool]) -> None:
        self._fd = fd
        self._hurry = hurry
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises
        ------
        OSError
            Nobody takes it: closed, or a TimeoutError after 5 s without a
            byte taken.
        """
        view = memoryview(data)
        while view:
            self._wait()
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._fd, view[:_PIECE]) :]

    def _wait(self) -> None:
        waited = 0.0
        while not self._poll.poll(_SLICE_S * 1_000):
            waited += _SLICE_S
            if waited >= _PATIENCE_S or self._hurry():
                raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")
