"""Ask once, wait for the end or the grace, kill; no thread, no real time."""

import threading

import pytest

from container.contract import KILL_S
from container.stopping import Stopping


class StepClock:
    """Time passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.now += seconds
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))


class Payload:
    """Ends so many seconds after it is asked or killed."""

    def __init__(self, clock: StepClock, *, after_ask: float = 1e9, after_kill: float = 1e9) -> None:
        self.clock = clock
        self.after_ask, self.after_kill = after_ask, after_kill
        self.ends_at = 1e12
        self.asks = self.kills = 0
        self.stopping = Stopping("p", ask=self.ask, over=self.over, kill=self.kill, clock=clock)

    def ask(self) -> None:
        self.asks += 1
        self.ends_at = min(self.ends_at, self.clock.now + self.after_ask)

    def kill(self) -> None:
        self.kills += 1
        self.ends_at = min(self.ends_at, self.clock.now + self.after_kill)

    def over(self, timeout_s: float) -> bool:
        self.clock.now += max(0.0, min(timeout_s, self.ends_at - self.clock.now))
        return self.clock.now >= self.ends_at


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


def test_it_ends_when_asked(clock: StepClock) -> None:
    payload = Payload(clock, after_ask=3.0)
    assert payload.stopping.run(10)
    assert (payload.asks, payload.kills) == (1, 0)
    assert clock.now == pytest.approx(1003.0)


def test_it_is_killed_after_the_grace(clock: StepClock) -> None:
    payload = Payload(clock, after_kill=0.0)
    assert payload.stopping.run(10)
    assert (payload.asks, payload.kills) == (1, 1)
    assert clock.now == pytest.approx(1010.0)


def test_without_grace_it_is_not_asked(clock: StepClock) -> None:
    payload = Payload(clock, after_kill=0.0)
    assert payload.stopping.run(0)
    assert (payload.asks, payload.kills) == (0, 1)


def test_what_cannot_be_killed_costs_bounded_time(clock: StepClock) -> None:
    payload = Payload(clock)
    assert not payload.stopping.run(10)
    assert payload.kills > 10
    assert clock.now == pytest.approx(1010.0 + KILL_S, abs=0.2)


def test_what_has_ended_is_left_alone(clock: StepClock) -> None:
    payload = Payload(clock)
    payload.ends_at = 0.0
    assert payload.stopping.run(10)
    assert (payload.asks, payload.kills) == (0, 0)


def test_a_second_call_from_within_shortens(clock: StepClock) -> None:
    payload = Payload(clock, after_kill=0.0)
    inner = payload.ask

    def ask_and_be_interrupted() -> None:
        inner()
        # What another thread would do while the first one waits.
        payload.stopping.run(2)

    payload.stopping = Stopping(
        "p", ask=ask_and_be_interrupted, over=payload.over, kill=payload.kill, clock=clock
    )
    assert payload.stopping.run(60)
    # The second call itself waits at most its own grace and KILL_S.
    assert clock.now <= 1000.0 + 2 + KILL_S + 0.2
    assert payload.asks == 1


def test_a_later_call_has_the_same_answer(clock: StepClock) -> None:
    payload = Payload(clock, after_ask=1.0)
    assert payload.stopping.run(10)
    begun = clock.now
    assert payload.stopping.run(10)
    assert clock.now == begun
    assert payload.asks == 1
