"""Threads with an owner: started, told to stop, and joined by a `with` block."""

import contextlib
import errno
import logging
import threading
from collections.abc import Callable
from typing import Any

from pilot_core.base.clock import Clock, SystemClock

__all__ = ["Scope"]

log = logging.getLogger(__name__)


class Scope:
    """Owns threads: none outlives the `with` block unheard.

    A thread function takes what it needs as arguments and watches
    `scope.stopping` in its waits. When the block is left, `stopping` is set
    and
    each thread is joined for at most `join_s` seconds in all. The first
    exception a thread raised is raised again at the end of the block, unless
    the block is already raising one or `on_death` was given.

    Parameters
    ----------
    name
        Prefix of the thread names, shown in `docs/threads.md`.
    join_s
        Seconds all joins together may take. A thread that is still in a
        foreign
        call then (a Docker daemon that hangs, say) is abandoned, which is said
        in the log; it is a daemon thread and cannot keep the process alive.
    on_death
        What the death of a thread means that was started without an `on_death`
        of its own: called in the dying thread with its name and exception, so
        that the owner hears at once and not at the end. With it, the scope
        does not raise the exception again: whoever asked to be told has been
        told.
    """

    def __init__(
        self,
        name: str,
        *,
        join_s: float = 10.0,
        on_death: Callable[[str, BaseException], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._join_s = join_s
        self._on_death = on_death
        self._clock = clock or SystemClock()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def __enter__(self) -> "Scope":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.stop()
        if kind is None and self._errors:
            raise self._errors[0]

    def spawn(
        self,
        name: str,
        function: Callable[..., object],
        *args: Any,
        on_death: Callable[[str, BaseException], None] | None = None,
    ) -> threading.Thread:
        """Start `function` in a thread called `<scope>-<name>`.

        Parameters
        ----------
        on_death
            What the death of this one means; the scope's own word if None.

        Raises
        ------
        OSError
            EAGAIN: the system has no thread for us, as it would have no
            process (a limit of tasks, memory).
        """
        full = f"{self.name}-{name}"
        mourn = on_death or self._on_death

        def body() -> None:
            try:
                function(*args)
            except BaseException as err:
                log.exception("thread %s died: %s: %s", full, type(err).__name__, err)
                if mourn is None:
                    self._errors.append(err)
                else:
                    mourn(full, err)

        thread = threading.Thread(target=body, name=full, daemon=True)
        try:
            thread.start()
        except RuntimeError as err:
            raise OSError(errno.EAGAIN, str(err), full) from err
        self._threads.append(thread)
        # Those that are over need no joining: a server starts one a
        # connection.
        for over in [t for t in self._threads if not t.is_alive()]:
            with contextlib.suppress(ValueError):
                self._threads.remove(over)
        return thread

    def stop(self, join_s: float | None = None) -> None:
        """Set `stopping` and join every thread; a second call is harmless.

        Parameters
        ----------
        join_s
            Seconds for the joins, where there are fewer than the scope was
            made with.
        """
        self.stopping.set()
        seconds = self._join_s if join_s is None else join_s
        end = self._clock.monotonic() + seconds
        threads, self._threads = self._threads, []
        for thread in threads:
            self._clock.join(thread, end - self._clock.monotonic())
            if thread.is_alive():
                log.error("thread %s did not end within %.1f s and is abandoned", thread.name, seconds)
