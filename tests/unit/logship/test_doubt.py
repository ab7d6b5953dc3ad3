"""A refused entry is told from a refused setting, and is not the end of those
behind it.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind
from pilot_core.logship.plain import as_text
from pilot_core.logship.sinks.doubt import STUBBORN, Doubt
from tests.fakes.shipping import Rig
from tests.fakes.sink import YES, MemorySink

NO = Outcome(OutcomeKind.TOO_LARGE, detail="HTTP 400")
AGAIN = Outcome(OutcomeKind.RETRY, rejected={1: "internal"}, detail="partly")


def entry(uid: str, payload: bytes = b'{"message":"m"}') -> Entry:
    return Entry(payload, "INFO", "2026-11-21T00:00:00.000000Z", uid)


ONE, TWO = [entry("a")], [entry("a"), entry("b")]


def doubt(*answers: Outcome) -> tuple[Doubt, list[float]]:
    """One whose probes are answered so, and the probes' time-outs."""
    left, asked = list(answers), []

    def probe(within_s: float) -> Outcome:
        asked.append(within_s)
        return left.pop(0)

    return Doubt(probe), asked


def end() -> float:
    return time.monotonic() + 5.0


def test_where_harmless_entries_are_refused_it_is_a_setting() -> None:
    asks, asked = doubt(NO)
    outcome = asks.settle(NO, ONE, end())
    assert outcome.kind is OutcomeKind.DENIED
    assert "every request is refused: HTTP 400" in outcome.detail
    assert 4.0 < asked[0] <= 5.0


def test_where_harmless_entries_are_taken_it_is_the_entry() -> None:
    asks, _ = doubt(YES)
    assert asks.settle(NO, ONE, end()) is NO


def test_a_yes_of_a_moment_ago_needs_no_probe() -> None:
    asks, asked = doubt()
    asks.settle(YES, TWO, end())
    assert asks.settle(NO, ONE, end()) is NO
    assert asked == []


def test_several_are_split_before_anybody_doubts() -> None:
    asks, asked = doubt()
    assert asks.settle(NO, TWO, end()) is NO
    assert asked == []


def test_one_that_fails_again_and_again_beside_others_is_given_up() -> None:
    asks, _ = doubt()
    outcomes = [asks.insist(AGAIN, TWO, end()) for _ in range(STUBBORN)]
    assert {outcome.kind for outcome in outcomes[:-1]} == {OutcomeKind.RETRY}
    assert not any(outcome.rejected for outcome in outcomes[:-1])
    assert (outcomes[-1].kind, outcomes[-1].rejected) == (OutcomeKind.DELIVERED, {1: "internal"})


@pytest.mark.parametrize(("probe", "kind"), [(YES, OutcomeKind.DELIVERED), (NO, OutcomeKind.RETRY)])
def test_one_that_fails_alone_is_given_up_where_others_are_taken(probe: Outcome, kind: OutcomeKind) -> None:
    asks, _ = doubt(*[probe] * 3)
    alone = Outcome(OutcomeKind.RETRY, rejected={0: "internal"})
    assert [asks.insist(alone, ONE, end()).kind for _ in range(STUBBORN)][-1] is kind


def test_others_that_fail_each_time_are_waited_for() -> None:
    asks, _ = doubt()
    for n in range(3 * STUBBORN):
        assert asks.insist(AGAIN, [entry("a"), entry(f"b{n}")], end()).kind is OutcomeKind.RETRY


# --- once more as text --------------------------------------------------------


def fussy(entries: Sequence[Entry]) -> Outcome:
    """Refuses what has a name that stands twice, as protobuf does."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("Repeated map key")
        return dict(pairs)

    try:
        for each in entries:
            json.loads(each.payload, object_pairs_hook=once)
    except ValueError as err:
        return Outcome(OutcomeKind.TOO_LARGE, detail=str(err))
    return YES


def test_what_is_refused_as_an_object_arrives_as_text(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(fussy))
    rig.append(b'{"message":"a"}\n{"message":"first","message":"second"}\n{"message":"c"}\n')
    counts = rig.finish()
    assert (counts.sent, counts.rejected, counts.left_bytes) == (3, 0, 0)
    first, text, last = [json.loads(e.payload) for e in rig.sink.visible()]
    assert (first["message"], last["message"]) == ("a", "c")
    assert text["PandaJobID"] == "4242"
    assert '"message":"first","message":"second"' in text["message"]


def test_what_is_text_already_is_not_sent_again() -> None:
    assert as_text(entry("a", b'{"PandaJobID":"4","message":"m"}')) is None
    assert as_text(entry("a", b'{"PandaJobID":"4"}')) is None
    other = as_text(entry("a", b'{"PandaJobID":"4","message":{"x":1}}'))
    assert other is not None
    assert json.loads(other.payload) == {"PandaJobID": "4", "message": '{"PandaJobID":"4","message":{"x":1}}'}
    assert other[1:] == entry("a")[1:]


def test_text_that_cannot_be_sent_is_tried_again(tmp_path: Path) -> None:
    said = [NO, Outcome(OutcomeKind.RETRY), NO, YES]
    rig = Rig(tmp_path, MemorySink(lambda _: said.pop(0)))
    rig.append(b'{"x":1}\n')
    counts = rig.finish()
    assert (counts.sent, counts.rejected, said) == (1, 0, [])


def test_what_is_refused_as_text_as_well_is_counted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(lambda entries: NO))
    rig.append(b'{"x":1}\nplain\n')
    counts = rig.finish()
    assert (counts.sent, counts.rejected, counts.left_bytes) == (0, 2, 0)
