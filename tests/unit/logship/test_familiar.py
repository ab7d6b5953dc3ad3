"""A record known by its parts makes the entry that it makes when parsed as a
whole.
"""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core.base.redact import Redactor
from pilot_core.logship.contract import Chunk, Entry, Source
from pilot_core.logship.familiar import Familiar
from pilot_core.logship.record import JobContext, PayloadRecords
from pilot_core.logship.stamp import Stamps

NOW = 1_795_240_000.0  # 2026-11-21T06:26:40Z
# `PILOT_SOAK`: see test_delivery_property.py.
EXAMPLES = int(os.environ.get("PILOT_SOAK", "30000")) // 100
SECRET = "hunter2-hunter2"
WHEN = "2026-11-21T05:02:42."

# Parts as they are, and such that only look like them.
FRONTS = (
    b'{"name":"lsst.isr","asctime":"',
    b'{"name":"lsst.daf.butler","asctime":"',
    b'{"name":"hunter2-hunter2","asctime":"',
    b' {"name":"lsst.isr","asctime":"',
    b'{"name":"a\\","asctime":"',
    b'{"name":"a","asctime":"x","asctime":"',
    b'{"name":"a","TaskID":"","asctime":"',
    b'{"name":{"asctime":"',
    b'["name","asctime","',
    b"",
)
TIMES = (
    b"2026-11-21T05:02:42.844073",
    b"2026-11-21T05:02:42.000001",
    b"2026-11-21T05:02:43.844073",
    b'2026-11-21"05:02:42.844073',
    b'2026-11-21T05:02:42."44073',
    "2026-11-21T05:02:42.84407٣".encode(),
    b"1999-11-21T05:02:42.844073",
    b"2026-11-21T05:02:42",
    b"",
)
MESSAGES = (
    b"Amp C10: overscan median 1000.050",
    "σ = 3 \u2028".encode(),
    b'with \\"quotes\\" and \\n a newline, \\u00e9',
    b"the secret is hunter2-hunter2",
    b"the secret is hunter2\\u002dhunter2",
    b"Authorization: Bearer abcdefghijkl",
    b'","levelno":40,"levelname":"ERROR","x":"',
    b'\\","levelno":40,"levelname":"ERROR',
    b'Z","message":"',
    b"{}",
    b"\\",
    b'"',
    b"\xff\xfe",
    b"\x00",
    b"\\ud800",
    b"",
)
STATEMENTS = (
    b'15,"levelname":"VERBOSE","filename":"a.py","pathname":"/a.py","lineno":97,"funcName":"run"',
    b'40,"levelname":"ERROR","filename":"b.py","pathname":"/b.py","lineno":9,"funcName":"<module>"',
    b'40,"levelname":["ERROR"],"filename":"b.py","pathname":"/b.py","lineno":9,"funcName":"x"',
    b'40,"levelname":"INFO","filename":"b.py","pathname":"/b.py","lineno":9,"funcName":"x","RequestID":7',
    b'15,"levelname":"VERBOSE","filename":"a.py","pathname":"/a.py","lineno":97',
    b'15,"levelname":"VERBOSE","filename":"a.py","pathname":"/a.py","lineno":97,"funcName":"x","y":{"z":1',
    b'15,"message":"another"',
    b"15",
    b"",
)
PLACES = (
    b'12,"processName":"MainProcess","MDC":{"LABEL":"isr:{}","RUN":"u/x"}}\n',
    b'13,"processName":"task-{}","MDC":{}}\n',
    b'13,"processName":"P","MDC":{"LABEL":"hunter2-hunter2"}}\n',
    b'13,"processName":"P","MDC":{"LABEL":"x"},"exc_info":"Traceback"}\n',
    b'13,"processName":"P","MDC":{}}{"a":1}\n',
    b'13,"processName":"P","MDC":{}}',
    b'13,"processName":"P","MDC":{}} \n',
    b"13}}\n",
    b"\n",
)


def mostly(good: int, parts: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """One of the first `good` parts in three cases of four."""
    return st.integers(0, 3).flatmap(lambda n: st.sampled_from(parts[:good] if n else parts))


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line made of parts; in one case of eight with any byte in any place."""
    made = (
        draw(mostly(3, FRONTS))
        + draw(mostly(3, TIMES))
        + b'Z","message":"'
        + draw(mostly(4, MESSAGES) | st.text(max_size=9).map(lambda t: json.dumps(t)[1:-1].encode()))
        + b'","levelno":'
        + draw(mostly(2, STATEMENTS))
        + b',"process":'
        + draw(mostly(2, PLACES))
    )
    if draw(st.booleans()):
        made = made.replace(b'Z","message"', b'+00:00","message"').replace(b":", b": ").replace(b',"', b', "')
        made = made.replace(b"05: 02: 4", b"05:02:4").replace(b"+00: 00", b"+00:00")
    if not draw(st.integers(0, 7)):
        at = draw(st.integers(0, len(made)))
        made = made[:at] + draw(st.binary(max_size=1)) + made[at + draw(st.integers(0, 1)) :]
    return made.replace(b"\n", b"") + b"\n" if made.count(b"\n") > 1 else made


def maker(offset: int = 0, state: str = "") -> PayloadRecords:
    source = Source(Path("/w/payload-log.json"), "abcd.0000.1", NOW - 9000.0, offset, state)
    return PayloadRecords(
        JobContext("77", "4242", "9", "h1", 5),
        source,
        entry_bytes=240_000,
        redactor=Redactor([SECRET]),
        now=lambda: NOW,
    )


def as_a_whole(line: bytes, at: int, state: str) -> tuple[list[Entry], str]:
    """Entries of a line by a maker to which nothing is familiar, and its state.

    A secret in the line before makes it look at each line as a whole.
    """
    fresh = maker(at, state)
    before = b"".join((FRONTS[0], fresh.mark().state[:26].encode(), b'Z","message":"', SECRET.encode()))
    before += b'","levelno":' + STATEMENTS[0] + b',"process":' + PLACES[0]
    (hidden, *found) = fresh.feed(Chunk([before, line], at - len(before)))
    assert SECRET.encode() not in hidden.payload
    return [*found, *fresh.flush()], fresh.mark().state


def one_by_one(given_lines: list[bytes]) -> list[Entry]:
    """Entries of the lines, each looked at as a whole."""
    found: list[Entry] = []
    at, state = 0, ""
    for line in given_lines:
        entries, state = as_a_whole(line, at, state)
        found += entries
        at += len(line)
    return found


def in_chunks(given_lines: list[bytes], size: int) -> list[Entry]:
    """Entries of the lines by one maker, so many lines at a time."""
    found: list[Entry] = []
    at, records = 0, maker()
    for first in range(0, len(given_lines), size):
        chunk = given_lines[first : first + size]
        found += records.feed(Chunk(chunk, at))
        at += sum(map(len, chunk))
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(lines(), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=14), st.integers(1, 20)
)
def test_familiar_or_not_a_line_makes_the_same_entry(pool: list[bytes], again: list[int], size: int) -> None:
    told = [*pool, *(pool[n % len(pool)] for n in again)]
    found = in_chunks(told, size)
    assert found == one_by_one(told)
    for entry in found:
        read = json.loads(entry.payload)
        assert isinstance(read, dict)
        assert SECRET not in json.dumps(read)


def record(message: str, *, second: int = 42, lineno: int = 97, label: str = "isr", blank: str = "") -> bytes:
    """A record as the stack writes it."""
    fields = {
        "name": "lsst.isr",
        "asctime": f"2026-11-21T05:02:{second}.844073" + ("+00:00" if blank else "Z"),
        "message": message,
        "levelno": 15,
        "levelname": "VERBOSE",
        "filename": "tasks.py",
        "pathname": "/opt/tasks.py",
        "lineno": lineno,
        "funcName": "run",
        "process": 12348,
        "processName": "MainProcess",
        "MDC": {"LABEL": label, "RUN": "u/test"},
    }
    return json.dumps(fields, separators=(f",{blank}", f":{blank}")).encode() + b"\n"


def familiar() -> Familiar:
    return Familiar(Redactor([SECRET]), Stamps("", NOW - 9000.0), 40_000)


def known(looks: Familiar, told: list[bytes]) -> list[bool]:
    """Which of the lines are familiar."""
    return [level is not None for level, _ in looks.looks(told)]


@pytest.mark.parametrize("blank", ["", " "])
def test_a_record_made_of_parts_is_familiar_and_each_part_may_be_new(blank: str) -> None:
    told = [
        record("one", blank=blank),
        record("two é \u2028 \x00", blank=blank),
        record("of another line", blank=blank, lineno=98),
        record("of the next task", blank=blank, label="warp"),
        record("of the task before", blank=blank),
        record("a second later", blank=blank, second=43),
    ]
    found = list(familiar().looks(told))
    assert found[0] == ("DEBUG", f"{WHEN}844073Z")
    assert found[-1] == ("DEBUG", f"{WHEN[:-2]}3.844073Z")
    assert known(familiar(), told) == [True] * 6


@pytest.mark.parametrize(
    "line",
    [
        b"plain text\n",
        record("x")[:-1],
        record("x", label=SECRET),
        record("x", second=99),
        record("x").replace(b'"run"', b'"run","TaskID":"9"'),
        record("x").replace(b'"run"', b'"run'),
        record("x").replace(b'"name"', b'"Name"'),
        record("x").replace(b"}}", b"}}}"),
        record("x").replace(b'{"LABEL"', b'{"LABEL":1e999,"x"'),
        record("x").replace(b"{", b" {", 1),
        record("x").replace(b'"isr"', b"[" * 80 + b"1" + b"]" * 80),
        record("x").replace(b'"isr"', b'"hunter2\\u002dhunter2"'),
    ],
)
def test_what_else_a_line_may_be_is_not_familiar(line: bytes) -> None:
    assert known(familiar(), [record("x"), line, record("x")]) == [True, False, True]


@pytest.mark.parametrize(
    ("messages", "sound"),
    [
        ([b"the secret is hunter2-hunter2"], [False]),
        ([b"\\u0065yJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"], [False]),
        ([b"nsig=5, which is long and no secret"], [True]),
        ([b'one","x":"two'], [False]),
        ([b'one","two', b"three"], [False, True]),
        ([b'one",["two', b"three", b'four"],"five'], [False, True, False]),
        ([b"a backslash at the end\\", b',"and a string'], [False, False]),
        ([b"\xc3", b"\xa9"], [False, False]),
        ([b"\x00", b'quotes \\"and\\" more'], [False, True]),
    ],
)
def test_a_message_that_is_none_or_has_a_secret_is_found_among_others(
    messages: list[bytes], sound: list[bool]
) -> None:
    before, behind = record("x").split(b'x","levelno"')
    told = [before + message + b'","levelno"' + behind for message in (b"good", *messages, b"good")]
    assert known(familiar(), told) == [True, *sound, True]


def test_a_line_that_is_long_is_not_familiar() -> None:
    assert known(familiar(), [record("x" * 39_000)]) == [True]
    assert known(familiar(), [record("x" * 40_000)]) == [False]


@pytest.mark.parametrize("fraction", [b"84407x", b"8440.3", "84407٣".encode(), b"8440-3", b" 44073"])
def test_a_time_that_is_none_is_found_among_others(fraction: bytes) -> None:
    odd = record("x").replace(b"844073", fraction)
    assert known(familiar(), [record("x"), odd, record("x")]) == [True, False, True]


def test_a_secret_that_comes_late_is_looked_for_in_what_was_clean() -> None:
    redactor = Redactor()
    source = Source(Path("/w/payload-log.json"), "abcd.0000.1", NOW)
    records = PayloadRecords(JobContext(), source, entry_bytes=0, redactor=redactor, now=lambda: NOW)
    line = record("x", label=SECRET)
    before = records.feed(Chunk([line, line], 0))
    redactor.add(SECRET)
    after = records.feed(Chunk([line, line], 2 * len(line)))
    assert [SECRET.encode() in e.payload for e in (*before, *after)] == [True, True, False, False]


def test_a_log_that_never_repeats_itself_does_not_fill_the_memory() -> None:
    looks = familiar()
    for number in range(2000):
        line = record("x", lineno=number, label=str(number), second=10 + number % 50)
        assert known(looks, [line]) == [True]
    assert len(looks._levels) + len(looks._places) + len(looks._heads) <= 768
