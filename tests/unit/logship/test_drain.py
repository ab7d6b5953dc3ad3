"""The end of a job while the log service is full, away, or there again."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.logship.contract import Outcome, OutcomeKind
from pilot_core.logship.delivery import HOPELESS_S
from tests.fakes.disk import MemoryDisk
from tests.fakes.shipping import Rig, line, lost_and_doubled
from tests.fakes.sink import AGAIN, YES, MemorySink

BUSY = Outcome(OutcomeKind.BUSY, detail="429")
FULL = Outcome(OutcomeKind.FULL, detail="429 bytes")
DENIED = Outcome(OutcomeKind.DENIED, detail="403")


def rig_of(answers: list[Outcome], **more: int) -> Rig:
    """Says these one after the other, and yes from then on."""
    sink = MemorySink(lambda _: answers.pop(0) if answers else YES)
    return Rig(Path("/memory"), sink, disk=MemoryDisk(), **more)


def live(rig: Rig, *, end_s: float, drain_s: float) -> None:
    """The shipper's thread, to the end of the payload and of its drain."""
    rig.clock.at(end_s, lambda: rig.shipper.ask(Budget(rig.clock, drain_s, "drain")))
    rig.shipper.run(threading.Event())


@pytest.mark.parametrize("drain_s", [0.5, 2.7, 12.0])
@pytest.mark.parametrize("no", [BUSY, FULL, AGAIN, DENIED], ids=lambda no: no.kind.name)
def test_an_end_that_comes_during_a_wait_is_heard(no: Outcome, drain_s: float) -> None:
    rig = rig_of([no] * 3)
    written = rig.lines(1)
    # Within the first second of a wait.
    waited = rig.clock.wait
    calls = []

    def wait(event: threading.Event, seconds: float) -> bool:
        calls.append(seconds)
        if len(calls) == 3:
            written.extend(rig.lines(48))
            rig.sink.mood = lambda _: YES
            rig.shipper.ask(Budget(rig.clock, drain_s, "drain"))
        return waited(event, seconds)

    rig.clock.wait = wait  # type: ignore[method-assign]
    rig.shipper.run(threading.Event())
    # Of a full service a second of time gets a share of it, not all.
    assert rig.seen() == written[: len(rig.seen())]
    assert len(rig.seen()) == len(written) or (no is FULL and drain_s < 1 and len(rig.seen()) > 20)


@pytest.mark.parametrize("drain_s", [0.5, 1.1, 1.9])
@pytest.mark.parametrize("no", [BUSY, FULL], ids=lambda no: no.kind.name)
def test_a_short_drain_asks_once_at_least(no: Outcome, drain_s: float) -> None:
    rig = rig_of([no] * 4)
    written = rig.lines(1)
    rig.clock.at(400, lambda: written.extend(rig.lines(1)))
    live(rig, end_s=401, drain_s=drain_s)
    assert rig.seen() == written


def test_a_refusal_in_a_drain_is_not_answered_by_another_request_at_once() -> None:
    rig = rig_of([])
    times: list[float] = []

    def mood(_: object) -> Outcome:
        times.append(rig.clock.now)
        return FULL

    rig.sink.mood = mood
    rig.lines(5)
    rig.finish(seconds=30.0)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 5 < len(gaps) < 12
    assert min(gaps) >= 2.0


@pytest.mark.parametrize("megabytes", [1, 5])
def test_a_backlog_goes_where_there_is_room_at_the_end(megabytes: int) -> None:
    rig = rig_of([], memory_bytes=8 << 20)
    full = True
    # A request takes a tenth of a second.
    rig.sink.mood = lambda _: FULL if full else rig.clock.wait(threading.Event(), 0.1) or YES
    written = rig.lines(megabytes * 1_000_000 // len(line(0)))

    def room() -> None:
        nonlocal full
        full = False

    rig.clock.at(600, room)
    live(rig, end_s=600, drain_s=30.0)
    assert lost_and_doubled(written, rig.seen()) == ([], [])
    assert rig.shipper.counts().left_bytes == 0


@pytest.mark.parametrize("every_s", [10, 60])
@pytest.mark.parametrize("no", [BUSY, FULL], ids=lambda no: no.kind.name)
def test_files_that_are_renamed_while_the_service_is_full(no: Outcome, every_s: int) -> None:
    rig = rig_of([no] * 6)
    written = rig.lines(3)

    def rename(turn: int) -> Callable[[], None]:
        def do() -> None:
            rig.disk.rename(rig.path, rig.path.with_name(f"{rig.path.name}.{turn}"))
            written.extend(rig.lines(5))

        return do

    for turn in range(20):
        rig.clock.at(400 + every_s * turn, rename(turn))
    live(rig, end_s=405 + every_s * 20, drain_s=600.0)
    assert lost_and_doubled(written, rig.seen()) == ([], [])


def test_how_far_it_is_behind() -> None:
    rig = rig_of([])
    full = False
    rig.sink.mood = lambda _: BUSY if full else YES
    behind: list[float] = []

    def write() -> None:
        rig.lines(4)
        behind.append(rig.shipper.counts().behind_s)

    def refuse() -> None:
        nonlocal full
        full = True

    for second in range(1, 1200):
        rig.clock.at(second, write)
    rig.clock.at(600.5, refuse)
    live(rig, end_s=1200, drain_s=1.0)
    # A payload that always has a line more than was sent is not behind.
    assert max(behind[:600]) <= rig.settings.interval_s + 1
    assert behind[-1] == pytest.approx(599, abs=10)


@pytest.mark.parametrize(("end_s", "most_s"), [(1, 2 * HOPELESS_S), (400, 0.0)])
def test_who_was_never_let_in_waits_no_longer_than_to_be_sure(end_s: float, most_s: float) -> None:
    rig = rig_of([DENIED] * 1000)
    rig.lines(3)
    began = rig.clock.now
    live(rig, end_s=end_s, drain_s=60.0)
    assert rig.clock.now - began - end_s <= most_s
    counts = rig.shipper.counts()
    assert (rig.seen(), counts.sent, counts.last_error) == ([], 0, "403")
    assert counts.left_bytes == len(b"".join(map(line, range(3))))


def test_who_is_let_in_at_the_very_end_has_lost_nothing() -> None:
    rig = rig_of([DENIED] * 1000)
    written = rig.lines(3)
    rig.clock.at(400, lambda: setattr(rig.sink, "mood", lambda _: YES))
    live(rig, end_s=401, drain_s=30.0)
    assert rig.seen() == written


@pytest.mark.parametrize("before", [[], [YES]], ids=["a first job", "one that was let in"])
def test_a_refusal_that_heals_within_the_drain_costs_nothing(before: list[Outcome]) -> None:
    rig = rig_of([*before, *[DENIED] * 1000])
    written = rig.lines(1)
    rig.clock.at(1, lambda: written.extend(rig.lines(1)))
    healed_s = 120.0 if before else 12.0
    rig.clock.at(healed_s, lambda: setattr(rig.sink, "mood", lambda _: YES))
    live(rig, end_s=healed_s - 10.0, drain_s=30.0)
    assert rig.seen() == written
