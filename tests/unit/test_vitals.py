"""What the pilot counts about itself."""

import threading

import pytest

from pilot_core.base.budget import Budget
from pilot_core.errors import ServerUnreachable
from pilot_core.logship.contract import ShipCounts
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import JobReport, JobState, Node, Reply
from pilot_core.server.contract import JobRequest
from pilot_core.vitals import CountedServer, Vitals
from tests.fakes.clock import FakeClock


class Answers:
    """A server that answers, or does not."""

    def __init__(self) -> None:
        self.down = False

    def acquire_job(self, _request: JobRequest, *, budget: Budget, stop: threading.Event) -> None:
        if self.down:
            raise ServerUnreachable("down")

    def update_job(self, _report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        self.acquire_job(REQUEST, budget=budget, stop=stop)
        return Reply()


REQUEST = JobRequest(site="S", computing_element="S", label="managed", node="n", disk_mb=1, memory_mb=1)


def report(state: JobState, code: ErrorCode = ErrorCode.NONE) -> JobReport:
    return JobReport(panda_id=1, attempt=1, state=state, site="S", node=Node(name="n"), code=code)


def test_jobs_are_counted_once_the_server_has_their_end() -> None:
    clock, inner = FakeClock(), Answers()
    vitals = Vitals()
    server = CountedServer(inner, vitals, clock=clock)  # type: ignore[arg-type]
    budget, stop = Budget(clock, 10.0, "test"), threading.Event()
    server.acquire_job(REQUEST, budget=budget, stop=stop)
    server.update_job(report(JobState.RUNNING), budget=budget, stop=stop)
    server.update_job(report(JobState.FINISHED), budget=budget, stop=stop)
    answered = clock.time()
    inner.down = True
    clock.now += 5
    with pytest.raises(ServerUnreachable):
        server.update_job(report(JobState.FAILED, ErrorCode.SIGTERM), budget=budget, stop=stop)
    inner.down = False
    assert vitals.document() == {
        "requests/acquire_job/ok": 1,
        "requests/update_job/ok": 2,
        "requests/update_job/failed": 1,
        "jobs/finished/0": 1,
        "server/answered": answered,
    }
    server.update_job(report(JobState.FAILED, ErrorCode.SIGTERM), budget=budget, stop=stop)
    assert vitals.document()["jobs/failed/1201"] == 1
    assert vitals.document()["server/answered"] == answered + 5


def test_the_log_of_one_job_after_the_other() -> None:
    vitals = Vitals()
    first, second = ShipCounts(sent=5, left_bytes=70, behind_s=8), ShipCounts(sent=2, rejected=1)
    vitals.watch_log(lambda: first)
    assert vitals.document()["log/payload/waiting_bytes"] == 70
    assert vitals.document()["log/payload/behind_s"] == 8
    assert vitals.document()["log/payload/lost_bytes"] == 0
    vitals.watch_log(lambda: second)
    told = vitals.document()
    assert told["log/payload/sent"] == 7
    assert told["log/payload/rejected"] == 1
    assert told["log/payload/waiting_bytes"] == 0
    assert told["log/payload/behind_s"] == 0
    # What the first job's shipper left is not waiting any more.
    assert told["log/payload/lost_bytes"] == 70


def test_uploads_are_added_up() -> None:
    vitals = Vitals()
    vitals.uploaded(3, 0)
    vitals.uploaded(1, 2)
    assert vitals.document() == {"uploads/stored": 4, "uploads/failed": 2}
