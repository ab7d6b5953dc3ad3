"""The pilot ended and still owes the server a job's end: say it in its place."""

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.errors import PilotError, ServerRefused
from pilot_core.ledger import HeldJob, Ledger, last_report
from pilot_core.model.codes import EXIT_CODES, ErrorCode
from pilot_core.model.report import JobReport, with_log_url
from pilot_starter.child import ChildEnd
from pilot_starter.remains import Stored

__all__ = [
    "LAST_WILL_S",
    "Cause",
    "Heirs",
    "cause_of_death",
    "execute",
    "oom_kills",
]

log = logging.getLogger(__name__)

_BY_SIGNAL: dict[int, ErrorCode] = {
    signal.SIGTERM: ErrorCode.SIGTERM,
    signal.SIGQUIT: ErrorCode.SIGQUIT,
    signal.SIGSEGV: ErrorCode.SIGSEGV,
    signal.SIGXCPU: ErrorCode.SIGXCPU,
    signal.SIGBUS: ErrorCode.SIGBUS,
    signal.SIGUSR1: ErrorCode.SIGUSR1,
    signal.SIGINT: ErrorCode.SIGINT,
}
# The other way round than the pilot's table; where several codes share a
# number, the first is the general one.
_BY_STATUS: dict[int, ErrorCode] = {}
for _code, _status in EXIT_CODES.items():
    _BY_STATUS.setdefault(_status, _code)


# Before the report, together less than the 5 s in which the server should
# know.
_TIDY_S = 2.0
_QUICK_S = 1.5
# The server may be down when the pilot dies; a pod that waits for it costs
# little, a job without an end costs two hours.
_SEND_S = 300.0
# The rest of the logs, once the report is out.
_STORE_S = 120.0
#: All of it, where nobody is in a hurry.
LAST_WILL_S = _TIDY_S + _QUICK_S + _SEND_S + _STORE_S


@dataclass(frozen=True, slots=True)
class Cause:
    """What the job's final report will say."""

    code: ErrorCode
    diag: str


@dataclass(frozen=True, slots=True)
class Heirs:
    """What the last will needs done, as functions; only `send` raises.

    Attributes
    ----------
    send
        Deliver a report, or raise a `PilotError`.
    tidy
        Stop and remove what the job left running.
    store
        Store the job's logs, or only those named.
    drop
        Delete the job's folders.
    """

    send: Callable[[JobReport, Budget, threading.Event], None]
    tidy: Callable[[HeldJob, Budget], None]
    store: Callable[[HeldJob, Budget, tuple[Path, ...]], Stored]
    drop: Callable[[HeldJob], None]


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes of our cgroup the kernel has killed for want of
    memory.

    None if it does not say.

    cgroup v2 counts in `memory.events`, v1 in `memory.oom_control`, both as
    `oom_kill N`. Inside a container our group is the root of what we see.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            places = [cgroups / group.lstrip("/") / "memory.events", cgroups / "memory.events"]
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
            places = [root / group.lstrip("/") / "memory.oom_control", root / "memory.oom_control"]
        else:
            continue
        for place in places:
            try:
                counts = dict(row.split(maxsplit=1) for row in place.read_text().splitlines())
                return int(counts["oom_kill"])
            except (OSError, ValueError, KeyError):
                continue
    return None


def cause_of_death(
    end: ChildEnd, *, oom_before: int | None, oom_after: int | None, preempted: bool = False
) -> Cause:
    """Why a job that the pilot held has failed.

    Parameters
    ----------
    oom_before, oom_after
        `oom_kills` before the pilot was started and now.
    preempted
        The node is going away, as the metadata server says.
    """
    sigkill = end.signum == signal.SIGKILL or end.exit_code == 128 + signal.SIGKILL
    if sigkill and not end.killed and oom_after is not None and oom_after > (oom_before or 0):
        return Cause(ErrorCode.PAYLOADOUTOFMEMORY, "the pilot was killed by the kernel: out of memory")
    if end.asked is signal.SIGTERM and preempted:
        words = "the node is being preempted (metadata server)"
        return Cause(ErrorCode.PREEMPTION, f"{words}; the pilot {end.words}")
    if end.asked is not None:
        code = _BY_SIGNAL.get(end.asked, ErrorCode.KILLSIGNAL)
        return Cause(code, f"the worker was ended by {end.asked.name}; the pilot {end.words}")
    if end.signum is not None:
        code = _BY_SIGNAL.get(end.signum, ErrorCode.KILLSIGNAL)
        return Cause(code, f"the pilot {end.words}")
    code = _BY_STATUS.get(end.status, ErrorCode.INTERNALPILOTPROBLEM)
    if end.status in (0, 1):
        code = ErrorCode.INTERNALPILOTPROBLEM
    return Cause(code, f"the pilot {end.words} and left this job without a final report")


def execute(
    ledger: Ledger,
    heirs: Heirs,
    *,
    cause: Cause,
    now_s: float,
    budget: Budget,
    stop: threading.Event,
    hurried: bool,
) -> str:
    """Send the final report that is still owed, remove what runs, store the
    logs.

    Returns the job and what became of its report as a phrase, "" if there is
    none.

    In a hurry the report goes first: the node may be gone in seconds. Else
    what runs is removed before, and the logs get a moment, so that the report
    can say where they are.

    The ledger is cleared once the server has taken the report, or has said
    that it never will. Otherwise it stays for the next pilot in this folder.

    Raises
    ------
    OSError
        The ledger cannot be read this time.
    """
    held = ledger.held()
    if held is None:
        return ""
    report = last_report(held, code=cause.code, diag=cause.diag, end_s=now_s)
    log.warning("the pilot left job %d in stage %s: its last will follows", report.panda_id, held.stage)
    if hurried:
        # A server that is down must not take the time of what follows.
        words, settled = _send(report, heirs, budget.part(budget.left * 2 / 3, "final report"), stop)
        heirs.tidy(held, budget.part(budget.left / 2, "removal of what the job left"))
        stored = heirs.store(held, budget, ())
    else:
        heirs.tidy(held, budget.part(_TIDY_S, "removal of what the job left"))
        stored = heirs.store(held, budget.part(_QUICK_S, "logs before the report"), ())
        if stored.url:
            report = replace(report, pilot_id=with_log_url(report.pilot_id, stored.url))
        words, settled = _send(report, heirs, budget.part(_SEND_S, "final report"), stop)
        if stored.left and not stored.unknown:
            stored = heirs.store(held, budget.part(_STORE_S, "logs after the report"), stored.left)
    if settled:
        ledger.clear()
    if stored.complete:
        heirs.drop(held)
    else:
        log.warning("%s is kept: not all of its logs could be stored", held.work)
    return words


def _send(report: JobReport, heirs: Heirs, budget: Budget, stop: threading.Event) -> tuple[str, bool]:
    """What became of the report in words; True if nothing more is owed."""
    what = f"job {report.panda_id} {report.state} ({int(report.code)})"
    try:
        heirs.send(report, budget, stop)
    except ServerRefused as err:
        log.error("the server refuses the final report of %s: %s", what, err)
        # Words we do not know may mean that the server is in trouble itself.
        return f"{what}: refused by the server", not err.unclear
    except (PilotError, BudgetSpent) as err:
        log.error("the final report of %s was not delivered: %s", what, err)
        return f"{what}: not delivered", False
    log.info("the final report of %s was delivered", what)
    return f"{what}: reported by the starter", True
