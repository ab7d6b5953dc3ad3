"""How long one waits, and that a budget is neither overrun nor thrown away."""

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.retry import AWAY_RETRY, HASTY_RETRY, RetryPolicy, retry
from tests.fakes.clock import FakeClock

FULL = RetryPolicy(attempts=0, first_s=2.0, cap_s=30.0)


@given(failures=st.integers(1, 10_000), asked_s=st.floats(0.0, 1e6), took_s=st.floats(0.0, 1e4))
def test_every_wait_lies_in_its_bounds(failures: int, asked_s: float, took_s: float) -> None:
    low, high = AWAY_RETRY.spread
    wait = AWAY_RETRY.wait_s(failures, took_s=took_s, asked_s=asked_s)
    soon = failures == 1 and took_s < AWAY_RETRY.soon_s
    least = AWAY_RETRY.soon_s if soon else AWAY_RETRY.first_s
    assert max(asked_s, low * least) <= wait <= max(1.5 * asked_s, high * AWAY_RETRY.cap_s)
    assert not soon or wait <= max(1.5 * asked_s, high * AWAY_RETRY.soon_s)


def test_after_an_outage_of_an_hour_nobody_is_late_for_the_servers_two_hours() -> None:
    """An update half an hour old, an hour's outage, the longest wait."""
    assert 1_800 + 3_600 + AWAY_RETRY.spread[1] * AWAY_RETRY.cap_s <= 7_200


def test_waits_grow_to_the_cap() -> None:
    middle = [
        sum(AWAY_RETRY.wait_s(failures) for _ in range(4_000)) / 4_000 for failures in (1, 2, 3, 4, 5, 40)
    ]
    assert middle == pytest.approx([10, 300, 600, 1_200, 1_200, 1_200], rel=0.05)


@given(
    seconds=st.floats(1.0, 20_000.0),
    took_s=st.floats(0.0, 70.0),
    policy=st.sampled_from([AWAY_RETRY, FULL]),
)
def test_a_policy_without_end_makes_the_most_of_its_budget(
    seconds: float, took_s: float, policy: RetryPolicy
) -> None:
    clock = FakeClock()
    budget = Budget(clock, seconds, "test")
    left: list[float] = []

    def fail() -> None:
        clock.now += min(took_s, budget.left)
        left.append(budget.left)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        retry(
            fail,
            policy=policy,
            again=lambda _: 0.0,
            clock=clock,
            budget=budget,
            stop=threading.Event(),
            what="test",
        )
    assert left[-1] <= policy.first_s * policy.spread[1]
    assert sum(clock.waits) < seconds
    assert len(left) <= 10 + seconds / 5


def waits(policy: RetryPolicy, *, asked_s: float, seconds: float) -> list[float]:
    """Between the calls to one who always asks to be left alone for so long."""
    clock = FakeClock()
    with pytest.raises(OSError, match="no"):
        retry(
            lambda: (_ for _ in ()).throw(OSError("no")),
            policy=policy,
            again=lambda _: asked_s,
            clock=clock,
            budget=Budget(clock, seconds, "test"),
            stop=threading.Event(),
            what="test",
        )
    return clock.waits


@pytest.mark.parametrize("policy", [AWAY_RETRY, HASTY_RETRY])
def test_what_the_server_asks_for_is_not_cut_short_while_there_is_time(policy: RetryPolicy) -> None:
    for left in (901.0, 1_200.0, 5_000.0):
        for wait in waits(policy, asked_s=900.0, seconds=left):
            assert wait >= 900.0 or left <= 900.0
            left -= wait


def test_what_must_be_said_is_said_again_before_it_is_too_late() -> None:
    """A pilot that is being killed, at a server that wants half an hour."""
    for _ in range(100):
        tries = waits(HASTY_RETRY, asked_s=1_800.0, seconds=8.0)
        assert len(tries) >= 2
        assert 8.0 - HASTY_RETRY.first_s <= sum(tries) < 8.0
        assert len(waits(HASTY_RETRY, asked_s=1_800.0, seconds=300.0)) <= 20


def test_a_call_that_may_fail_heeds_every_wish() -> None:
    assert waits(RetryPolicy(attempts=3), asked_s=1_800.0, seconds=8.0) == []


def test_out_of_time_is_no_failure_of_disk_or_network() -> None:
    budget = Budget(FakeClock(), 0.0, "test")
    with pytest.raises(BudgetSpent, match=r"^test: 0\.0 s are over$"), contextlib.suppress(OSError):
        budget.timeout(1.0)
