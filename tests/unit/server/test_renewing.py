"""Credentials are renewed in time, and never at the cost of what is said."""

import logging
import threading
from dataclasses import replace

import pytest

from pilot_core.base.budget import Budget
from pilot_core.errors import NotAuthorised, ServerUnreachable
from pilot_core.model.report import JobReport, JobState, Node, Reply
from pilot_core.server.auth import Credential
from pilot_core.server.contract import JobRequest
from pilot_core.server.renewing import AGAIN_S, RENEW_S, RenewingServer
from pilot_core.server.wire import Definition
from tests.fakes.clock import FakeClock
from tests.fakes.server import FakeServer

TOKEN, PROXY = Credential.TOKEN, Credential.PROXY
REPORT = JobReport(panda_id=7, attempt=1, state=JobState.RUNNING, site="Q", node=Node("host"))


class ForgetfulServer(FakeServer):
    """A server with credentials that have `left` seconds."""

    def __init__(self, **left: float) -> None:
        super().__init__()
        self.left = {Credential[name]: seconds for name, seconds in left.items()}
        self.renewed: list[Credential] = []
        self.error: Exception | None = None
        self.ours = True
        self.said = 0

    def lifetimes(self) -> dict[Credential, float]:
        if self.error is not None and not self.left:
            raise self.error
        return self.left

    def renew(self, credential: Credential, *, budget: Budget, stop: threading.Event) -> bool:
        self.renewed.append(credential)
        if self.error is not None:
            raise self.error
        return self.ours

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        self.said += 1
        return Reply()

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        self.said += 1
        return None


def say(server: RenewingServer, clock: FakeClock, state: JobState = JobState.RUNNING) -> None:
    server.update_job(replace(REPORT, state=state), budget=Budget(clock, 60.0, "t"), stop=threading.Event())


def test_renewed_when_it_is_time_and_not_more_often() -> None:
    clock = FakeClock()
    inner = ForgetfulServer(TOKEN=RENEW_S - 1, PROXY=RENEW_S + 1)
    server = RenewingServer(inner, clock=clock)
    for _ in range(5):
        say(server, clock)
    assert inner.renewed == [TOKEN]
    clock.now += AGAIN_S + 1
    inner.left = {TOKEN: 5.0, PROXY: 5.0}
    say(server, clock)
    assert inner.renewed == [TOKEN, TOKEN, PROXY]
    assert inner.said == 6


def test_one_that_never_lives_long_is_not_renewed_all_the_time() -> None:
    clock = FakeClock()
    inner = ForgetfulServer(TOKEN=3_600.0)
    server = RenewingServer(inner, clock=clock)
    for left in (3_600.0, 3_000.0, 1_801.0, 1_799.0):
        inner.left = {TOKEN: left}
        say(server, clock)
        clock.now += AGAIN_S + 1
    # At first it is not known that it lives no longer.
    assert inner.renewed == [TOKEN, TOKEN]


def test_a_source_that_is_away_for_hours_is_asked_at_each_heartbeat() -> None:
    clock = FakeClock()
    inner = ForgetfulServer(TOKEN=RENEW_S - 1)
    inner.error = ServerUnreachable("no")
    server = RenewingServer(inner, clock=clock)
    for _ in range(7):
        say(server, clock)
        clock.now += 1_800.0
    inner.error = None
    say(server, clock)
    assert (inner.renewed, inner.said) == ([TOKEN] * 8, 8)


def test_a_source_that_hangs_leaves_most_of_the_time_to_the_update() -> None:
    clock = FakeClock()
    left: list[float] = []

    class HangingSource(ForgetfulServer):
        def renew(self, credential: Credential, *, budget: Budget, stop: threading.Event) -> bool:
            clock.now += budget.left
            raise ServerUnreachable("timed out")

        def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
            left.append(budget.left)
            return Reply()

    say(RenewingServer(HangingSource(TOKEN=10.0), clock=clock), clock)
    say(RenewingServer(HangingSource(TOKEN=10.0, PROXY=10.0), clock=clock), clock)
    assert left == [pytest.approx(40.0), pytest.approx(60.0 * 4 / 9)]


def test_an_idle_pilot_renews_too() -> None:
    clock = FakeClock()
    inner = ForgetfulServer(PROXY=10.0)
    request = JobRequest("Q", "Q", "managed", "node", 1000, 1000)
    RenewingServer(inner, clock=clock).acquire_job(
        request, budget=Budget(clock, 60.0, "t"), stop=threading.Event()
    )
    assert (inner.renewed, inner.said) == ([PROXY], 1)


@pytest.mark.parametrize("left", [{"TOKEN": RENEW_S + 1}, {"PROXY": RENEW_S + 1}, {}])
def test_not_renewed_while_it_is_good_or_unknown(left: dict[str, float]) -> None:
    clock = FakeClock()
    inner = ForgetfulServer(**left)
    say(RenewingServer(inner, clock=clock), clock)
    assert inner.renewed == []


@pytest.mark.parametrize("error", [ServerUnreachable("no"), NotAuthorised("no")])
def test_a_failed_renewal_costs_no_update(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    inner = ForgetfulServer(TOKEN=10.0, PROXY=-10.0)
    inner.error = error
    say(RenewingServer(inner, clock=clock), clock)
    assert (inner.renewed, inner.said) == ([TOKEN, PROXY], 1)
    assert "the X.509 proxy ended 10 s ago, and was not renewed: no" in caplog.text


def test_a_credential_that_cannot_be_read_costs_no_update() -> None:
    clock = FakeClock()
    inner = ForgetfulServer()
    inner.error = NotAuthorised("token /nowhere: No such file or directory")
    say(RenewingServer(inner, clock=clock), clock)
    assert inner.said == 1


def test_an_end_that_is_not_ours_to_move_is_said(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    inner = ForgetfulServer(PROXY=3_600.0)
    inner.ours = False
    say(RenewingServer(inner, clock=clock), clock)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "the X.509 proxy is good for 1.0 h, and renewing it is not ours to do" in caplog.text


def test_a_final_report_never_waits_for_a_credential() -> None:
    clock = FakeClock()
    inner = ForgetfulServer(TOKEN=10.0)
    say(RenewingServer(inner, clock=clock), clock, JobState.FINISHED)
    assert (inner.renewed, inner.said) == ([], 1)


def test_a_look_says_how_long(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        RenewingServer(ForgetfulServer(TOKEN=36_000.0, PROXY=-5.0), clock=FakeClock()).look()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "the token is good for 10.0 h"),
        ("ERROR", "the X.509 proxy ended 5 s ago"),
    ]
