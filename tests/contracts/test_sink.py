"""The same demands on every sink, and on the fake that stands in for them."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pilot_core.base.clock import rfc3339
from pilot_core.logship.contract import Entry, OutcomeKind, Sink
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.sinks.file import FileSink
from pilot_core.logship.sinks.fluent import FluentSink
from pilot_core.logship.sinks.google import GoogleSink
from pilot_core.logship.sinks.logstash import LogstashSink
from pilot_core.logship.sinks.loki import LokiSink
from pilot_core.logship.sinks.make import make_sink
from pilot_core.logship.sinks.stdout import StdoutSink
from pilot_core.logship.target import Target, at_loki, parse_target
from tests.fakes.cloud_logging import CloudLogging, Fault
from tests.fakes.forward import Fluentd, LogstashHttp, LogstashTcp
from tests.fakes.loki import Loki
from tests.fakes.patience import stated
from tests.fakes.serve import Served
from tests.fakes.sink import AGAIN, MemorySink

LOG = "Panda-RubinLog"


@dataclass
class Case:
    """A sink, what its reader sees, and how to take the service away and back."""

    sink: Sink
    read: Callable[[], list[dict[str, Any]]]
    away: Callable[[], None]
    back: Callable[[], None]


def memory(folder: Path) -> Iterator[Case]:
    sink = MemorySink()
    usual = sink.mood

    def read() -> list[dict[str, Any]]:
        return [
            {
                "insertId": e.insert_id,
                "severity": e.severity,
                "timestamp": e.timestamp,
                "jsonPayload": json.loads(e.payload),
            }
            for e in sink.visible()
        ]

    def away() -> None:
        sink.mood = lambda _: AGAIN

    def back() -> None:
        sink.mood = usual

    yield Case(sink, read, away, back)


def google(folder: Path) -> Iterator[Case]:
    with CloudLogging() as service:
        sink = GoogleSink(Target("google", service.url), LOG)

        def away() -> None:
            service.faults.append(Fault(status=503, times=-1))

        yield Case(sink, lambda: service.entries(LOG), away, service.faults.clear)


def file(folder: Path) -> Iterator[Case]:
    path = folder / "below" / "records.jsonl"
    sink = FileSink(path)

    def away() -> None:
        sink.close()
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            path.rename(path.with_name("kept"))
        path.mkdir()

    def back() -> None:
        path.rmdir()
        if path.with_name("kept").exists():
            path.with_name("kept").rename(path)

    yield Case(sink, lambda: [json.loads(line) for line in path.read_bytes().splitlines()], away, back)


def stdout(folder: Path) -> Iterator[Case]:
    class Pipe(io.BytesIO):
        broken = False

        def write(self, data: Any) -> int:
            if self.broken:
                raise BrokenPipeError("nobody reads")
            return super().write(data)

    pipe = Pipe()

    def away() -> None:
        pipe.broken = True

    def back() -> None:
        pipe.broken = False

    yield Case(StdoutSink(pipe), lambda: [json.loads(x) for x in pipe.getvalue().splitlines()], away, back)


def loki(folder: Path) -> Iterator[Case]:
    with Loki() as service:

        def read() -> list[dict[str, Any]]:
            return [
                {
                    "insertId": record.pop("insertId"),
                    "severity": labels["level"].upper(),
                    "timestamp": rfc3339(moment / 1e9),
                    "jsonPayload": record,
                }
                for moment, labels, record in service.read()
            ]

        def away() -> None:
            service.status = 503

        def back() -> None:
            service.status = 0

        yield Case(LokiSink(Target("loki", service.url), LOG), read, away, back)


def fluent(folder: Path) -> Iterator[Case]:
    with Fluentd() as service:
        target = parse_target(f"fluent;tcp://127.0.0.1:{service.port}")
        yield Case(FluentSink(target, LOG), service.read, *_switch(service))


def logstash(folder: Path) -> Iterator[Case]:
    with LogstashHttp("pilot", "pass word") as service:
        target = parse_target(f"logstash;http://127.0.0.1:{service.port}")
        secrets = {"logstash_login": "pilot", "logstash_password": "pass word"}
        yield Case(LogstashSink(target, LOG, secrets), service.read, *_switch(service))


def _switch(service: Fluentd | LogstashHttp) -> tuple[Callable[[], None], Callable[[], None]]:
    def away() -> None:
        service.away = True

    def back() -> None:
        service.away = False

    return away, back


@pytest.fixture(params=[memory, google, file, stdout, loki, fluent, logstash], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    for made in request.param(tmp_path):
        yield made
        made.sink.close()
        made.sink.close()


def entry(number: int, payload: dict[str, Any] | None = None, severity: str = "INFO") -> Entry:
    body = json.dumps(payload or {"message": f"line {number}"}, ensure_ascii=False).encode()
    return Entry(body, severity, f"2026-11-21T05:02:42.{number:06d}Z", f"4242-file-{number:013d}")


def test_what_is_confirmed_can_be_read_and_is_whole(case: Case) -> None:
    odd = {
        "message": 'é \u2028 \u0000 "quoted" \\ {"json": 1}',
        "MDC": {"LABEL": "isr:{}"},
        "n": 1.5,
        "none": None,
    }
    outcome = case.sink.write([entry(1, odd, "ERROR"), entry(2)], timeout_s=5.0)
    assert outcome.kind is OutcomeKind.DELIVERED
    assert not outcome.rejected
    first, second = case.read()
    assert first["jsonPayload"] == odd
    assert (first["severity"], second["severity"]) == ("ERROR", "INFO")
    assert first["timestamp"] == "2026-11-21T05:02:42.000001Z"
    assert first["insertId"] == "4242-file-0000000000001"


def test_order_is_kept(case: Case) -> None:
    for start in range(0, 300, 100):
        case.sink.write([entry(n) for n in range(start, start + 100)], timeout_s=5.0)
    assert [e["jsonPayload"]["message"] for e in case.read()] == [f"line {n}" for n in range(300)]


def test_a_service_that_is_away_raises_nothing_and_heals(case: Case) -> None:
    case.sink.write([entry(1)], timeout_s=5.0)
    case.away()
    outcome = case.sink.write([entry(2)], timeout_s=2.0)
    assert outcome.kind in (OutcomeKind.RETRY, OutcomeKind.BUSY, OutcomeKind.DENIED)
    assert outcome.detail
    case.back()
    assert case.sink.write([entry(2)], timeout_s=5.0).kind is OutcomeKind.DELIVERED
    assert [e["jsonPayload"]["message"] for e in case.read()] == ["line 1", "line 2"]


def test_the_largest_batch_that_the_limits_allow(case: Case) -> None:
    limits = case.sink.limits
    size = limits.entry_bytes or 300_000
    count = min(limits.batch_entries, (limits.batch_bytes or 8_000_000) // (size + 256))
    batch = [entry(n, {"message": "x" * (size - 20)}) for n in range(count)]
    outcome = case.sink.write(batch, timeout_s=20.0)
    assert outcome.kind is OutcomeKind.DELIVERED
    assert not outcome.rejected
    assert len(case.read()) == count


def test_the_same_batch_again_shows_nothing_twice(case: Case) -> None:
    for _ in range(2):
        assert case.sink.write([entry(1), entry(2)], timeout_s=5.0).kind is OutcomeKind.DELIVERED
    seen = {(e["timestamp"], e["insertId"]) for e in case.read()}
    assert len(seen) == 2


def test_lokis_labels() -> None:
    with Loki() as service:
        target = parse_target(f"logserver='loki;{service.url};env=test'")
        with contextlib.closing(LokiSink(target, LOG)) as sink:
            sink.write([entry(1, severity="WARNING")], timeout_s=5.0)
            too_long = sink.write([entry(2, {"message": "x" * 300_000})], timeout_s=5.0)
        ((_, labels, _),) = service.read()
    assert labels == {"namespace": "usdf-panda", "env": "test", "app": LOG, "level": "warning"}
    assert too_long.kind is OutcomeKind.TOO_LARGE


def test_fields_of_a_record_are_labels_where_loki_s_variables_name_them() -> None:
    keys = ("app", "PandaJobID", "missing", "level")
    with Loki() as service:
        target = at_loki(parse_target("loki;http://127.0.0.1:9"), f"{service.url}/loki/api/v1/push", keys)
        with contextlib.closing(LokiSink(target, LOG)) as sink:
            for job in ("1", "2"):
                outcome = sink.write([entry(int(job), {"PandaJobID": job, "app": ""})], timeout_s=5.0)
                assert outcome.kind is OutcomeKind.DELIVERED
        labels = [labels for _, labels, _ in service.read()]
    usual = {"namespace": "usdf-panda", "env": "production", "app": LOG, "level": "info"}
    assert labels == [usual | {"PandaJobID": "1"}, usual | {"PandaJobID": "2"}]


def test_loki_takes_what_is_older_and_newer_than_it_allows() -> None:
    """A payload's local time, an old file: stored at the edge of the window."""
    now = time.time()
    stamps = [rfc3339(now + hours * 3600) for hours in (-20 * 24, 0, 5)]
    with Loki() as service:
        with contextlib.closing(LokiSink(Target("loki", service.url), LOG)) as sink:
            entries = [Entry(b'{"message":"m"}', "INFO", stamp, f"id{n}") for n, stamp in enumerate(stamps)]
            assert sink.write(entries, timeout_s=5.0).kind is OutcomeKind.DELIVERED
        found = service.read()
    assert [record["insertId"] for _, _, record in found] == ["id0", "id1", "id2"]
    assert abs(found[1][0] / 1e9 - now) < 0.001


@pytest.mark.parametrize("kind", ["loki", "logstash", "google"])
def test_a_port_that_refuses_everything_costs_no_record(kind: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            words = b"400 The plain HTTP request was sent to HTTPS port"
            self.send_response(400)
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with Served(server) as served:
        sink = make_sink(Target(kind, served.url), LOG, PodFacts())
        with contextlib.closing(sink):
            assert sink.write([entry(1)], timeout_s=5.0).kind is OutcomeKind.DENIED


@pytest.mark.parametrize("make", [loki, logstash], ids=lambda make: make.__name__)
def test_a_payload_s_own_fields_do_not_stand_for_ours(make: Any, tmp_path: Path) -> None:
    with contextlib.contextmanager(make)(tmp_path) as case, contextlib.closing(case.sink):
        own = b'{"insertId":"mine","severity":"x","@timestamp":"y","logname":"z","level":"v","message":"m" } '
        stamp = rfc3339(time.time())
        case.sink.write(
            [Entry(own, "ERROR", stamp, "ours"), Entry(b"{}", "INFO", stamp, "bare")], timeout_s=5.0
        )
        found = {e["insertId"]: e for e in case.read()}
    assert set(found) == {"ours", "bare"}
    assert found["ours"]["severity"] == "ERROR"
    assert found["ours"]["jsonPayload"]["message"] == "m"


def test_an_acknowledgement_of_something_else_is_none() -> None:
    with Fluentd() as service:
        target = parse_target(f"fluent:tcp://127.0.0.1:{service.port}")
        with contextlib.closing(FluentSink(target, LOG)) as sink:
            service.odd_ack = "b3RoZXI="
            assert sink.write([entry(1)], timeout_s=5.0).kind is OutcomeKind.RETRY
            service.odd_ack = ""
            assert sink.write([entry(1)], timeout_s=5.0).kind is OutcomeKind.DELIVERED
        assert len(service.read()) == 1
        assert service.tags == {LOG}


def test_a_fluentd_that_says_nothing_is_waited_for_so_long_and_no_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = parse_target(f"fluent;tcp://127.0.0.1:{silent.getsockname()[1]}")
        with contextlib.closing(FluentSink(target, LOG)) as sink:
            start = time.monotonic()
            assert sink.write([entry(1)], timeout_s=0.3).kind is OutcomeKind.RETRY
            assert time.monotonic() - start < stated(2.0)


def test_logstash_by_tcp() -> None:
    with LogstashTcp() as service:
        target = parse_target(f"logstash;tcp://127.0.0.1:{service.port}")
        with contextlib.closing(LogstashSink(target, LOG)) as sink:
            for n in range(3):
                outcome = sink.write([entry(2 * n), entry(2 * n + 1, severity="ERROR")], timeout_s=5.0)
                assert outcome.kind is OutcomeKind.DELIVERED
            end = time.monotonic() + 5.0
            while len(service.read()) < 6:
                assert time.monotonic() < end
    assert [e["jsonPayload"]["message"] for e in service.read()] == [f"line {n}" for n in range(6)]
    assert service.read()[1]["severity"] == "ERROR"


def test_logstash_without_the_login_keeps_everything() -> None:
    with LogstashHttp("pilot", "secret") as service:
        target = parse_target(f"logstash;http://127.0.0.1:{service.port}")
        with contextlib.closing(LogstashSink(target, LOG)) as sink:
            assert sink.write([entry(1)], timeout_s=5.0).kind is OutcomeKind.DENIED


def test_it_has_a_name_for_the_log(case: Case) -> None:
    assert case.sink.name
