"""Engines: who calls what, when, and what holds afterwards.

The life of a payload is `ensure_image`, `start`, many `stats`, one `wait` that
returns or a `stop`, `remove`. Threads: `start` is called from one thread,
`wait` from another, `stats` from a third, `stop` from a fourth; a `Container`
is safe for that. Every call is bounded: `wait` by its argument, `stop` by the
grace plus `KILL_S`, all others by the engine's own timeout. A daemon that
hangs costs that time and then an `EngineUnavailable`, never the caller.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from container.spec import ContainerExit, ContainerSpec, PullProgress, Stats

__all__ = ["KILL_S", "QUICK_S", "Container", "Engine", "Leftover"]

#: Seconds between the kill and the moment when an end is given up on.
KILL_S = 5.0
#: Seconds a call may take while something is being stopped: a part of `KILL_S`.
QUICK_S = 2.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A container or process of an earlier life."""

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool


class Container(Protocol):
    """One started payload."""

    #: The engine's own id: container id, or process group id as text.
    id: str
    #: Host pid of its first process; 0 if the engine cannot tell.
    pid: int

    def wait(self, timeout_s: float) -> ContainerExit | None:
        """Its end, or None if it still runs after `timeout_s` seconds.

        Returns the same end at each later call. stdout and stderr are
        complete in their files when an end is returned.
        """
        ...

    def stats(self) -> Stats:
        """What it uses now; fields stay None if it is gone. Never raises."""
        ...

    def processes(self) -> str:
        """A table of its processes, for people.

        Raises
        ------
        EngineError
            The engine does not show them, or does not answer.
        """
        ...

    def backtrace(self, pid: int | None) -> str:
        """Where each thread of one of its processes stands, by gdb; half a
        minute at most, in which that process stands still.

        Parameters
        ----------
        pid
            None for its first one; else a number as `processes` shows it, for
            payloads in a container as that numbers it.

        Raises
        ------
        EngineError
            There is no such process, or no gdb where it runs.
        """
        ...

    def stop(self, grace_s: float) -> ContainerExit:
        """Ask it to end, wait for the exit or the grace, then kill all of it.

        Kills everything the payload started that the engine can find: its
        process group, its descendants, its containers. Idempotent: the second
        call waits for the first, or shortens its grace if its own is smaller.
        Returns when nothing of it runs any more, or with `lost` set after
        `grace_s + KILL_S` seconds.
        """
        ...

    def remove(self) -> None:
        """Delete what the engine keeps of it (the stopped container);
        idempotent.
        """
        ...


class Engine(Protocol):
    """Runs payloads."""

    #: `docker`, `process` or `kubernetes`.
    name: str

    def check(self) -> str:
        """Version of the engine in words, if it answers.

        Raises
        ------
        EngineUnavailable
            Naming the socket or host and the reason (no such file, permission
            denied, no answer in 10 s).
        """
        ...

    def ensure_image(
        self,
        image: str,
        *,
        timeout_s: float,
        on_progress: Callable[[PullProgress], None],
        cancelled: threading.Event,
    ) -> None:
        """Have the image on this node; at once if it is there already.

        Where an image is pulled by the start and no earlier (kubernetes), this
        only notes the wishes for it, and `start` raises in its place.

        Raises
        ------
        ImageError, EngineUnavailable, Cancelled
        """
        ...

    def start(self, spec: ContainerSpec) -> Container:
        """Start a payload; when it returns the payload runs, or has already
        ended.

        Raises
        ------
        StartError
            Nothing of it is left behind then.
        ImageError, EngineUnavailable, Cancelled
            The same, from an engine that pulls now.
        """
        ...

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        """Everything on this node that carries all of these labels, running or
        not.
        """
        ...

    def remove_leftover(self, leftover: Leftover) -> None:
        """Stop and delete it; harmless if it is gone."""
        ...

    def close(self) -> None:
        """Let go of connections; running payloads go on."""
        ...
