"""When updates go out: on time, soon after a stray failure, and after an
outage not all at once.
"""

import threading
from collections import Counter

import pytest

from pilot_core.config import HeartbeatConfig
from pilot_core.errors import ServerBusy, ServerError, ServerUnreachable
from pilot_core.heartbeat import EARLIEST, Heartbeat
from pilot_core.model.report import JobReport, JobState, Node, Reply
from tests.fakes.clock import FakeClock
from tests.fakes.server import FakeServer

PERIOD_S = 1_800.0
AWAY = ServerUnreachable("away")


class Down(FakeServer):
    """Fails so often from the `first` call on; stops the heartbeat at the
    first call after that.
    """

    def __init__(self, clock: FakeClock, away: int, *, first: int, err: ServerError, took_s: float) -> None:
        super().__init__()
        self.stop = threading.Event()
        self._clock, self._away, self._first = clock, away, first
        self._err, self._took_s = err, took_s
        self.sent: Counter[JobState] = Counter()

    def update_job(self, report: JobReport, **_: object) -> Reply:
        self.sent[report.state] += 1
        call = self.sent.total()
        if self._first <= call < self._first + self._away:
            self._clock.now += self._took_s
            raise self._err
        if call >= self._first + self._away:
            self.stop.set()
        return Reply()


def pauses(
    away: int, *, first: int = 2, err: ServerError = AWAY, took_s: float = 0.0, debug: bool = False
) -> list[float]:
    """Waits of a heartbeat whose calls fail so often from the `first` on."""
    clock = FakeClock()
    server = Down(clock, away, first=first, err=err, took_s=took_s)
    heartbeat = Heartbeat(
        server,
        report=lambda state: JobReport(1, 1, state, "Q", Node("n")),
        heard=lambda _: None,
        lost=lambda _: None,
        config=HeartbeatConfig(period_s=PERIOD_S, lost_s=1e9),
        clock=clock,
    )
    heartbeat.debug(debug)
    heartbeat.say(JobState.RUNNING)
    heartbeat.run(server.stop)
    return clock.waits


def regular(pause: float) -> bool:
    return EARLIEST * PERIOD_S <= pause <= PERIOD_S


def test_a_stray_failure_costs_seconds() -> None:
    due, again = pauses(1)
    assert regular(due)
    assert 5.0 <= again <= 15.0


def test_an_outage_is_met_with_the_ordinary_heartbeats() -> None:
    _, again, *later = pauses(6)
    assert 5.0 <= again <= 15.0
    assert len(later) == 5
    assert all(regular(pause) for pause in later)


def test_a_failure_that_took_long_is_not_repeated_soon() -> None:
    _, again = pauses(1, took_s=50.0)
    assert regular(again)


def test_a_state_that_the_server_does_not_know_is_told_before_the_job_is_given_up() -> None:
    """A job that is `sent` fails after half an hour without a word."""
    soon, second, third = pauses(3, first=1)
    assert 5.0 <= soon <= 15.0
    assert 150.0 <= second <= 450.0
    assert 300.0 <= third <= 900.0


@pytest.mark.parametrize(("asked_s", "most_s"), [(60.0, 90.0), (86_400.0, PERIOD_S)])
def test_a_busy_server_is_left_alone_but_not_beyond_a_period(asked_s: float, most_s: float) -> None:
    _, again = pauses(1, err=ServerBusy("later", asked_s))
    assert min(asked_s, EARLIEST * PERIOD_S) <= again <= most_s


def test_debug_output_keeps_its_period() -> None:
    assert all(pause <= HeartbeatConfig().debug_period_s for pause in pauses(4, debug=True))


def test_pilots_that_began_in_step_do_not_stay_in_step() -> None:
    due = [pauses(0, first=2)[0] for _ in range(200)]
    assert max(due) - min(due) > 0.15 * PERIOD_S


def test_a_job_that_runs_is_not_starting_again() -> None:
    """It began to run, and somebody wanted to see it, while an update was
    under way.
    """
    told: list[JobState] = []
    stop = threading.Event()

    class Server(FakeServer):
        def update_job(self, report: JobReport, **_: object) -> Reply:
            told.append(report.state)
            if len(told) == 1:
                heartbeat.say(JobState.RUNNING)
                heartbeat.debug(True)
            elif len(told) == 4:
                stop.set()
            return Reply()

    heartbeat = Heartbeat(
        Server(),
        report=lambda state: JobReport(1, 1, state, "Q", Node("n")),
        heard=lambda _: None,
        lost=lambda _: None,
        config=HeartbeatConfig(),
        clock=FakeClock(),
    )
    heartbeat.say(JobState.STARTING)
    heartbeat.run(stop)
    assert told == [JobState.STARTING, *[JobState.RUNNING] * 3]
