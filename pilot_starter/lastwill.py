"""The pilot ended and still owes the server a job's end: say it in its place."""

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.errors import PilotError, ServerRefused
from pilot_core.ledger import HeldJob, Ledger, last_report
from pilot_core.model.codes import EXIT_CODES, ErrorCode
from pilot_core.model.report import JobReport
from pilot_starter.child import ChildEnd

__all__ = ["Cause", "Heirs", "cause_of_death", "execute", "oom_kills"]

log = logging.getLogger(__name__)

_BY_SIGNAL = {
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


@dataclass(frozen=True, slots=True)
class Cause:
    """What the job's final report will say."""

    code: ErrorCode
    diag: str


@dataclass(frozen=True, slots=True)
class Heirs:
    """What the last will needs done, as functions.

    Attributes
    ----------
    send
        Deliver a report, or raise a `PilotError`.
    tidy
        Stop and remove what the job left running; never raises.
    """

    send: Callable[[JobReport, Budget, threading.Event], None]
    tidy: Callable[[HeldJob], None]


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes of our cgroup the kernel has killed for want of memory.

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


def cause_of_death(end: ChildEnd, *, oom_before: int | None, oom_after: int | None) -> Cause:
    """Why a job that the pilot held has failed."""
    sigkill = end.signum == signal.SIGKILL or end.exit_code == 128 + signal.SIGKILL
    if sigkill and not end.killed and oom_after is not None and oom_after > (oom_before or 0):
        return Cause(ErrorCode.PAYLOADOUTOFMEMORY, "the pilot was killed by the kernel: out of memory")
    if end.asked is not None:
        code = _BY_SIGNAL.get(end.asked, ErrorCode.KILLSIGNAL)
        return Cause(code, f"the worker was ended by {end.asked.name}; the pilot {end.words}")
    if end.signum is not None:
        code = _BY_SIGNAL.get(signal.Signals(end.signum), ErrorCode.KILLSIGNAL)
        return Cause(code, f"the pilot {end.words}")
    code = _BY_STATUS.get(end.status, ErrorCode.INTERNALPILOTPROBLEM)
    if end.status in (0, 1):
        code = ErrorCode.INTERNALPILOTPROBLEM
    return Cause(code, f"the pilot {end.words} and left this job without a final report")


def execute(
    ledger: Ledger, heirs: Heirs, *, cause: Cause, now_s: float, budget: Budget, stop: threading.Event
) -> str:
    """Send the final report that is still owed; returns the job as a phrase, or "".

    The ledger is cleared once the server has taken the report, or has said
    that it never will. Otherwise it stays for the next pilot in this folder.
    """
    held = ledger.held()
    if held is None:
        return ""
    report = last_report(held, code=cause.code, diag=cause.diag, end_s=now_s)
    what = f"job {report.panda_id} {report.state} ({int(report.code)})"
    log.warning(
        "the pilot left job %d in stage %s: its final report is sent now", report.panda_id, held.stage
    )
    try:
        heirs.send(report, budget, stop)
    except ServerRefused as err:
        log.error("the server refuses the final report of %s: %s", what, err)
        ledger.clear()
        phrase = f"{what}: refused by the server"
    except (PilotError, BudgetSpent) as err:
        log.error("the final report of %s was not delivered: %s", what, err)
        phrase = f"{what}: not delivered"
    else:
        log.info("the final report of %s was delivered", what)
        ledger.clear()
        phrase = f"{what}: reported by the starter"
    heirs.tidy(held)
    return phrase
