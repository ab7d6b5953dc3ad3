"""Lines of the worker's log -> records, for our pilot's log and for pilot3's."""

import json
import logging
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core import loglines
from pilot_core.base.logs import line_formatter
from pilot_core.base.redact import Redactor
from pilot_core.jobs.definition import read_definition
from pilot_core.logship.contract import Chunk, Entry, Source
from pilot_core.model.codes import ErrorCode
from pilot_starter.workerlog import WorkerRecords

T = "2026-11-21 08:51:00,"


def long(level: str, name: str, function: str, message: str, ms: int = 123) -> str:
    return f"{T}{ms:03d} | {level:<8} | {name:<32} | {function:<25} | {message}\n"


# What pilot3 3.11 writes around a failed payload, shortened.
PILOT3 = (
    "This is ATLAS pilot wrapper version 20200528a\n"
    + f"{T}001 [wrapper] ==== wrapper stdout BEGIN ====\n"
    + long("INFO", "pilot.control.job", "retrieve", "asking for a job", 2)
    + long(
        "INFO",
        "pilot.control.job",
        "dump_job_definition",
        "job definition = {'PandaID': 5100002, 'jobName': 'isr | step', 'jobPars': 'a|b', 'x': None}",
        3,
    )
    + long("INFO", "pilot.control.payloads.generic", "run", "", 4)
    + "\n"
    + "finished pid=77 exit_code=1 state=failed\n"
    + "\n"
    + long(
        "WARNING",
        "pilot.control.payload",
        "perform_initial_payload_error_analysis",
        "main payload execution returned non-zero exit code: 1",
        5,
    )
    + long("DEBUG", "pilot.user.rubin.diagnose", "interpret_payload_stdout", "payload stdout dump", 6)
    + "stdout text\n"
    + long("DEBUG", "pilot.user.rubin.diagnose", "interpret_payload_stderr", "payload stderr dump", 7)
    + "".join(f"line {n}\n\n" for n in range(20))
    + "2026-11-21 08:50:59,999 a payload's own line with a time\n"
    + "RuntimeError: bad pixel\n"
    + long("WARNING", "pilot.util.https", "add_error_codes", "pilotErrorCodes = [1305] (will)", 8)
    + long("INFO", "pilot.control.job", "check_job_monitor_waiting_time", "ready for new job", 9)
    + long("WARNING", "pilot.util.https", "add_error_codes", "pilotErrorCodes = []", 10)
)


#: 2026-11-21T08:50:00Z
SINCE = 1_795_251_000.0


def make(text: bytes, *, cut: Callable[[int], Sequence[int]] | None = None, **kwargs: object) -> list[Entry]:
    maker = WorkerRecords(Source(Path("log"), "f1", SINCE), hostname="pod-1", redactor=Redactor())
    entries: list[Entry] = []
    offset = 0
    lines = text.splitlines(keepends=True) if b"\r" not in text else re.findall(rb"[^\n]*\n|[^\n]+$", text)
    sizes = cut(len(lines)) if cut else [len(lines)]
    for size in sizes:
        part, lines = lines[:size], lines[size:]
        entries += maker.feed(Chunk(part, offset))
        offset += sum(map(len, part))
    entries += maker.flush()
    return entries


def bodies(entries: Sequence[Entry]) -> list[dict[str, str]]:
    return [json.loads(entry.payload) for entry in entries]


def test_only_dated_lines_become_records() -> None:
    found = make(b"no time\n" + PILOT3.encode())
    assert bodies(found)[0]["message"] == "[wrapper] ==== wrapper stdout BEGIN ===="
    assert found[0].timestamp == "2026-11-21T08:51:00.001000Z"
    assert all(body["hostname"] == "pod-1" for body in bodies(found))
    assert len(found) == 10


def test_job_is_known_from_its_definition_until_ready_for_new_job() -> None:
    found = bodies(make(PILOT3.encode()))
    assert [body.get("PandaJobID") for body in found] == [None, None, *["5100002"] * 6, None, None]
    assert found[2]["jobName"] == "isr | step"
    assert "jobName" not in found[-1]


def test_severity_is_the_pilots_and_error_where_a_failure_is_explained() -> None:
    assert [entry.severity for entry in make(PILOT3.encode())] == [
        *("INFO", "INFO", "INFO", "INFO", "ERROR", "DEBUG", "ERROR", "ERROR", "INFO", "WARNING")
    ]


def test_nothing_is_promoted_after_a_payload_that_succeeded() -> None:
    text = PILOT3.replace("exit_code=1 state=failed", "exit_code=0 state=finished")
    assert "ERROR" not in {entry.severity for entry in make(text.encode())}


def test_stderr_dump_carries_its_last_ten_lines() -> None:
    (dump,) = [b["message"] for b in bodies(make(PILOT3.encode())) if "stderr dump" in b["message"]]
    lines = dump.split("\n")
    assert lines[0].endswith("payload stderr dump")
    assert lines[1:] == [
        *(f"line {n}" for n in range(12, 20)),
        "2026-11-21 08:50:59,999 a payload's own line with a time",
        "RuntimeError: bad pixel",
    ]


def test_block_with_the_payloads_end_stays_with_its_record() -> None:
    found = [b["message"] for b in bodies(make(PILOT3.encode())) if "finished pid" in b["message"]]
    assert len(found) == 1


def test_traceback_of_an_error_stays_with_it() -> None:
    text = long("ERROR", "pilot", "main", "it broke") + "Traceback:\n  File x\nValueError: y\n"
    (entry,) = make(text.encode())
    assert entry.severity == "ERROR"
    assert bodies([entry])[0]["message"].endswith("it broke\nTraceback:\n  File x\nValueError: y")


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        *(("DEBUG", "DEBUG"), ("INFO", "INFO"), ("WARN", "WARNING"), ("WARNING", "WARNING")),
        *(("ERROR", "ERROR"), ("FATAL", "CRITICAL"), ("CRITICAL", "CRITICAL"), ("STRANGE", "INFO")),
    ],
)
def test_levels(level: str, severity: str) -> None:
    (entry,) = make(f"{T}123 | {level:<8} | text\n".encode())
    assert entry.severity == severity


@pytest.mark.parametrize("line", ["2026-13-41 08:51:00,123 | INFO     | x", "1926-01-01 00:00:00,000 x", "x"])
def test_lines_without_a_valid_time_are_no_records(line: str) -> None:
    assert make(line.encode() + b"\n") == []


def test_bytes_that_are_not_utf8_arrive_as_text() -> None:
    (entry,) = make(f"{T}123 | INFO     | caf".encode() + b"\xe9 \x00\xff\n")
    assert json.loads(entry.payload)["message"].startswith("INFO     | caf\ufffd")


def test_secrets_are_masked() -> None:
    maker = WorkerRecords(Source(Path("log"), "f1", SINCE), hostname="h", redactor=Redactor(["geheimnis"]))
    (entry,) = maker.feed(Chunk([f"{T}123 | INFO     | token geheimnis\n".encode()], 0))
    assert b"geheimnis" not in entry.payload


@pytest.mark.parametrize("words", ["job definition = {'PandaID': 666, 'jobName': 'x'}", "ready for new job"])
def test_a_name_inside_a_message_tells_of_no_job(words: str) -> None:
    """A payload names its files as it likes."""
    real = long("INFO", "p", "f", "job definition = {'PandaID': 77, 'jobName': 'n'}")
    named = long("WARNING", "p", "f", f"x | {words}") + f"{T}123 | ERROR    | not stored: {words}\n"
    found = bodies(make((real + named).encode()))
    assert [body["PandaJobID"] for body in found] == ["77"] * 3


def test_definition_that_was_cut_still_names_the_job() -> None:
    text = long("INFO", "p", "f", "job definition = {'PandaID': 77, 'jobName': 'n', 'jobPars': 'cut he")
    (body,) = bodies(make(text.encode()))
    assert (body["PandaJobID"], body["jobName"]) == ("77", "n")


def test_huge_error_is_bounded() -> None:
    text = long("ERROR", "p", "f", "x" * 300_000) + "".join(f"{n} {'y' * 100}\n" for n in range(50_000))
    (entry,) = make(text.encode())
    assert len(entry.payload) < 200_000
    assert b"lines left out" in entry.payload


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_cutting_makes_the_same_records(data: st.DataObject) -> None:
    def cut(count: int) -> list[int]:
        sizes: list[int] = []
        while sum(sizes) < count:
            sizes.append(data.draw(st.integers(1, 7)))
        return sizes

    text = PILOT3.encode() * 2
    assert make(text, cut=cut) == make(text)


@pytest.mark.parametrize("seed", range(20))
def test_restart_at_any_mark_makes_the_same_records(seed: int) -> None:
    lines = (PILOT3 * 2).encode().splitlines(keepends=True)
    choose = random.Random(seed)
    got: dict[str, Entry] = {}
    source = Source(Path("log"), "f1", SINCE)
    index = offset = 0
    maker = WorkerRecords(source, hostname="pod-1", redactor=Redactor())
    while index < len(lines):
        got.update({e.insert_id: e for e in maker.feed(Chunk([lines[index]], offset))})
        offset += len(lines[index])
        index += 1
        if choose.random() < 0.2:
            mark = maker.mark()
            while offset > mark.offset:
                index -= 1
                offset -= len(lines[index])
            source = Source(Path("log"), "f1", SINCE, offset=mark.offset, state=mark.state)
            maker = WorkerRecords(source, hostname="pod-1", redactor=Redactor())
            # Far enough to get beyond an open record, however often it is
            # begun again.
            for _ in range(60):
                if index < len(lines):
                    got.update({e.insert_id: e for e in maker.feed(Chunk([lines[index]], offset))})
                    offset += len(lines[index])
                    index += 1
    got.update({e.insert_id: e for e in maker.flush()})
    assert sorted(got.values()) == sorted(make((PILOT3 * 2).encode()))


@pytest.mark.parametrize("state", ["x", "{}", '{"a":1}', "[]", '{"time":5}', '{"failed":"no"}', "[" * 99_999])
def test_a_state_that_tells_nothing_starts_anew(state: str) -> None:
    made = WorkerRecords(Source(Path("log"), "f1", SINCE, state=state), hostname="h", redactor=Redactor())
    made.feed(Chunk([long("ERROR", "p", "f", "it broke").encode()], 0))
    assert len(made.flush()) == 1


def test_lines_after_a_flush_make_a_record_of_their_own() -> None:
    maker = WorkerRecords(Source(Path("log"), "f1", SINCE), hostname="h", redactor=Redactor())
    head = long("ERROR", "p", "f", "it broke").encode()
    assert maker.feed(Chunk([head], 0)) == []
    (first,) = maker.flush()
    assert maker.mark().offset == len(head)
    assert maker.feed(Chunk([b"Traceback\n"], len(head))) == []
    (second,) = maker.flush()
    assert (first.severity, second.severity) == ("ERROR", "ERROR")
    assert json.loads(second.payload)["message"] == "Traceback"
    assert first.insert_id < second.insert_id


@pytest.mark.parametrize("debug", [True, False])
def test_our_own_pilots_lines_are_understood(debug: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(line_formatter(debug=debug))
    definition = {
        "PandaID": "12",
        "attemptNr": 1,
        "transformation": "t",
        "jobPars": "a|b",
        "jobName": "isr | 1",
    }
    loglines.dump_job_definition(read_definition(definition))
    loglines.payload_finished(7, 3, "failed")
    loglines.perform_initial_payload_error_analysis(3, "no such file")
    loglines.dump_payload_stderr(b"one\ntwo\n")
    loglines.add_error_codes(ErrorCode.PAYLOADEXECUTIONFAILURE, "it failed")
    loglines.ready_for_new_job(12)
    records = make(caplog.text.encode())
    wanted = {"main payload execution": "ERROR", "stderr dump": "ERROR", "pilotErrorCodes": "ERROR"}
    for words, severity in wanted.items():
        (entry,) = [e for e in records if words.encode() in e.payload]
        assert entry.severity == severity, words
    assert records[-1].severity == "INFO"
    known = [(body.get("PandaJobID"), body.get("jobName")) for body in bodies(records)]
    assert known == [*[("12", "isr | 1")] * (len(known) - 1), (None, None)]


def test_a_time_that_no_service_takes_is_not_used() -> None:
    line = "%s 00:00:00,000 | ERROR    | pilot.x | f | odd clock\n"
    found = make((line % "2099-01-01" + line % "2026-11-21").encode())
    assert [entry.timestamp[:10] for entry in found] == ["2026-11-21", "2026-11-21"]


def test_a_record_of_wide_letters_fits_into_an_entry() -> None:
    wide = "\U0001f600" * 59_000
    (entry,) = make(f"2026-11-21 08:51:00,001 | ERROR    | x | f | {wide}\n{wide[:29_000]}\n".encode())
    assert 200_000 < len(entry.payload) < 250_000


@pytest.mark.parametrize("size", [1_990, 29_990])
def test_a_secret_at_the_cut_is_masked_first(size: int) -> None:
    secret = "topsecretvalue12345"
    head = "2026-11-21 08:51:00,123 | WARNING  | pilot.x | f | "
    text = f"{head}payload stderr dump\n{'x' * size}{secret}\n"
    text += f"{head.replace('WARNING ', 'ERROR   ')}{'y' * size}{secret}\n"
    maker = WorkerRecords(Source(Path("log"), "f1", SINCE), hostname="h", redactor=Redactor([secret]))
    entries = [*maker.feed(Chunk(text.encode().splitlines(True), 0)), *maker.flush()]
    assert not any(b"topsec" in entry.payload for entry in entries)
