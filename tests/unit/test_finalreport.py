"""The report that ends a job, and a server that does not want it."""

import threading
from dataclasses import replace

import pytest

from pilot_core.base.budget import Budget
from pilot_core.errors import ServerRefused
from pilot_core.finalreport import deliver
from pilot_core.model.report import JobReport, JobState, Node, Reply
from pilot_core.model.sample import Usage
from tests.fakes.clock import FakeClock
from tests.fakes.server import FakeServer


def whole() -> Budget:
    return Budget(FakeClock(), 60.0, "test")


REPORT = JobReport(
    1, 1, JobState.FINISHED, "Q", Node("n"), diag="d", log_tail="tail", metadata="{}", usage=Usage(cpu_s=3.0)
)


class Choosy(FakeServer):
    """Refuses reports that hold more than what ends a job."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[JobReport] = []

    def update_job(self, report: JobReport, **_: object) -> Reply:  # type: ignore[override]
        self.seen.append(report)
        if report.metadata or report.usage.cpu_s:
            raise ServerRefused("too much")
        return Reply()


class Troubled(FakeServer):
    """Says no in words of its own for a while."""

    def __init__(self, *, unclear: bool) -> None:
        super().__init__()
        self.unclear, self.left = unclear, 6

    def update_job(self, report: JobReport, **_: object) -> Reply:  # type: ignore[override]
        self.left -= 1
        if self.left:
            raise ServerRefused("ORA-03113", unclear=self.unclear)
        return Reply()


def test_a_refusal_that_is_not_clear_is_not_the_last_word() -> None:
    deliver(Troubled(unclear=True), REPORT, budget=whole(), stop=threading.Event())
    clear = Troubled(unclear=False)
    with pytest.raises(ServerRefused):
        deliver(clear, REPORT, budget=whole(), stop=threading.Event())
    assert clear.left == 4, "in full, and bare"


def test_a_refused_report_is_sent_bare() -> None:
    server = Choosy()
    deliver(server, REPORT, budget=whole(), stop=threading.Event())
    assert server.seen == [REPORT, replace(REPORT, log_tail="", metadata="", usage=Usage())]
