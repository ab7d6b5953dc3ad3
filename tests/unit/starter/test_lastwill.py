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
from pilot_starter.remains import Stored

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
        # Real-time signals, most of which have no name in `signal`.
        (ChildEnd(None, 40), 0, 0, ErrorCode.KILLSIGNAL),
        (ChildEnd(None, 32), 0, 0, ErrorCode.KILLSIGNAL),
        (ChildEnd(69, None), 0, 0, ErrorCode.NOLOCALSPACE),
        (ChildEnd(1, None), 0, 0, ErrorCode.INTERNALPILOTPROBLEM),
        (ChildEnd(0, None), 0, 0, ErrorCode.INTERNALPILOTPROBLEM),
        (ChildEnd(42, None), 0, 0, ErrorCode.INTERNALPILOTPROBLEM),
    ],
)
def test_cause(end: ChildEnd, before: int | None, after: int | None, code: ErrorCode) -> None:
    assert cause_of_death(end, oom_before=before, oom_after=after).code is code


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ChildEnd(None, KILL, signal.SIGTERM, True), ErrorCode.PREEMPTION),
        (ChildEnd(143, None, signal.SIGTERM), ErrorCode.PREEMPTION),
        # Another reason comes before what happens to the node as well.
        (ChildEnd(None, KILL), ErrorCode.KILLSIGNAL),
        (ChildEnd(None, KILL, signal.SIGINT, True), ErrorCode.SIGINT),
    ],
)
def test_cause_on_a_node_that_goes_away(end: ChildEnd, code: ErrorCode) -> None:
    assert cause_of_death(end, oom_before=0, oom_after=0, preempted=True).code is code


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (ChildEnd(3, None), "exited with 3"),
        (ChildEnd(None, KILL), "was killed by SIGKILL"),
        (ChildEnd(None, KILL, signal.SIGTERM, True), "was killed by SIGKILL (it did not end in time)"),
        (ChildEnd(None, 40), "was killed by SIGRTMIN+6"),
        (ChildEnd(None, 32), "was killed by signal 32"),
    ],
)
def test_how_it_ended_in_words(end: ChildEnd, words: str) -> None:
    assert end.words == words
    assert words in cause_of_death(end, oom_before=None, oom_after=None).diag


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


class Estate:
    """Writes down what is asked of it, in order."""

    def __init__(self, *, failure: PilotError | None = None, stored: tuple[Stored, ...] = ()) -> None:
        self.steps: list[str] = []
        self.reports: list[JobReport] = []
        self._failure = failure
        self._stored = list(stored)
        self.heirs = Heirs(send=self.send, tidy=self.tidy, store=self.store, drop=self.drop)

    def send(self, report: JobReport, _budget: Budget, _stop: threading.Event) -> None:
        self.steps.append("send")
        self.reports.append(report)
        if self._failure is not None:
            raise self._failure

    def tidy(self, _held: HeldJob, _budget: Budget) -> None:
        self.steps.append("tidy")

    def store(self, _held: HeldJob, _budget: Budget, only: tuple[Path, ...]) -> Stored:
        self.steps.append(f"store {len(only)}" if only else "store")
        return self._stored.pop(0) if self._stored else Stored()

    def drop(self, _held: HeldJob) -> None:
        self.steps.append("drop")


def held_in(folder: Path, *, pilot_id: str = "") -> Ledger:
    ledger = Ledger(folder)
    report = JobReport(
        panda_id=5, attempt=1, state=JobState.RUNNING, site="S", node=Node(name="n"), pilot_id=pilot_id
    )
    ledger.take(report, work=folder / "work", shared=folder / "shared", labels={"a": "b"})
    return ledger


def settle(folder: Path, estate: Estate, *, hurried: bool = False) -> str:
    return execute(
        Ledger(folder),
        estate.heirs,
        cause=Cause(ErrorCode.KILLSIGNAL, "it died"),
        now_s=1000.0,
        budget=Budget(SystemClock(), 5.0, "test"),
        stop=threading.Event(),
        hurried=hurried,
    )


@pytest.mark.parametrize(
    ("failure", "kept", "words"),
    [
        (None, False, "reported by the starter"),
        (ServerRefused("no"), False, "refused"),
        (ServerRefused("what is that?", unclear=True), True, "refused"),
        (ServerUnreachable("down"), True, "not delivered"),
    ],
)
def test_ledger_is_cleared_only_once_nothing_is_owed(
    tmp_path: Path, failure: PilotError | None, kept: bool, words: str
) -> None:
    ledger = held_in(tmp_path)
    estate = Estate(failure=failure)
    told = settle(tmp_path, estate)
    (report,) = estate.reports
    assert (report.state, report.code, report.diag, report.end_s) == (
        *(JobState.FAILED, ErrorCode.KILLSIGNAL, "it died", 1000.0),
    )
    assert words in told
    assert ledger.path.exists() == kept


def test_without_hurry_the_report_waits_for_the_logs_address(tmp_path: Path) -> None:
    held_in(tmp_path, pilot_id="http://worker/log|Kubernetes|PR|4.0")
    estate = Estate(stored=(Stored(url="gs://b/pilotlog.txt"),))
    settle(tmp_path, estate)
    assert estate.steps == ["tidy", "store", "send", "drop"]
    assert estate.reports[0].pilot_id == "gs://b/pilotlog.txt|Kubernetes|PR|4.0"


def test_in_a_hurry_the_report_goes_first(tmp_path: Path) -> None:
    held_in(tmp_path, pilot_id="http://worker/log|PR|4.0")
    estate = Estate()
    settle(tmp_path, estate, hurried=True)
    assert estate.steps == ["send", "tidy", "store", "drop"]
    assert estate.reports[0].pilot_id == "http://worker/log|PR|4.0"


@pytest.mark.parametrize(
    ("second", "last"), [(Stored(), "drop"), (Stored(left=(Path("payload.stdout"),)), "store 1")]
)
def test_logs_that_take_long_are_stored_after_the_report_or_kept(
    tmp_path: Path, second: Stored, last: str
) -> None:
    held_in(tmp_path)
    estate = Estate(stored=(Stored(left=(Path("payload.stdout"),)), second))
    settle(tmp_path, estate)
    assert estate.steps[:4] == ["tidy", "store", "send", "store 1"]
    assert estate.steps[-1] == last


def test_logs_without_a_place_are_kept(tmp_path: Path) -> None:
    held_in(tmp_path)
    estate = Estate(stored=(Stored(left=(Path("pilotlog.txt"),), unknown=True),))
    settle(tmp_path, estate)
    assert estate.steps == ["tidy", "store", "send"]


def test_nothing_owed_nothing_done(tmp_path: Path) -> None:
    estate = Estate()
    assert settle(tmp_path, estate) == ""
    assert not estate.steps
