"""Messages, field by field: golden files, lengths, types, and what travels
when.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.local import legacy, v1
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import FileReport, JobReport, JobState, Node, WorkerState
from pilot_core.model.sample import Usage
from pilot_core.server import wire_legacy, wire_v1
from pilot_core.server.contract import JobRequest
from pilot_core.server.field import Dialect, Kind, When
from pilot_core.server.fields import ACQUIRE, UPDATE, WORKER, WorkerNote
from pilot_core.server.wire import Request

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "wire"
WIRES = {"v1": wire_v1, "legacy": wire_legacy}

NODE = Node(
    name="slot1@gke-panda-node-1",
    batch_type="Kubernetes",
    batch_id="grid-job-998877",
    scheduler_id="harvester-Rubin-1",
    cpu_unit="s+Intel Xeon 4-Core Processor 55296 KB HT 1-Socket+AVX2",
    cpu_mhz=2200.0,
    cpu_level="x86_64-v3",
    cores=4,
    memory_mb=15_000,
)
STARTING = JobReport(
    panda_id=61_234_567,
    attempt=2,
    state=JobState.STARTING,
    site="DOMA_LSST_GOOGLE_TEST",
    node=NODE,
    pilot_id="https://logs.example.org/worker.out|Kubernetes|PR|4.0.0",
    start_s=1_714_565_300.1,
    metrics="cpuFrequency=2200",
)
RUNNING = replace(STARTING, state=JobState.RUNNING)
HEARTBEAT = replace(
    RUNNING,
    sub_state="stagein",
    usage=Usage(
        cpu_s=3.4,
        samples=12,
        max_rss=812_340,
        max_pss=790_000,
        max_vmem=2_100_000,
        max_swap=0,
        avg_rss=500_000.4,
        avg_pss=480_000.6,
        avg_vmem=1_900_000.0,
        avg_swap=0.0,
        rchar=1_234_567_890,
        wchar=345_678,
        read_bytes=0,
        write_bytes=8_192,
        rate_rchar=12_345.4,
        rate_wchar=34.0,
        rate_read_bytes=0.0,
        rate_write_bytes=8.0,
        cores=1.26,
    ),
    stdout="the last lines of payload.stdout\n",
    code=ErrorCode.PAYLOADEXCEEDMAXMEM,
    diag="memory 3.4 GB above the queue's 3.2 GB",
)
FINISHED = replace(
    HEARTBEAT,
    state=JobState.FINISHED,
    sub_state="",
    stdout="",
    code=ErrorCode.NONE,
    diag="",
    end_s=1_714_565_430.9,
    pilot_id="https://storage.example.org/logs/PandaJob_61234567/pilotlog.txt|Kubernetes|PR|4.0.0",
    exit_code=0,
    timing=(1, 0, 95, 4, 6, 2),
    files=(
        FileReport(
            lfn="log.tgz",
            guid="9103f326-6b07-442d-a40d-155a85bec591",
            size=20_480,
            adler32="0a1b2c3d",
            surl="gs://drp-us-central1-logging/logs/PandaJob_61234567/",
            endpoint="GKE-LSST_LOGS",
        ),
    ),
    metadata='{"exitCode": 0}',
)
FAILED = replace(
    FINISHED,
    state=JobState.FAILED,
    code=ErrorCode.PAYLOADEXECUTIONFAILURE,
    diag="lsst.pipe.base.NoWorkFound: no calibration for detector 12",
    exit_code=3,
    exe_code=77,
    exe_diag="TaskError",
    log_tail="- Log from pilotlog.txt -\nthe last line",
    files=(),
)
ASKING = JobRequest(
    site="DOMA_LSST_GOOGLE_TEST",
    computing_element="DOMA_LSST_GOOGLE_TEST",
    label="managed",
    node="slot1@gke-panda-node-1",
    disk_mb=16_336,
    memory_mb=3_200,
    cpu_mhz=2_445.43,
    resource_type="SCORE",
    job_type="unified",
    working_group="lsst",
    country_group="us",
    allow_other_country=True,
    task_id=165_432,
    harvester_id="Rubin",
    worker_id=998_877,
    scheduler_id="harvester-Rubin-1",
    remaining_s=86_400,
    user="/DC=org/CN=Jane Doe",
)
NOTE = WorkerNote(998_877, "Rubin", WorkerState.STARTED, "DOMA_LSST_GOOGLE_TEST", "gke-panda-node-1")

UPDATES = {
    "starting": STARTING,
    "running": RUNNING,
    "heartbeat": HEARTBEAT,
    "finished": FINISHED,
    "failed": FAILED,
}


MESSAGES: Mapping[str, Callable[[ModuleType], Request]] = {
    **{
        kind: partial(lambda report, wire: wire.update(report, frozenset(), False), r)
        for kind, r in UPDATES.items()
    },
    "acquire": lambda wire: wire.acquire(ASKING, frozenset()),
    "worker": lambda wire: wire.worker(NOTE, frozenset()),
    "token": lambda wire: wire.token("local-token-key"),
    "proxy": lambda wire: wire.proxy("atlas:/atlas/Role=production"),
    "upload": lambda wire: wire.upload(),
}


def as_golden(request: Request) -> dict[str, object]:
    """What a golden file holds of a request."""
    found: dict[str, object] = {"path": request.path, "form": request.form, "body": dict(request.body)}
    if request.method == "GET":
        found = {"path": request.path, "method": "GET", "query": dict(request.query)}
    return found


@pytest.mark.parametrize("dialect", sorted(WIRES))
@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_golden(kind: str, dialect: str) -> None:
    request = MESSAGES[kind](WIRES[dialect])
    golden = json.loads((GOLDEN / f"{kind}.{dialect}.json").read_text())
    assert as_golden(request) == golden
    if request.method == "GET":
        return
    # 1 == 1.0 in Python, and a type error on the server.
    assert {k: type(v) for k, v in request.body.items()} == {k: type(v) for k, v in golden["body"].items()}


def test_there_is_no_golden_file_without_a_message() -> None:
    assert {p.name for p in GOLDEN.glob("*.json")} == {f"{k}.{d}.json" for k in MESSAGES for d in WIRES}


@pytest.mark.parametrize("dialect", sorted(WIRES))
def test_a_proxy_without_a_role_is_the_servers_default(dialect: str) -> None:
    request = WIRES[dialect].proxy("")
    assert not request.query
    assert not request.body


def test_credentials_are_asked_for_as_the_server_knows_it() -> None:
    for kind, call, form in (
        ("token", "creds/get_access_token", "get_access_token"),
        ("proxy", "creds/get_proxy", "getProxy"),
    ):
        request = MESSAGES[kind](wire_v1)
        method = v1.METHODS[call]
        assert (request.path, request.method) == (v1.PREFIX + call, method.http)
        assert set(request.query) <= set(method.params)
        request = MESSAGES[kind](wire_legacy)
        assert request.path == legacy.PREFIX + form
        assert {*request.query, *request.body} <= set(legacy.METHODS[form].params)


def test_no_field_that_a_server_does_not_know() -> None:
    """The local server's own tables of parameters stand for the real one's."""
    for table, call, form in (
        (UPDATE, "pilot/update_job", "updateJob"),
        (ACQUIRE, "pilot/acquire_jobs", "getJob"),
        (WORKER, "pilot/update_worker_status", "updateWorkerPilotStatus"),
    ):
        assert {field.v1 for field in table} - {""} <= set(v1.METHODS[call].params)
        assert {field.legacy for field in table} - {""} <= set(legacy.METHODS[form].params)


def test_types_are_the_servers() -> None:
    """int for int and str for str; where the server takes int or float,
    either.
    """
    for field in UPDATE:
        wanted = v1.METHODS["pilot/update_job"].params[field.v1].kind
        ours = {Kind.INT: "int", Kind.AMOUNT: "int", Kind.FLOAT: "float"}.get(field.kind, "str")
        assert ours == wanted or (wanted == "number" and ours != "str"), field.v1


def test_a_name_stands_once() -> None:
    for dialect in Dialect:
        for rows in (UPDATE, ACQUIRE, WORKER):
            names = [field.name(dialect) for field in rows if field.name(dialect)]
            assert len(names) == len(set(names))


@pytest.mark.parametrize("state", list(JobState))
def test_final_fields_only_with_final_states(state: JobState) -> None:
    body = wire_v1.update(replace(FAILED, files=FINISHED.files, state=state), frozenset(), False).body
    final = {field.v1 for field in UPDATE if field.when is When.FINAL}
    assert (final & set(body)) == (final if state.final else set())
    assert ("meta_data" in body) == (state is JobState.FINISHED)
    assert ("max_rss" in body) == (state is not JobState.STARTING)


def test_nothing_measured_nothing_sent() -> None:
    body = wire_v1.update(replace(FINISHED, usage=Usage()), frozenset(), False).body
    assert not {
        "max_rss",
        "tot_rchar",
        "cpu_consumption_time",
        "cpu_conversion_factor",
        "mean_core_count",
    } & set(body)


@pytest.mark.parametrize(("started_s", "told"), [(1_714_565_400.0, "12:10:00"), (None, "12:08:20")])
def test_the_server_counts_from_the_payloads_start(started_s: float | None, told: str) -> None:
    report = replace(FAILED, started_s=started_s)
    assert wire_v1.update(report, frozenset(), False).body["start_time"] == f"2024-05-01 {told}"
    starting = replace(report, state=JobState.STARTING)
    assert "start_time" not in wire_v1.update(starting, frozenset(), False).body


def test_a_memory_of_nothing_is_no_measurement_but_an_empty_swap_is() -> None:
    short = replace(FINISHED, usage=Usage(cpu_s=0.2, samples=1, max_rss=4_000))
    body = wire_v1.update(short, frozenset(), False).body
    assert {"max_rss": 4_000, "max_swap": 0, "tot_rchar": 0}.items() <= body.items()
    assert not {"avg_rss", "max_pss", "avg_pss", "max_vmem", "avg_vmem"} & set(body)


def test_half_a_core_on_average_is_not_none_at_all() -> None:
    idle = replace(HEARTBEAT, usage=Usage(cpu_s=5.0, cores=0.33))
    assert "mean_core_count" not in wire_v1.update(idle, frozenset(), False).body
    assert wire_legacy.update(idle, frozenset(), False).body["meanCoreCount"] == 0.33


def test_a_final_report_always_has_a_code() -> None:
    assert wire_v1.update(FINISHED, frozenset(), False).body["pilot_error_code"] == 0
    assert "pilot_error_code" not in wire_v1.update(RUNNING, frozenset(), False).body


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("metrics", "a=1 " * 124 + "leak=12345678", "a=1 " * 123 + "a=1"),
        ("log_tail", "x" * 9_000 + "END", "x" * 3_997 + "END"),
        ("diag", "é" * 300, "é" * 250),
        ("diag", "a\0b\ud800c", "ab?c"),
        ("pilot_id", "p" * 201, "p" * 200),
    ],
)
def test_how_a_text_is_made_to_fit(name: str, value: str, expected: str) -> None:
    report = replace(FAILED, **{name: value})  # type: ignore[arg-type]
    wanted = next(field for field in UPDATE if field.source == name)
    assert wire_v1.update(report, frozenset(), False).body[wanted.v1] == expected


def test_a_server_that_takes_less_gets_less() -> None:
    body = wire_v1.update(FAILED, frozenset({"pilot_timing"}), False).body
    assert "pilot_timing" not in body
    assert "pilot_log" in body


@pytest.mark.parametrize("dialect", sorted(WIRES))
def test_the_essential_report_holds_what_the_jobs_fate_depends_on(dialect: str) -> None:
    wire: ModuleType = WIRES[dialect]
    lean = wire.update(replace(FAILED, files=FINISHED.files), frozenset(), True).body
    names = {field.source for field in UPDATE if field.name(Dialect(dialect)) in lean}
    assert {"panda_id", "state", "attempt", "code", "diag", "exit_code", "files"} <= names
    assert not {"node.batch_id", "usage.max_rss", "node.cpu_unit", "timing", "metadata"} & names


def test_extra_words_go_to_v1_only() -> None:
    request = replace(ASKING, extra={"target_architecture": "x86_64-v3", "site_name": "elsewhere"})
    body = wire_v1.acquire(request, frozenset()).body
    assert body["target_architecture"] == "x86_64-v3"
    assert body["site_name"] == ASKING.site
    assert "target_architecture" not in wire_v1.acquire(request, frozenset({"target_architecture"})).body
    assert "target_architecture" not in wire_legacy.acquire(request, frozenset()).body


numbers = st.one_of(st.integers(), st.floats())
texts = st.text(max_size=3_000)


@given(text=texts, number=numbers, count=st.integers())
def test_any_report_fits(text: str, number: float, count: int) -> None:
    """Whatever was measured or said, the body is JSON and within each column."""
    usage = Usage(
        cpu_s=number, samples=1, max_rss=count, avg_rss=number, rchar=count, rate_rchar=number, cores=number
    )
    node = replace(NODE, name=text, cpu_unit=text, scheduler_id=text)
    report = replace(
        FAILED, node=node, usage=usage, pilot_id=text, diag=text, exe_diag=text, metrics=text, stdout=text,
        log_tail=text, cores=count, exit_code=count, timing=(count,) * 50, sub_state=text,
    )  # fmt: skip
    for name, wire in WIRES.items():
        body = wire.update(report, frozenset(), False).body
        json.dumps(body, allow_nan=False).encode()
        for field in UPDATE:
            value = body.get(field.name(Dialect(name)))
            limit = field.limit if name == "v1" or field.legacy_limit is None else field.legacy_limit
            if isinstance(value, str):
                assert "\0" not in value
                assert not limit or len(value.encode()) <= limit
            elif value is not None:
                assert math.isfinite(value)
                assert not limit or abs(value) <= limit
