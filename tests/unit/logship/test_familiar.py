"""A record known by its parts makes the entry that it makes when parsed as a
whole.
"""

import itertools
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


def one_by_one(given_lines: list[bytes]) -> list[Entry]:
    """Each line by a maker to which nothing is familiar."""
    found: list[Entry] = []
    at, state = 0, ""
    for line in given_lines:
        fresh = maker(at, state)
        found += fresh.feed(Chunk([line], at))
        found += fresh.flush()
        at, state = at + len(line), fresh.mark().state
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=14))
def test_familiar_or_not_a_line_makes_the_same_entry(pool: list[bytes], again: list[int]) -> None:
    told = [*pool, *(pool[n % len(pool)] for n in again)]
    found = list(maker().feed(Chunk(told, 0)))
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


def known(told: list[bytes]) -> list[bool]:
    """Whether each line is familiar after those before it."""
    familiar = Familiar(Redactor([SECRET]).suspects)
    found = []
    for line in told:
        found.append(familiar.look(line) is not None)
        if not found[-1]:
            familiar.learn(line, json.loads(line)["asctime"])
    return found


@pytest.mark.parametrize("blank", ["", " "])
def test_another_message_is_familiar_and_another_statement_place_or_second_once(blank: str) -> None:
    told = [
        record("one", blank=blank),
        record("two é \u2028 \x00", blank=blank),
        record("of another line", blank=blank, lineno=98),
        record("of another line", blank=blank, lineno=98),
        record("of the next task", blank=blank, label="warp"),
        record("of the next task", blank=blank, lineno=98, label="warp"),
        record("of the task before", blank=blank),
        record("a second later", blank=blank, second=43),
        record("a second later", blank=blank, second=43, lineno=98),
    ]
    assert known(told) == [False, True, False, True, False, True, True, False, True]


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
    familiar = Familiar(Redactor().suspects)
    for number in itertools.islice(itertools.count(), 2000):
        line = record("x", lineno=number, label=str(number))
        familiar.learn(line, f"{WHEN}844073Z")
    assert len(familiar._levels) + len(familiar._places) <= 512
