"""The scenario list on one thread: nothing lost, nothing doubled at the
reader.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind
from tests.fakes.shipping import Rig, line, lost_and_doubled
from tests.fakes.sink import AGAIN, LOST_ANSWER, YES, MemorySink


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemorySink())


def test_mixed_content_arrives_in_order(rig: Rig) -> None:
    rig.append(
        line(0, "first")
        + b"plain text\n"
        + b'{"broken": \n'
        + b"\xff\xfe bytes\n"
        + b"[1, 2]\n"
        + line(1, "last")
    )
    rig.finish()
    assert rig.messages() == ["first", "plain text", '{"broken": ', "\\xff\\xfe bytes", "[1, 2]", "last"]


def test_half_a_line_waits_for_its_rest(rig: Rig) -> None:
    whole = line(0)
    rig.append(whole[:20])
    rig.ship()
    assert rig.seen() == []
    rig.append(whole[20:])
    rig.ship()
    assert rig.seen() == [0]


def test_last_line_without_newline_goes_at_the_end(rig: Rig) -> None:
    rig.append(line(0) + line(1)[:-1])
    rig.ship()
    assert rig.seen() == [0]
    counts = rig.finish()
    assert rig.seen() == [0, 1]
    assert counts.left_bytes == 0
    assert counts.sent == 2


def test_copytruncate(rig: Rig) -> None:
    written = rig.lines(1000)
    rig.ship()
    shutil.copy(rig.path, rig.path.with_suffix(".1"))
    os.truncate(rig.path, 0)
    written += rig.lines(500)
    rig.ship()
    written += rig.lines(500)
    rig.finish()
    assert rig.seen() == written


def test_truncated_and_grown_past_the_old_place(rig: Rig) -> None:
    written = rig.lines(300)
    rig.ship()
    os.truncate(rig.path, 0)
    written += rig.lines(1000)
    rig.finish()
    assert rig.seen() == written


def test_half_line_before_a_truncation_is_kept(rig: Rig) -> None:
    rig.append(line(0) + b"half a li")
    rig.ship()
    os.truncate(rig.path, 0)
    rig.append(line(1))
    rig.finish()
    assert rig.messages() == ["hello", "half a li", "hello"]


def test_renamed_with_late_writes_to_the_old_file(rig: Rig) -> None:
    written = rig.lines(100)
    rig.ship()
    with rig.path.open("ab") as old:
        os.rename(rig.path, rig.path.with_suffix(".1"))
        written += rig.lines(100)
        rig.ship()
        old.write(line(9000))
        old.flush()
        rig.ship()
    written += rig.lines(10)
    rig.finish()
    assert lost_and_doubled([*written, 9000], rig.seen()) == ([], [])


def test_deleted_and_made_anew(rig: Rig) -> None:
    written = rig.lines(10)
    rig.ship()
    rig.path.unlink()
    rig.ship()
    written += rig.lines(10)
    rig.finish()
    assert rig.seen() == written


def test_an_old_file_is_let_go_when_it_has_been_quiet(rig: Rig) -> None:
    rig.lines(3)
    rig.ship()
    os.rename(rig.path, rig.path.with_suffix(".1"))
    rig.lines(3)
    rig.ship()
    rig.clock.now += rig.settings.rotate_wait_s
    rig.ship()
    before = len(os.listdir("/proc/self/fd"))
    rig.finish()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_symlink_that_comes_late_and_is_pointed_elsewhere(rig: Rig) -> None:
    rig.ship()
    first, second = rig.path.with_name("a"), rig.path.with_name("b")
    first.write_bytes(line(0))
    second.write_bytes(line(1))
    rig.path.symlink_to(first)
    rig.ship()
    rig.path.unlink()
    rig.path.symlink_to(second)
    rig.ship()
    assert rig.seen() == [0, 1]


def test_a_file_that_appears_in_the_last_moment(rig: Rig) -> None:
    rig.ship()
    written = rig.lines(5)
    rig.finish()
    assert rig.seen() == written


def test_a_directory_or_a_pipe_in_its_place_is_passed_over(rig: Rig) -> None:
    os.mkfifo(rig.path)
    rig.ship()
    rig.path.unlink()
    written = rig.lines(2)
    rig.ship()
    assert rig.seen() == written


def test_restart_goes_on_where_it_was(rig: Rig) -> None:
    written = rig.lines(1000)
    rig.ship()
    rig.finish()
    written += rig.lines(500)
    rig.kill()
    rig.ship()
    assert rig.seen() == written
    assert len(rig.sink.stored) == 1500


def test_kill_before_and_after_the_yes(rig: Rig) -> None:
    rig.lines(3)
    rig.sink.mood = lambda _: LOST_ANSWER
    rig.shipper._stop.set()  # one attempt, and no time for another
    rig.shipper.ship_once()
    rig.kill()
    rig.sink.mood = lambda _: YES
    written = [0, 1, 2, *rig.lines(3)]
    rig.ship()
    assert rig.seen() == written


def test_truncated_while_nobody_looked(rig: Rig) -> None:
    written = rig.lines(50)
    rig.ship()
    rig.finish()
    os.truncate(rig.path, 0)
    written += rig.lines(80)
    rig.kill()
    rig.finish()
    assert rig.seen() == written


def test_rotated_while_nobody_looked(rig: Rig) -> None:
    written = rig.lines(50)
    rig.ship()
    rig.finish()
    written += rig.lines(10)
    os.rename(rig.path, rig.path.with_name(rig.path.name + ".1"))
    written += rig.lines(10)
    rig.kill()
    rig.finish()
    assert rig.seen() == written


def test_lines_without_a_time_have_the_same_one_after_a_restart(rig: Rig) -> None:
    rig.append(b"one\ntwo\n")
    rig.shipper.ship_once()
    rig.clock.now += 0.5  # too early for the position to be on disk
    first = {(e.timestamp, e.insert_id) for e in rig.sink.stored}
    rig.kill()
    rig.clock.now += 100.0
    rig.ship()
    assert {(e.timestamp, e.insert_id) for e in rig.sink.stored} == first


def test_a_sink_that_says_no_for_a_while(rig: Rig) -> None:
    answers = [AGAIN, Outcome(OutcomeKind.DENIED, detail="403"), AGAIN, LOST_ANSWER]
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    written = rig.lines(100)
    rig.ship()
    assert rig.seen() == written
    counts = rig.shipper.counts()
    assert (counts.sent, counts.repeated, counts.rejected) == (100, 400, 0)
    assert counts.last_error == "not now"


def test_the_wait_that_the_service_asks_for(rig: Rig) -> None:
    answers = [Outcome(OutcomeKind.RETRY, detail="429", retry_after_s=120.0)]
    rig.sink.mood = lambda _: answers.pop() if answers else YES
    start = rig.clock.now
    rig.lines(1)
    rig.ship()
    assert rig.clock.now - start >= 120.0


def test_one_bad_record_does_not_block_the_others(rig: Rig) -> None:
    rig.sink.mood = lambda batch: Outcome(OutcomeKind.DELIVERED, rejected={1: "too odd"})
    rig.lines(3)
    rig.ship()
    counts = rig.shipper.counts()
    assert rig.seen() == [0, 2]
    assert (counts.sent, counts.rejected, counts.last_error) == (2, 1, "too odd")


def test_a_request_refused_as_a_whole_is_cut_until_the_bad_one_is_alone(rig: Rig) -> None:
    rig.sink.mood = lambda batch: (
        Outcome(OutcomeKind.TOO_LARGE, detail="400")
        if any(b'"seq":13' in e.payload.replace(b"\\", b"") for e in batch)
        else YES
    )
    written = rig.lines(13)
    rig.append(line(13))
    rig._made += 1
    written += rig.lines(13)
    rig.ship()
    assert rig.seen() == written
    assert rig.shipper.counts().rejected == 1


def test_a_dead_sink_at_the_end_leaves_the_rest_and_says_so(rig: Rig) -> None:
    rig.sink.mood = lambda _: AGAIN
    rig.lines(100)
    start = rig.clock.now
    counts = rig.finish(seconds=5.0)
    assert rig.clock.now - start <= 5.1
    assert counts.sent == 0
    assert counts.left_bytes == rig.path.stat().st_size
    rig.sink.mood = lambda _: YES
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(100))


def test_what_is_written_while_the_sink_refuses_counts_as_left(rig: Rig) -> None:
    def refuse_and_grow(_: Sequence[Entry]) -> Outcome:
        rig.lines(1)
        return AGAIN

    rig.sink.mood = refuse_and_grow
    rig.lines(100)
    counts = rig.finish(seconds=5.0)
    assert len(rig.sink.batches) == 0
    assert counts.left_bytes == rig.path.stat().st_size


def test_nothing_behind_a_load_that_was_given_up_moves_the_position(rig: Rig) -> None:
    rig.lines(100)
    rig.sink.mood = lambda _: AGAIN
    rig.shipper._stop.set()
    rig.shipper.ship_once()
    rig.sink.mood = lambda _: YES
    rig.lines(100)
    rig.finish()
    rig.kill()
    rig.finish()
    assert rig.seen() == list(range(200))


def test_the_position_moves_request_by_request(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(), memory_bytes=1 << 26)
    rig.lines(5000)
    rig.sink.mood = lambda _: AGAIN if len(rig.sink.batches) == 3 else YES
    counts = rig.finish(seconds=5.0)
    assert counts.sent == 3000
    assert counts.left_bytes < rig.path.stat().st_size


def test_an_overlong_line_is_cut_and_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(), line_bytes=100_000)
    text = "xyzé" * 60_000
    rig.append(text.encode() + b"\n" + line(7))
    rig.finish()
    payloads = [json.loads(e.payload) for e in rig.sink.visible()]
    assert payloads[-1]["seq"] == 7
    assert "".join(p["message"] for p in payloads[:-1]) == text
    assert [p["Piece"].split()[1] for p in payloads[:-1]] == [str(n) for n in range(1, len(payloads))]


def test_a_restart_inside_an_overlong_line(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(), line_bytes=100_000)
    rig.append(b"a" * 250_000)
    rig.ship()
    rig.finish(seconds=0.0)
    rig.kill()
    rig.append(b"b" * 250_000 + b"\n")
    rig.finish()
    payloads = [json.loads(e.payload) for e in rig.sink.visible()]
    assert "".join(p["message"] for p in payloads) == "a" * 250_000 + "b" * 250_000


def test_a_backlog_is_read_in_pieces(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemorySink(), memory_bytes=1 << 20)
    written = rig.lines(20_000)
    largest = 0

    def watch(batch: Sequence[Entry]) -> Outcome:
        nonlocal largest
        largest = max(largest, sum(len(e.payload) for e in batch))
        return YES

    rig.sink.mood = watch
    rig.finish()
    assert rig.seen() == written
    assert largest < 4 * rig.settings.load_bytes


def test_a_sink_that_breaks_its_contract_ends_nothing(tmp_path: Path) -> None:
    """It raises what it should not, or refuses entries that were not sent."""
    broken: list[Exception] = [KeyError("x"), RecursionError(), AttributeError("y")]

    def mood(_: object) -> Outcome:
        if broken:
            raise broken.pop(0)
        return Outcome(OutcomeKind.DELIVERED, rejected={7: "no such entry", -1: "nor this"})

    rig = Rig(tmp_path, MemorySink(mood))
    written = rig.lines(3)
    counts = rig.finish()
    assert rig.seen() == written
    assert (counts.sent, counts.rejected, counts.left_bytes) == (3, 0, 0)
