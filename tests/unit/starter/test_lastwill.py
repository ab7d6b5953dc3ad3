"""Why the pilot died, and what is said about it."""

import signal
import threading
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import PilotError, ServerRefused, ServerUnreachable
from pilot_core.ledger import HeldJob, Ledger
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import JobReport, JobState, Node
from pilot_starter.child import ChildEnd
from pilot_starter.lastwill import Cause, Heirs, cause_of_death, execute, oom_kills

KILL = int(signal.SIGKILL)


@pytest.mark.parametrize(
    ("end", "before", "after", "code"),
    [
        (ChildEnd(None, KILL), 0, 1, ErrorCode.PAYLOADOUTOFMEMORY),
        (ChildEnd(137, None), 3, 4, ErrorCode.PAYLOADOUTOFMEMORY),
        (ChildEnd(None, KILL), 1, 1, ErrorCode.KILLSIGNAL),
        (ChildEnd(None, KILL), None, None, ErrorCode.KILLSIGNAL),
        (ChildEnd(None, KILL, signal.SIGTERM, True), 0, 1, ErrorCode.SIGTERM),
        (ChildEnd(143, None, signal.SIGTERM), 0, 0, ErrorCode.SIGTERM),
        (ChildEnd(None, int(signal.SIGSEGV)), 0, 0, ErrorCode.SIGSEGV),
        (ChildEnd(69, None), 0, 0, ErrorCode.NOLOCALSPACE),
        (ChildEnd(1, None), 0, 0, ErrorCode.INTERNALPILOTPROBLEM),
        (ChildEnd(0, None), 0, 0, ErrorCode.INTERNALPILOTPROBLEM),
        (ChildEnd(42, None), 0, 0, ErrorCode.INTERNALPILOTPROBLEM),
    ],
)
def test_cause(end: ChildEnd, before: int | None, after: int | None, code: ErrorCode) -> None:
    assert cause_of_death(end, oom_before=before, oom_after=after).code is code


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ChildEnd(0, None), 0),
        (ChildEnd(82, None), 82),
        (ChildEnd(None, KILL), 137),
        (ChildEnd(None, int(signal.SIGTERM), signal.SIGTERM), 143),
        (ChildEnd(None, KILL, signal.SIGTERM, True), 143),
        (ChildEnd(0, None, signal.SIGTERM), 0),
    ],
)
def test_status(end: ChildEnd, status: int) -> None:
    assert end.status == status


@pytest.mark.parametrize(
    ("membership", "file", "text", "count"),
    [
        ("0::/\n", "memory.events", "low 0\noom 2\noom_kill 2\n", 2),
        ("0::/pod/x\n", "pod/x/memory.events", "oom_kill 1\n", 1),
        ("4:cpu:/\n3:memory:/docker/abc\n", "memory/memory.oom_control", "under_oom 0\noom_kill 5\n", 5),
        ("3:memory:/a\n", "memory/a/memory.oom_control", "oom_kill 7\n", 7),
        ("0::/\n", "memory.events", "nothing here\n", None),
        ("5:pids:/\n", "x", "", None),
    ],
)
def test_oom_kills(tmp_path: Path, membership: str, file: str, text: str, count: int | None) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    (tmp_path / "cg" / file).parent.mkdir(parents=True)
    (tmp_path / "cg" / file).write_text(text)
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == count


@pytest.mark.parametrize(
    ("failure", "kept", "words"),
    [
        (None, False, "reported by the starter"),
        (ServerRefused("no"), False, "refused"),
        (ServerUnreachable("down"), True, "not delivered"),
    ],
)
def test_ledger_is_cleared_only_once_nothing_is_owed(
    tmp_path: Path, failure: PilotError | None, kept: bool, words: str
) -> None:
    ledger = Ledger(tmp_path)
    report = JobReport(panda_id=5, attempt=1, state=JobState.RUNNING, site="S", node=Node(name="n"))
    ledger.take(report, work=tmp_path, shared=tmp_path, labels={"a": "b"})
    sent: list[JobReport] = []
    tidied: list[HeldJob] = []

    def send(report: JobReport, _budget: Budget, _stop: threading.Event) -> None:
        sent.append(report)
        if failure is not None:
            raise failure

    phrase = execute(
        Ledger(tmp_path),
        Heirs(send=send, tidy=tidied.append),
        cause=Cause(ErrorCode.KILLSIGNAL, "it died"),
        now_s=1000.0,
        budget=Budget(SystemClock(), 5.0, "test"),
        stop=threading.Event(),
    )
    assert (sent[0].state, sent[0].code, sent[0].diag, sent[0].end_s) == (
        *(JobState.FAILED, ErrorCode.KILLSIGNAL, "it died", 1000.0),
    )
    assert words in phrase
    assert len(tidied) == 1
    assert ledger.path.exists() == kept


def test_nothing_owed_nothing_sent(tmp_path: Path) -> None:
    def fail(*_args: object) -> None:
        raise AssertionError("nothing was owed")

    assert (
        execute(
            Ledger(tmp_path),
            Heirs(send=fail, tidy=fail),
            cause=Cause(ErrorCode.KILLSIGNAL, ""),
            now_s=0.0,
            budget=Budget(SystemClock(), 1.0, "test"),
            stop=threading.Event(),
        )
        == ""
    )
