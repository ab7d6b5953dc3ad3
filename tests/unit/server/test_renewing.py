"""Tokens are renewed in time, and never at the cost of what is said."""

import threading

from pilot_core.base.budget import Budget
from pilot_core.errors import ServerUnreachable
from pilot_core.model.report import JobReport, JobState, Node, Reply
from pilot_core.server.renewing import RENEW_S, RenewingServer
from tests.fakes.clock import FakeClock
from tests.fakes.server import FakeServer

REPORT = JobReport(panda_id=7, attempt=1, state=JobState.RUNNING, site="Q", node=Node("host"))


class TokenServer(FakeServer):
    """A server with a token that has `left` seconds."""

    def __init__(self, left: float | None) -> None:
        super().__init__()
        self.left = left
        self.renewals = 0
        self.broken = False
        self.key = True
        self.updates = 0

    def credential_left_s(self) -> float | None:
        return self.left

    def refresh_token(self, *, budget: Budget, stop: threading.Event) -> bool:
        self.renewals += 1
        if self.broken:
            raise ServerUnreachable("no")
        return self.key

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        self.updates += 1
        return Reply()


def say(server: RenewingServer, clock: FakeClock, state: JobState = JobState.RUNNING) -> None:
    from dataclasses import replace

    server.update_job(replace(REPORT, state=state), budget=Budget(clock, 60.0, "t"), stop=threading.Event())


def test_renewed_when_it_is_time_and_not_more_often() -> None:
    clock = FakeClock()
    inner = TokenServer(RENEW_S - 1)
    server = RenewingServer(inner, clock=clock)
    for _ in range(5):
        say(server, clock)
    assert inner.renewals == 1
    clock.now += 700
    say(server, clock)
    assert inner.renewals == 2
    assert inner.updates == 6


def test_not_renewed_while_it_is_good_or_unknown() -> None:
    for left in (RENEW_S + 1, None):
        clock = FakeClock()
        inner = TokenServer(left)
        say(RenewingServer(inner, clock=clock), clock)
        assert inner.renewals == 0


def test_a_failed_renewal_costs_no_update() -> None:
    clock = FakeClock()
    inner = TokenServer(10.0)
    inner.broken = True
    say(RenewingServer(inner, clock=clock), clock)
    assert (inner.renewals, inner.updates) == (1, 1)


def test_a_final_report_never_waits_for_a_token() -> None:
    clock = FakeClock()
    inner = TokenServer(10.0)
    say(RenewingServer(inner, clock=clock), clock, JobState.FINISHED)
    assert (inner.renewals, inner.updates) == (0, 1)
