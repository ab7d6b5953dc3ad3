"""Where the pilot learns about its queue and its storage.

Called from the main thread: once at the start of the pilot, and again when a
document is older than `InfoConfig.lifetime_s`. A second call may answer from a
cache on disk.
"""

from typing import Protocol

from pilot_core.base.budget import Budget
from pilot_core.model.queue import Queue, Storage

__all__ = ["Information"]


class Information(Protocol):
    """Queue and storage data from the first source that has them."""

    def queue(self, name: str, *, budget: Budget) -> Queue:
        """The queue's settings.

        Raises
        ------
        SetupError
            QUEUEDATA if no source has the queue, naming each source asked and
            why it failed; QUEUEDATANOTOK if a source has it and it is
            unusable.
        """
        ...

    def storage(self, name: str, *, budget: Budget) -> Storage:
        """A ddmendpoint.

        Raises
        ------
        SetupError
            NOSTORAGE if no source has it.
        """
        ...
