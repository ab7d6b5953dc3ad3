"""The worker's end when there is too little time for all of it."""

import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.procs import start_ticks
from pilot_core.errors import ServerUnreachable
from pilot_core.ledger import Ledger
from pilot_core.model.report import JobReport, JobState, Node
from pilot_starter.child import ChildEnd
from pilot_starter.closing import Closing
from pilot_starter.config import StarterConfig
from pilot_starter.lastwill import Heirs
from pilot_starter.remains import Stored
from tests.fakes.virtual_clock import ClockInbox, VirtualClock

#: From what matters most to what is given up first.
ORDER = ["final report", "containers", "logs of the job", "worker's records", "worker's log"]
COST_S = 0.5


class Slow:
    """All that the end needs of others; each step takes half a second."""

    def __init__(self, clock: VirtualClock) -> None:
        self.done: list[str] = []
        self._clock = clock
        self.heirs = Heirs(send=self.send, tidy=self.tidy, store=self.store, drop=lambda _: None)

    def _take(self, name: str, budget: Budget) -> bool:
        enough = budget.left >= COST_S
        self._clock.wait(threading.Event(), min(COST_S, budget.left))
        self.done += [name] if enough else []
        return enough

    def send(self, _report: JobReport, budget: Budget, _stop: threading.Event) -> None:
        if not self._take("final report", budget):
            raise ServerUnreachable("too slow")

    def tidy(self, _held: object, budget: Budget) -> None:
        self._take("containers", budget)

    def store(self, _held: object, budget: Budget, _only: object) -> Stored:
        return Stored(left=() if self._take("logs of the job", budget) else (Path("pilotlog.txt"),))

    def finish(self, budget: Budget) -> None:
        self._take("worker's records", budget)

    def settle(self, _seconds: float) -> None:
        """The worker's log is written."""

    def upload(self, _path: Path, budget: Budget, _stop: threading.Event) -> None:
        if not self._take("worker's log", budget):
            raise ServerUnreachable("too slow")


class Mends(logging.Handler):
    """A folder that cannot be entered (ELOOP) until somebody complains."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.complaints = 0
        self._home = home
        self._real = home.rename(home.with_name("real"))
        home.symlink_to(home)

    def emit(self, record: logging.LogRecord) -> None:
        if "cannot be read: Too many levels" in record.getMessage():
            self.complaints += 1
            self._home.unlink()
            self._real.rename(self._home)


def ended(
    folder: Path, hurry_s: float, *, away: bool = False, owner: Mapping[str, object] | None = None
) -> list[str]:
    """What was done within so many seconds, of a pilot that held a job."""
    clock = VirtualClock()
    slow: Any = Slow(clock)
    inbox: ClockInbox[signal.Signals] = ClockInbox(clock)
    home = folder / f"{hurry_s}"
    home.mkdir()
    report = JobReport(panda_id=5, attempt=1, state=JobState.RUNNING, site="S", node=Node(name="n"))
    ledger = Ledger(home)
    ledger.take(report, work=home / "work", shared=home / "shared", labels={})
    # The process of that number is another one by now.
    document = json.loads(ledger.path.read_text())
    document["held"].update({"pid_ticks": 1, **(owner or {})})
    ledger.path.write_text(json.dumps(document))
    log = home / "wrapper-wid.log"
    log.write_text("a line\n")
    slow.file = log
    closing = Closing(
        StarterConfig(queue="Q", site="Q", tmp_dir=home, worker_log=log, log_name="log.gz"),
        home=home,
        services=slow,
        out=slow,
        shipping=slow,
        preempted=lambda: False,
        clock=clock,
        inbox=inbox,
    )
    end = ChildEnd(exit_code=None, signum=signal.SIGKILL, asked=signal.SIGTERM, killed=True)
    began = clock.monotonic()
    mends = Mends(home) if away else logging.NullHandler()
    logging.getLogger("pilot_starter").addHandler(mends)
    try:
        closing.close(end, words="the end", hurry_s=hurry_s)
    finally:
        logging.getLogger("pilot_starter").removeHandler(mends)
    assert not isinstance(mends, Mends) or mends.complaints == 1
    assert clock.monotonic() - began <= hurry_s + 0.5
    assert Ledger(home).path.exists() == ("final report" not in slow.done)
    done: list[str] = slow.done
    return done


def test_what_does_not_fit_is_left_out_from_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fits = []
    for hurry_s in (0.2, 1.0, 1.4, 2.2, 2.6, 9.0):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            done = ended(tmp_path, hurry_s)
        assert done == ORDER[: len(done)]
        fits.append(len(done))
        # And named.
        for step, words in (
            ("final report", "final report of job 5 failed (1201) was not delivered"),
            ("logs of the job", "is kept: not all of its logs could be stored"),
            ("worker's log", "upload: too slow"),
        ):
            assert (words in caplog.text) == (step not in done)
    assert fits == [0, 0, 1, 3, 5, 5]


@pytest.mark.parametrize(
    "owner",
    [
        {"pid_ticks": start_ticks(os.getpid())},
        {"host": "elsewhere"},
        {"host": "elsewhere", "boot": "another"},
    ],
    ids=["running here", "another host", "another boot of another host"],
)
def test_a_job_of_somebody_who_may_be_running_is_left_alone(
    tmp_path: Path, owner: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    assert ended(tmp_path, 9.0, owner=owner) == ["worker's records", "worker's log"]
    assert "job 5 is left alone: pilot" in caplog.text


def test_a_job_state_file_that_could_not_be_read_is_asked_again(tmp_path: Path) -> None:
    assert ended(tmp_path, 9.0, away=True) == ORDER
