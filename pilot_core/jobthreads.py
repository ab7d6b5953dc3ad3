"""The threads of one job: none is started without what its death means."""

import threading
from collections.abc import Callable

from pilot_core.base.scope import Scope

__all__ = ["JobThreads", "nothing"]


def nothing(_why: str) -> None:
    """The job can do without that thread."""


class JobThreads:
    """Starts threads in a job's scope.

    Parameters
    ----------
    missed
        Told the name of each thread that died, in that thread, before its
        consequence.
    """

    def __init__(self, scope: Scope, *, missed: Callable[[str], None]) -> None:
        self._scope = scope
        self._missed = missed

    @property
    def stopping(self) -> threading.Event:
        """Set when the job is over."""
        return self._scope.stopping

    def spawn(
        self, name: str, function: Callable[..., object], *args: object, on_death: Callable[[str], None]
    ) -> None:
        """Start `function` in a thread of its own.

        Parameters
        ----------
        on_death
            What it means for the job if that raises: called in the dying
            thread with words for people. The log has an ERROR in any case.

        Raises
        ------
        OSError
            The system has no thread for us.
        """

        def died(full: str, error: BaseException) -> None:
            self._missed(name)
            on_death(f"thread {full} died: {type(error).__name__}: {error}")

        self._scope.spawn(name, function, *args, on_death=died)
