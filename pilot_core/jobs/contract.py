"""A source of jobs.

The agent asks from its main thread; `next` may wait as long as its budget
says and must return soon after `stop` is set (a signal, a drain). A job that
`next` returned is this pilot's: from then on somebody must report its end.
"""

import threading
from typing import Protocol

from pilot_core.base.budget import Budget
from pilot_core.model.job import Job

__all__ = ["JobSource"]


class JobSource(Protocol):
    """Hands out jobs, one at a time."""

    #: True if another job may follow a finished one (PULL); False for PUSH.
    renewable: bool

    def next(self, *, budget: Budget, stop: threading.Event) -> Job | None:
        """The next job; None if there is none (now, or for good where not
        `renewable`).

        Raises
        ------
        BadJob
            A definition came that cannot be understood. Where it names a
            PandaID, the caller owes the server a failed report.
        NodeError
            The job cannot be taken here: the same.
        ServerError, SetupError
            The source could not be asked.
        """
        ...
