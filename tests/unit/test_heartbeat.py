"""When updates go out: on time, and after an outage not all at once."""

import threading

from pilot_core.config import HeartbeatConfig
from pilot_core.errors import ServerUnreachable
from pilot_core.heartbeat import AGAIN_S, Heartbeat
from pilot_core.model.report import JobReport, JobState, Node, Reply
from tests.fakes.clock import FakeClock
from tests.fakes.server import FakeServer

PERIOD_S = 1_800.0


class Down(FakeServer):
    """Away for so many calls; stops the heartbeat at the first that works."""

    def __init__(self, away: int) -> None:
        super().__init__()
        self.away = away
        self.stop = threading.Event()

    def update_job(self, report: JobReport, **_: object) -> Reply:  # type: ignore[override]
        self.calls["update_job"] += 1
        if self.calls["update_job"] <= self.away:
            raise ServerUnreachable("away")
        self.stop.set()
        return Reply()


def pauses(away: int) -> list[float]:
    """Waits of a heartbeat that fails so often, after its first update was
    asked for.
    """
    server, clock = Down(away), FakeClock()
    heartbeat = Heartbeat(
        server,
        report=lambda state: JobReport(1, 1, state, "Q", Node("n")),
        heard=lambda _: None,
        lost=lambda _: None,
        config=HeartbeatConfig(period_s=PERIOD_S, lost_s=1e9),
        clock=clock,
    )
    heartbeat.say(JobState.RUNNING)
    heartbeat.run(server.stop)
    return clock.waits


def test_a_server_that_stumbles_is_asked_again_soon() -> None:
    (pause,) = pauses(1)
    assert AGAIN_S / 2 <= pause <= AGAIN_S * 1.5


def test_a_long_outage_spreads_the_pilots_over_a_quarter_of_an_hour() -> None:
    last = [pauses(8)[-1] for _ in range(200)]
    assert min(last) >= PERIOD_S / 4
    assert max(last) <= PERIOD_S * 0.75
    assert max(last) - min(last) > PERIOD_S / 4
