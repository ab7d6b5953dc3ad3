"""Everything that can go wrong between a pilot and its server, on demand."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Fault", "FaultKind", "Faults", "Struck"]


class FaultKind(StrEnum):
    """What the client sees instead of an answer."""

    STATUS = "status"  # an HTTP status, with a plain text
    HTML = "html"  # status 200 and a page for humans, as a portal or a proxy sends it
    HANG = "hang"  # nothing, for `seconds`, then the connection is closed
    RESET = "reset"  # connection reset by peer
    HALF = "half"  # headers and the first half of the body
    STATUS_CODE = "statuscode"  # HTTP 200, `success`, and a StatusCode that says no
    SLOW = "slow"  # the right answer, `seconds` late


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour.

    Attributes
    ----------
    call
        acquire_jobs, update_job, update_worker_status, upload, cric,
        transformation, cache... (the v1 name in both dialects) or `*` for all.
    kind
        See `FaultKind`.
    count
        How often it strikes; None until it is cleared.
    every
        Strikes each n-th matching call, 1 for all of them.
    after
        Lets so many matching calls pass first.
    commit
        The request is carried out before the client is failed: it cannot know.
    where
        Only calls with these arguments, under v1 names: `{"job_status":
        "finished"}`.
    status, retry_after
        For STATUS: the code, and a Retry-After header in seconds if not empty.
    status_code
        For STATUS_CODE.
    seconds
        For HANG and SLOW.
    """

    call: str
    kind: FaultKind = FaultKind.STATUS
    count: int | None = 1
    every: int = 1
    after: int = 0
    commit: bool = False
    where: Mapping[str, object] = field(default_factory=dict)
    status: int = 500
    retry_after: str = ""
    status_code: int = 30
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was done: when (epoch seconds), to which call."""

    time_s: float
    call: str
    fault: Fault


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seen: int = 0
    left: int | None = None


class Faults:
    """The faults that wait for their call, and those done; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._done: list[Struck] = []

    def add(self, fault: Fault) -> None:
        """Arm a fault; the one added first strikes first."""
        with self._lock:
            self._armed.append(_Armed(fault, left=fault.count))

    def clear(self, call: str = "") -> None:
        """Disarm the faults of one call, or all; a hang that has begun goes
        on.
        """
        with self._lock:
            self._armed = [armed for armed in self._armed if call and armed.fault.call != call]

    @property
    def done(self) -> list[Struck]:
        """What was done so far."""
        with self._lock:
            return list(self._done)

    def strike(self, call: str, args: Mapping[str, object], *, now: float) -> Fault | None:
        """The fault that hits this call, if one does; counted and recorded."""
        with self._lock:
            for armed in self._armed:
                if armed.left == 0 or not _matches(armed.fault, call, args):
                    continue
                armed.seen += 1
                turn = armed.seen - armed.fault.after
                if turn < 1 or turn % armed.fault.every:
                    continue
                if armed.left is not None:
                    armed.left -= 1
                self._done.append(Struck(now, call, armed.fault))
                return armed.fault
        return None


def _matches(fault: Fault, call: str, args: Mapping[str, object]) -> bool:
    return fault.call in ("*", call) and all(args.get(name) == value for name, value in fault.where.items())
