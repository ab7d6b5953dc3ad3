"""The job's machine: lists of events in, lists of actions out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core import actions as act
from pilot_core import events as ev
from pilot_core.machine import IllegalEvent, Machine, State
from pilot_core.model.codes import ErrorCode
from pilot_core.model.payload import PayloadResult
from pilot_core.model.report import Command, CommandKind, JobState
from pilot_core.model.sample import Verdict

OK = ev.Exited(PayloadResult(0))
FAILED = ev.Exited(PayloadResult(3, ErrorCode.PAYLOADEXECUTIONFAILURE, "exit code 3"))
KILLED = ev.Exited(PayloadResult(143, ErrorCode.PAYLOADEXECUTIONFAILURE, "signal 15"))
KILL = ev.Commanded(Command(CommandKind.KILL))
TERM = ev.Signalled(ErrorCode.SIGTERM, "SIGTERM", 9.0)
MEMORY = ev.Crossed(Verdict(ErrorCode.PAYLOADEXCEEDMAXMEM, "4 GB"))
STORED = ev.WrappedUp()
NOT_STORED = ev.WrappedUp(ErrorCode.STAGEOUTFAILED, "bucket gone")


def new() -> Machine:
    return Machine(grace_s=10.0, hurried_grace_s=3.0)


def feed(*events: ev.Event) -> tuple[Machine, list[act.Action]]:
    machine = new()
    actions = [action for event in events for action in machine.handle(event)]
    return machine, actions


def deliveries(actions: list[act.Action]) -> list[act.Ending]:
    return [a.ending for a in actions if isinstance(a, act.Deliver)]


def test_finished_job() -> None:
    machine, actions = feed(ev.Accepted(), ev.Started(), OK, STORED, ev.Delivered())
    assert actions == [
        act.Report(JobState.STARTING),
        act.Prepare(),
        act.Report(JobState.RUNNING),
        act.WrapUp(),
        act.Deliver(act.Ending(JobState.FINISHED, PayloadResult(0))),
        act.End(),
    ]
    assert machine.done
    assert machine.delivered


def test_failed_payload_keeps_its_exit_code() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), FAILED, STORED)
    assert deliveries(actions) == [act.Ending(JobState.FAILED, FAILED.result)]


def test_payload_that_never_started() -> None:
    _, actions = feed(ev.Accepted(), ev.NotStarted(ErrorCode.IMAGENOTFOUND, "no such image"), STORED)
    (ending,) = deliveries(actions)
    assert (ending.state, ending.result.code) == (JobState.FAILED, ErrorCode.IMAGENOTFOUND)


def test_finished_payload_without_its_files_is_failed() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), OK, NOT_STORED)
    (ending,) = deliveries(actions)
    assert (ending.state, ending.result.code) == (JobState.FAILED, ErrorCode.STAGEOUTFAILED)


def test_failed_payload_is_not_blamed_on_the_storage() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), FAILED, NOT_STORED)
    assert deliveries(actions)[0].result.code == ErrorCode.PAYLOADEXECUTIONFAILURE


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        ((ev.Accepted(),), act.CancelPreparation()),
        ((ev.Accepted(), ev.Started()), act.Stop(10.0)),
    ],
)
def test_kill_ends_what_is_under_way(before: tuple[ev.Event, ...], answer: act.Action) -> None:
    machine, actions = feed(*before, KILL)
    assert actions[-1] == answer
    assert machine.state is State.STOPPING


def test_first_cause_is_told() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), MEMORY, KILL, KILLED, STORED)
    (ending,) = deliveries(actions)
    assert ending.result.code == ErrorCode.PAYLOADEXCEEDMAXMEM


@pytest.mark.parametrize("cause", [KILL, MEMORY, TERM, ev.Commanded(Command(CommandKind.SOFT_KILL))])
def test_how_a_payload_exits_that_the_pilot_ends_is_no_word_of_its_own(cause: ev.Event) -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), cause, KILLED, STORED)
    assert {ending.result.exit_code for ending in deliveries(actions)} == {0}
    _, actions = feed(ev.Accepted(), ev.Started(), FAILED, KILL, STORED)
    assert deliveries(actions)[0].result.exit_code == 3


def test_kill_during_start_that_came_too_late_stops_the_payload() -> None:
    _, actions = feed(ev.Accepted(), KILL, ev.Started(), KILLED, STORED)
    assert act.Stop(10.0) in actions
    assert deliveries(actions)[0].result.code == ErrorCode.PANDAKILL


def test_kill_while_wrapping_up_decides_the_outcome() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), OK, KILL, STORED)
    assert deliveries(actions)[0].result.code == ErrorCode.PANDAKILL


def test_kill_while_the_report_is_in_flight_changes_nothing() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), OK, STORED, KILL, ev.Delivered())
    assert [e.state for e in deliveries(actions)] == [JobState.FINISHED]


def test_signal_turns_the_order_round() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), TERM)
    assert [type(a) for a in actions[-3:]] == [act.Hurry, act.Deliver, act.Stop]
    machine, actions = feed(ev.Accepted(), ev.Started(), TERM, ev.Delivered(), KILLED, STORED)
    assert len(deliveries(actions)) == 1
    assert machine.done


def test_report_that_did_not_get_through_before_the_stop_is_tried_again() -> None:
    _, actions = feed(
        ev.Accepted(), ev.Started(), TERM, ev.Undelivered("down"), KILLED, STORED, ev.Delivered()
    )
    first, second = deliveries(actions)
    assert first == second
    assert first.result.code == ErrorCode.SIGTERM


def test_signal_during_upload_finishes_if_the_upload_does() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), OK, TERM, STORED)
    assert deliveries(actions)[0].state is JobState.FINISHED
    _, actions = feed(ev.Accepted(), ev.Started(), OK, TERM, NOT_STORED)
    (ending,) = deliveries(actions)
    assert ending.result.code == ErrorCode.SIGTERM
    assert "bucket gone" in ending.result.diag


@pytest.mark.parametrize(
    ("exit_code", "code", "told"),
    [
        (143, ErrorCode.PAYLOADEXECUTIONFAILURE, ErrorCode.SIGTERM),
        (137, ErrorCode.PAYLOADEXECUTIONFAILURE, ErrorCode.SIGTERM),
        (137, ErrorCode.PAYLOADOUTOFMEMORY, ErrorCode.PAYLOADOUTOFMEMORY),
        (1, ErrorCode.PAYLOADEXECUTIONFAILURE, ErrorCode.PAYLOADEXECUTIONFAILURE),
    ],
)
@pytest.mark.parametrize("stored", [STORED, NOT_STORED])
def test_a_payload_may_hear_first_of_what_kills_the_pilot(
    exit_code: int, code: ErrorCode, told: ErrorCode, stored: ev.WrappedUp
) -> None:
    """Both get SIGTERM; the payload dies of it before the pilot looks."""
    dead = ev.Exited(PayloadResult(exit_code, code, "its last words"))
    _, actions = feed(ev.Accepted(), ev.Started(), dead, TERM, stored)
    (ending,) = deliveries(actions)
    assert ending.result.code == told
    assert "its last words" in ending.result.diag
    assert ending.result.exit_code == (0 if told is ErrorCode.SIGTERM else exit_code)
    # Without a signal to the pilot it is the payload's own end.
    _, actions = feed(ev.Accepted(), ev.Started(), dead, stored)
    assert deliveries(actions)[0].result.code == code


def test_second_signal_shortens() -> None:
    _, actions = feed(ev.Accepted(), ev.Started(), TERM, ev.Signalled(ErrorCode.SIGTERM, "again", 3.0))
    assert actions[-2:] == [act.Hurry(3.0), act.Stop(0.0)]
    assert len(deliveries(actions)) == 1


def test_undelivered_report_ends_the_job_undelivered() -> None:
    machine, _ = feed(ev.Accepted(), ev.Started(), OK, STORED, ev.Undelivered("4 h are over"))
    assert machine.done
    assert not machine.delivered


def test_illegal_event_tells_the_story() -> None:
    machine, _ = feed(ev.Accepted())
    with pytest.raises(IllegalEvent, match=r"NEW <- Accepted -> PREPARING; PREPARING <- WrappedUp"):
        machine.handle(STORED)


DISTURBANCES = st.sampled_from(
    [
        KILL,
        TERM,
        MEMORY,
        ev.Commanded(Command(CommandKind.DEBUG, "debug")),
        ev.Commanded(Command(CommandKind.UNKNOWN, "x")),
        ev.Commanded(Command(CommandKind.ALREADY_DONE)),
        ev.ServerLost(10800.0),
        ev.ThreadDied("thread job-1-heartbeat died: ValueError"),
        ev.Signalled(ErrorCode.SIGINT, "again", 3.0),
    ]
)


@settings(max_examples=1000, deadline=None)
@given(
    noise=st.lists(st.lists(DISTURBANCES, max_size=3), min_size=5, max_size=5),
    starts=st.booleans(),
    exit_event=st.sampled_from([OK, FAILED, KILLED]),
    stored=st.sampled_from([STORED, NOT_STORED]),
    delivered=st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_however_events_come_there_is_one_ending(
    noise: list[list[ev.Event]],
    starts: bool,
    exit_event: ev.Exited,
    stored: ev.WrappedUp,
    delivered: list[bool],
) -> None:
    machine = new()
    actions: list[act.Action] = []
    answers = iter(delivered + [True] * 10)

    def give(event: ev.Event) -> None:
        if machine.done:
            return
        new_actions = machine.handle(event)
        actions.extend(new_actions)
        for action in new_actions:
            # The world answers each delivery while the payload still lives.
            if isinstance(action, act.Deliver) and machine.state is State.STOPPING:
                give(ev.Delivered() if next(answers) else ev.Undelivered("down"))

    give(ev.Accepted())
    for event in noise[0]:
        give(event)
    give(ev.Started() if starts else ev.NotStarted(ErrorCode.SETUPFAILURE, "no"))
    for event in noise[1]:
        give(event)
    if starts:
        give(exit_event)
    for event in noise[2]:
        give(event)
    give(stored)
    for event in noise[3]:
        give(event)
    if not machine.done:
        give(ev.Delivered() if next(answers) else ev.Undelivered("down"))
    for event in noise[4]:
        assert machine.handle(event) == []

    endings = deliveries(actions)
    assert machine.done
    assert actions[-1] == act.End()
    assert endings
    assert all(ending == endings[0] for ending in endings), "an ending was changed after it was told"
    assert sum(isinstance(a, act.Prepare) for a in actions) == 1
    assert sum(isinstance(a, act.WrapUp) for a in actions) == 1
