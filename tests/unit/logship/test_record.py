"""Lines of the payload's log -> entries."""

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core.base.redact import Redactor
from pilot_core.logship import jsontext
from pilot_core.logship.contract import Chunk, Entry, Mark, Source
from pilot_core.logship.record import JobContext, PayloadRecords
from pilot_core.logship.split import struct_size

CONTEXT = JobContext(
    task_id="77", panda_job_id="4242", harvester_worker_id="9", harvester_id="h1", request_id=5
)
IDS = {"TaskID": "77", "PandaJobID": "4242", "Harvester_WorkerID": "9", "Harvester_ID": "h1", "RequestID": 5}
NOW = 1_700_000_000.25
SINCE = "2023-11-14T22:13:20.000000Z"

CURRENT = (
    b'{"name":"lsst.isr","asctime":"2023-11-14T22:00:01.844073Z","message":"caf\xc3\xa9 {\\"a\\": 1}",'
    b'"levelno":15,"levelname":"VERBOSE","filename":"tasks.py","pathname":"/opt/tasks.py","lineno":97,'
    b'"funcName":"run","process":12,"processName":"MainProcess",'
    b'"MDC":{"LABEL":"isr:{detector: 0}","RUN":"u/x"}}\n'
)
OLD = (
    b'{"name": "lsst.isr", "asctime": "2023-11-14T22:00:02.5+00:00", "message": "\\u03c3 \\ud83d\\ude00", '
    b'"levelno": 40, "levelname": "ERROR", "exc_info": "Traceback\\n  boom", "MDC": {}}\n'
)


def maker(
    context: JobContext = CONTEXT,
    *,
    state: str = "",
    limit: int = 0,
    redactor: Redactor | None = None,
    offset: int = 0,
) -> PayloadRecords:
    source = Source(Path("/j/payload-log.json"), "abc.0000.1f", 1_700_000_000.0, offset, state)
    return PayloadRecords(
        context, source, entry_bytes=limit, redactor=redactor or Redactor(), now=lambda: NOW
    )


def feed(data: bytes, **options: Any) -> list[Entry]:
    made = maker(**options)
    return [
        *made.feed(Chunk(data.splitlines(keepends=True) if b"\r" not in data else [data], 0)),
        *made.flush(),
    ]


def only(data: bytes, **options: Any) -> tuple[Entry, dict[str, Any]]:
    (entry,) = feed(data, **options)
    return entry, json.loads(entry.payload)


@pytest.mark.parametrize("line", [CURRENT, OLD], ids=["current", "2022"])
def test_a_record_keeps_its_bytes_behind_the_pilots_fields(line: bytes) -> None:
    entry, payload = only(line)
    assert entry.payload.endswith(line[1:-1])
    assert list(payload)[:6] == [*IDS, "PilotTimeStamp"]
    assert payload == {**IDS, "PilotTimeStamp": NOW, **json.loads(line)}


def test_the_second_of_a_shape_is_made_like_the_first() -> None:
    first, second = feed(CURRENT + CURRENT)
    assert first.payload == second.payload
    assert (first.severity, first.timestamp) == (second.severity, second.timestamp)
    assert second.insert_id == f"4242-abc.0000.1f-{10**13 + len(CURRENT)}"


def test_time_and_level_are_the_records_own() -> None:
    assert only(CURRENT)[0][1:3] == ("DEBUG", "2023-11-14T22:00:01.844073Z")
    assert only(OLD)[0][1:3] == ("ERROR", "2023-11-14T22:00:02.500000Z")


def test_a_message_that_looks_like_json_stays_a_string() -> None:
    assert only(CURRENT)[1]["message"] == 'café {"a": 1}'


def test_ids_that_are_not_known_are_left_out() -> None:
    payload = only(CURRENT, context=JobContext(panda_job_id="1"))[1]
    assert not {"TaskID", "Harvester_WorkerID", "Harvester_ID", "RequestID"} & set(payload)
    assert "PilotTimeStamp" in payload


@pytest.mark.parametrize("name", [*IDS, "PilotTimeStamp"])
def test_the_pilots_fields_win(name: str) -> None:
    line = json.dumps({"message": "x", name: "forged", "n": 12345678901234567890123}).encode() + b"\n"
    for _, payload in (only(line), (None, json.loads(feed(line + line)[1].payload))):
        assert payload[name] == {**IDS, "PilotTimeStamp": NOW}[name]
        assert payload["message"] == "x"
        assert payload["n"] == 12345678901234567890123


TEXTS = {
    "plain": (b"hello world\n", "hello world"),
    "broken JSON": (b'{"a": 1\n', '{"a": 1'),
    "not UTF-8": (b'{"message":"\xff\xfe"}\n', '{"message":"\\xff\\xfe"}'),
    "NUL": (b"a\0b\n", "a\0b"),
    "raw control character in JSON": (b'{"message":"\x01"}\n', '{"message":"\x01"}'),
    "lone surrogate": (b'{"message":"\\ud800"}\n', '{"message":"\\ud800"}'),
    "scalar": (b"3.14\n", "3.14"),
    "string": (b'"text"\n', '"text"'),
    "list": (b'[{"a":1}]\n', '[{"a":1}]'),
    "NaN": (b'{"x":NaN}\n', '{"x":NaN}'),
    "too deep": (b'{"x":' + b"[" * 80 + b"]" * 80 + b"}\n", '{"x":' + "[" * 80 + "]" * 80 + "}"),
    "unicode line ends": ("a\u2028b\x85c\n".encode(), "a\u2028b\x85c"),
    "leading blanks": (b"    indented\n", "    indented"),
    "carriage return": (b"dos\r\n", "dos\r"),
    "object and rubbish": (b'{"a":1} rubbish\n', '{"a":1} rubbish'),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_everything_else_is_text_with_nothing_lost(kind: str) -> None:
    line, text = TEXTS[kind]
    entry, payload = only(line)
    assert payload == {**IDS, "PilotTimeStamp": NOW, "message": text}
    assert (entry.severity, entry.timestamp) == ("INFO", SINCE)


def test_blank_lines_are_passed_over_and_the_mark_moves() -> None:
    made = maker()
    assert made.feed(Chunk([b"\n", b"  \n"], 0)) == []
    assert made.mark() == Mark(4, SINCE)


def test_an_object_with_blanks_around_it_is_a_record() -> None:
    assert only(b'  {"message":"x"} \r\n')[1]["message"] == "x"
    assert only(b"{}\n")[1] == {**IDS, "PilotTimeStamp": NOW}


def test_a_text_line_with_rubins_prefix_has_its_level_and_time() -> None:
    entry, _ = only(b"VERBOSE 2023-11-14T22:00:03.694+00:00 lsst.isr (isr:{})(tasks.py:97) - done\n")
    assert entry[1:3] == ("DEBUG", "2023-11-14T22:00:03.694000Z")


def test_a_line_without_a_time_has_that_of_the_one_before_it() -> None:
    entries = feed(CURRENT + b"Traceback\n" + b'{"message":"x","asctime":"nonsense"}\n')
    assert {e.timestamp for e in entries} == {"2023-11-14T22:00:01.844073Z"}


@pytest.mark.parametrize(
    "asctime", ["2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "0000", "", "9999-12-31T23:59:59-23:00"]
)
def test_a_time_that_the_service_would_not_store_is_not_used(asctime: str) -> None:
    entries = feed(CURRENT + json.dumps({"asctime": asctime, "message": "x"}).encode() + b"\n")
    assert entries[1].timestamp == "2023-11-14T22:00:01.844073Z"
    assert json.loads(entries[1].payload)["asctime"] == asctime


def test_objects_run_together_are_records_of_their_own() -> None:
    entries = feed(CURRENT[:-1] + OLD[:-1] + b" " + CURRENT)
    assert [json.loads(e.payload)["message"] for e in entries] == ['café {"a": 1}', "σ 😀", 'café {"a": 1}']
    offsets = [int(e.insert_id.rsplit("-", 1)[1]) - 10**13 for e in entries]
    assert offsets == [0, len(CURRENT) - 1, len(CURRENT) + len(OLD) - 1]


def test_the_trailer_is_one_entry() -> None:
    entries = feed(CURRENT + b'###EXTRA###\n{"exc": {"asctime": 1}}\n' + OLD)
    payloads = [json.loads(e.payload) for e in entries]
    assert (payloads[1]["message"], payloads[1]["extra"]) == ("###EXTRA###", {"exc": {"asctime": 1}})
    assert [p["message"] for p in payloads[::2]] == ['café {"a": 1}', "σ 😀"]


def test_the_trailers_marker_waits_for_its_document() -> None:
    made = maker()
    assert made.feed(Chunk([b"###EXTRA###\n"], 100)) == []
    assert made.mark().offset == 100
    assert [json.loads(e.payload)["message"] for e in made.flush()] == ["###EXTRA###"]
    assert made.mark().offset == 112


def test_a_trailer_without_a_document_loses_nothing() -> None:
    entries = feed(b"###EXTRA###\nplain\n" + CURRENT)
    assert [json.loads(e.payload)["message"] for e in entries] == ["###EXTRA###", "plain", 'café {"a": 1}']


LIMIT = 10_000


@pytest.mark.parametrize("filler", ["x", "é", "\\", "\n", "\x01", "😀"])
def test_an_oversize_record_is_cut_at_its_longest_text(filler: str) -> None:
    record = json.loads(CURRENT) | {"message": filler * 30_000}
    entries = feed(json.dumps(record, ensure_ascii=False).encode() + b"\n", limit=LIMIT)
    payloads = [json.loads(e.payload) for e in entries]
    assert "".join(p["message"] for p in payloads) == filler * 30_000
    assert [p["Part"] for p in payloads] == [f"{n} of {len(payloads)}" for n in range(1, len(payloads) + 1)]
    assert {p["PartOf"] for p in payloads} == {"4242-abc.0000.1f-10000000000000"}
    assert all(p["levelname"] == "VERBOSE" and p["TaskID"] == "77" for p in payloads)
    assert {e.timestamp for e in entries} == {"2023-11-14T22:00:01.844073Z"}
    assert all(len(e.payload) <= LIMIT for e in entries)
    ids = [e.insert_id for e in entries]
    assert ids == sorted(set(ids))


def test_an_oversize_record_without_one_long_text_goes_as_text() -> None:
    record = {"message": "m", "MDC": {str(n): "x" * 100 for n in range(500)}}
    entries = feed(json.dumps(record).encode() + b"\n", limit=LIMIT)
    text = "".join(json.loads(e.payload)["message"] for e in entries)
    assert json.loads(text) == record
    assert all(len(e.payload) <= LIMIT for e in entries)


def test_a_list_of_numbers_is_as_large_as_the_service_counts_it() -> None:
    line = b'{"message":"m","x":[' + b",".join([b"1"] * 2000) + b"]}\n"
    assert len(line) < LIMIT < struct_size(json.loads(line))
    entries = feed(line, limit=LIMIT)
    assert "".join(json.loads(e.payload)["message"] for e in entries) == line.decode().strip()


def test_oversize_text() -> None:
    entries = feed(b"\xff" * 30_000 + b"\n", limit=LIMIT)
    assert "".join(json.loads(e.payload)["message"] for e in entries) == "\\xff" * 30_000


def test_secrets_do_not_leave() -> None:
    redactor = Redactor(['pa"ss wörd'])
    lines = [
        CURRENT,
        json.dumps({"message": 'it is pa"ss wörd here', "n": 1}).encode() + b"\n",
        json.dumps({"message": "x", "MDC": {"REPO": "u:AKIAABCDEFGHIJKLMNOP@h"}}).encode() + b"\n",
        json.dumps({"message": "x", "list": [{"deep": "Bearer abcdefgh12345678"}]}).encode() + b"\n",
        b"text with Bearer abcdefgh12345678\n",
    ]
    once = feed(b"".join(lines), redactor=redactor)
    again = feed(b"".join(lines * 2), redactor=redactor)
    for entries in (once, again):
        everything = b"".join(e.payload for e in entries)
        for secret in (b'pa\\"ss', b"AKIAABC", b"abcdefgh1234"):
            assert secret not in everything
    assert json.loads(once[1].payload)["message"] == "it is *** here"
    assert json.loads(once[1].payload)["n"] == 1


def test_a_hint_alone_changes_nothing() -> None:
    line = json.dumps({"message": "signature=ok, the bearer of news", "n": 1.0}).encode() + b"\n"
    assert all(e.payload.endswith(line[1:-1]) for e in feed(line + line))


def test_the_state_goes_on_where_another_maker_stopped() -> None:
    first = maker()
    first.feed(Chunk([CURRENT], 0))
    mark = first.mark()
    second = maker(state=mark.state, offset=mark.offset)
    (entry,) = second.feed(Chunk([b"text\n"], mark.offset))
    assert entry.timestamp == "2023-11-14T22:00:01.844073Z"


@pytest.mark.parametrize(
    "odd", [b'{"message":"x","levelname":["INFO"]}', b'["message","levelname"]', b'"message"', b"12"]
)
def test_odd_lines_behind_a_known_shape(odd: bytes) -> None:
    usual = b'{"message":"x","levelname":"INFO"}\n'
    entries = feed(usual + odd + b"\n" + usual)
    assert len(entries) == 3
    assert entries[0].payload == entries[2].payload


def test_a_secret_does_not_hide_behind_a_name_that_stands_twice() -> None:
    entry, payload = only(b'{"a":"hunter2-hunter2","a":"x"}\n', redactor=Redactor(["hunter2-hunter2"]))
    assert b"hunter2" not in entry.payload
    assert payload["a"] == "x"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), values, max_size=6), st.booleans())
def test_any_object_arrives_whole(record: dict[str, Any], ascii_only: bool) -> None:
    try:
        line = json.dumps(record, ensure_ascii=ascii_only).encode()
        jsontext.loads(line)
    except ValueError:
        return  # a lone surrogate: text, tested above
    _, payload = only(line + b"\n") if b"\n" not in line else (None, record)
    ours = {*IDS, "PilotTimeStamp"}
    assert {k: v for k, v in payload.items() if k not in ours} == {
        k: v for k, v in record.items() if k not in ours
    }


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 5))
def test_any_bytes_make_valid_entries_however_they_are_cut(data: bytes, step: int) -> None:
    lines = [x + b"\n" for x in data.split(b"\n")]
    whole = maker()
    first = [*whole.feed(Chunk(lines, 0)), *whole.flush()]
    cut = maker()
    second: list[Entry] = []
    at = 0
    for start in range(0, len(lines), step):
        part = lines[start : start + step]
        second += cut.feed(Chunk(part, at))
        at += sum(map(len, part))
    second += cut.flush()
    assert first == second
    assert all(isinstance(json.loads(e.payload.decode("utf-8")), dict) for e in first)
    assert whole.mark() == cut.mark() == Mark(sum(map(len, lines)), SINCE)


def test_cost_of_the_common_line_stays_small() -> None:
    """A guard against a slow path taken by every line, not a benchmark."""
    made = maker()
    lines = [CURRENT] * 2000
    made.feed(Chunk(lines, 0))
    start = time.process_time()
    made.feed(Chunk(lines, 0))
    ours = time.process_time() - start
    start = time.process_time()
    for line in lines:
        jsontext.loads(line)
    assert ours < 30 * (time.process_time() - start)


WITHOUT_ORJSON = """
import runpy, sys
sys.modules["orjson"] = None
sys.path.insert(0, sys.argv[2])
here = runpy.run_path(sys.argv[1])
assert here["jsontext"].loads is here["jsontext"].loads_plain
data = sys.stdin.buffer.read()
for entry in here["feed"](data, limit=5000):
    print(entry)
"""


def test_without_orjson_the_entries_are_the_same() -> None:
    odd = b"".join(line for line, _ in TEXTS.values() if b"\r" not in line)
    big = json.dumps({"message": "é" * 9000, "n": 1.5, "TaskID": "forged"}).encode() + b"\n"
    data = CURRENT * 2 + OLD * 2 + odd + big + CURRENT[:-1] + OLD
    script = Path(__file__)
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_ORJSON, str(script), str(script.parents[3])],
        input=data,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.decode().splitlines() == [str(entry) for entry in feed(data, limit=5000)]


#: 3 MB each: as Python objects they would take 50 to 200 MB.
CROWDS = {
    "numbers": b'{"a":[' + b",".join([b"1.5"] * 800_000) + b"]}",
    "objects": b'{"a":[' + b",".join([b'{"b":1}'] * 400_000) + b"]}",
    "run together": b'{"b":1}' * 400_000,
}


@pytest.mark.parametrize("name", CROWDS)
def test_a_large_line_of_very_many_values_is_text(name: str) -> None:
    line = CROWDS[name]
    tracemalloc.start()
    entries = maker().feed(Chunk([line + b"\n"], 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "".join(json.loads(e.payload)["message"] for e in entries).encode() == line
    assert peak < 12 * len(line)


def test_a_large_record_of_few_values_stays_one() -> None:
    line = json.dumps({"message": "a, b; " * 300_000, "levelname": "ERROR"}).encode() + b"\n"
    (entry,) = maker().feed(Chunk([line], 0))
    assert entry.severity == "ERROR"
    assert json.loads(entry.payload)["message"] == "a, b; " * 300_000
