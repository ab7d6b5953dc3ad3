"""Pulling: how often, how long between, and why it ends."""

import threading
from collections.abc import Iterator, Mapping

import pytest

from pilot_core.base.budget import Budget
from pilot_core.config import JobsConfig
from pilot_core.errors import BadJob, NotAuthorised, ServerBusy, ServerUnreachable
from pilot_core.jobs.pull import Ending, PullSource
from tests.fakes.server import SkippingClock

JOB = {"PandaID": 17, "attemptNr": 1, "transformation": "x", "jobPars": ""}
DOWN = ServerUnreachable("no connection")


class Answers:
    """A server that says these things one after another."""

    def __init__(self, *answers: object) -> None:
        self._answers: Iterator[object] = iter(answers)
        self.asked = 0

    def __call__(self, *, budget: Budget, stop: threading.Event) -> Mapping[str, object] | None:
        self.asked += 1
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        assert answer is None or isinstance(answer, dict)
        return answer


def pull(
    answers: Answers, seconds: float = 86_400.0, **config: object
) -> tuple[PullSource, SkippingClock, Budget]:
    clock = SkippingClock()
    settings = JobsConfig(**{"requests": 3, "failures": 3, **config})  # type: ignore[arg-type]
    return PullSource(answers, config=settings, clock=clock), clock, Budget(clock, seconds, "test")


def test_a_job() -> None:
    source, clock, budget = pull(Answers(JOB))
    job = source.next(budget=budget, stop=threading.Event())
    assert job is not None
    assert (job.panda_id, source.ended, clock.waits) == (17, None, [])
    assert source.renewable


def test_no_jobs() -> None:
    answers = Answers(None, None, None)
    source, clock, budget = pull(answers)
    assert source.next(budget=budget, stop=threading.Event()) is None
    assert (source.ended, answers.asked) == (Ending.NO_JOBS, 3)
    assert len(clock.waits) == 2
    assert all(60.0 <= wait <= 180.0 for wait in clock.waits)


@pytest.mark.parametrize(("requests", "failures", "asked"), [(5, 3, 3), (2, 5, 2), (5, 1, 1)])
def test_an_idle_slot_ends_as_early_as_pilot3s(requests: int, failures: int, asked: int) -> None:
    answers = Answers(*[None] * 5)
    source, _, budget = pull(answers, requests=requests, failures=failures)
    assert source.next(budget=budget, stop=threading.Event()) is None
    assert (source.ended, answers.asked) == (Ending.NO_JOBS, asked)


def test_failures_that_do_not_heal() -> None:
    answers = Answers(DOWN, NotAuthorised("expired"), DOWN)
    source, clock, budget = pull(answers)
    with pytest.raises(ServerUnreachable):
        source.next(budget=budget, stop=threading.Event())
    assert answers.asked == 3
    stray, outage = clock.waits
    assert 5.0 <= stray <= 15.0
    assert 150.0 <= outage <= 450.0


def test_failures_that_heal_are_forgotten() -> None:
    source, _, budget = pull(Answers(DOWN, DOWN, None, DOWN, DOWN, JOB))
    job = source.next(budget=budget, stop=threading.Event())
    assert job is not None


def test_jobs_begin_a_new_count() -> None:
    answers = Answers(None, None, JOB, None, None, None)
    source, _, budget = pull(answers)
    assert source.next(budget=budget, stop=threading.Event()) is not None
    assert source.next(budget=budget, stop=threading.Event()) is None
    assert answers.asked == 6


def test_a_busy_server_is_given_its_time() -> None:
    source, clock, budget = pull(Answers(ServerBusy("later", 500.0), JOB))
    assert source.next(budget=budget, stop=threading.Event()) is not None
    (wait,) = clock.waits
    assert 500.0 <= wait <= 750.0


def test_no_request_after_the_end_of_the_budget() -> None:
    source, clock, budget = pull(Answers(None), seconds=50.0)
    assert source.next(budget=budget, stop=threading.Event()) is None
    assert (source.ended, clock.waits) == (Ending.TIME_OVER, [])


def test_the_failure_is_told_when_time_is_over() -> None:
    source, clock, budget = pull(Answers(DOWN), seconds=4.0)
    with pytest.raises(ServerUnreachable):
        source.next(budget=budget, stop=threading.Event())
    assert clock.waits == []


def test_stop_comes_before_the_next_request() -> None:
    stop = threading.Event()
    answers = Answers(None)

    def ask(*, budget: Budget, stop: threading.Event) -> Mapping[str, object] | None:
        stop.set()
        return answers(budget=budget, stop=stop)

    clock = SkippingClock()
    source = PullSource(ask, config=JobsConfig(requests=3), clock=clock)
    assert source.next(budget=Budget(clock, 1_000.0, "test"), stop=stop) is None
    assert (source.ended, answers.asked) == (Ending.STOPPED, 1)
    assert source.next(budget=Budget(clock, 1_000.0, "test"), stop=stop) is None
    assert answers.asked == 1


def test_a_definition_nobody_understands() -> None:
    source, _, budget = pull(Answers({**JOB, "coreCount": "many"}))
    with pytest.raises(BadJob) as caught:
        source.next(budget=budget, stop=threading.Event())
    assert (caught.value.panda_id, caught.value.attempt) == (17, 1)
