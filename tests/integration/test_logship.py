"""Threads, sockets and signals: log files shipped to Cloud Logging on
loopback.
"""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.base.retry import RetryPolicy
from pilot_core.base.scope import Scope
from pilot_core.logship.contract import Entry, OutcomeKind, ShipCounts
from pilot_core.logship.delivery import DeliveryPolicy
from pilot_core.logship.record import PayloadRecords
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.shipper import LogShipper, ShipSettings
from pilot_core.logship.sinks.google import GoogleSink
from pilot_core.logship.target import Target, parse_target
from tests.fakes.cloud_logging import CloudLogging, Fault
from tests.fakes.patience import stated
from tests.fakes.shipping import CONTEXT, line, lost_and_doubled

LOG = "Panda-RubinLog"
ROOT = Path(__file__).resolve().parents[2]
CLOCK = SystemClock()
QUICK = ShipSettings(
    interval_s=0.05,
    delivery=DeliveryPolicy(
        request_s=1.0,
        busy_s=0.05,
        retry=RetryPolicy(attempts=0, first_s=0.05, cap_s=0.2),
        denied=RetryPolicy(attempts=0, first_s=0.05, cap_s=0.2),
    ),
)


@pytest.fixture
def service() -> Iterator[CloudLogging]:
    with CloudLogging() as running:
        yield running


def shipper_for(path: Path, sink: GoogleSink, settings: ShipSettings = QUICK) -> LogShipper:
    return LogShipper(
        [path],
        lambda source: PayloadRecords(
            CONTEXT, source, entry_bytes=sink.limits.entry_bytes, redactor=Redactor(), now=CLOCK.time
        ),
        sink,
        checkpoint=path.with_name("positions.json"),
        clock=CLOCK,
        settings=settings,
    )


@contextlib.contextmanager
def running(path: Path, sink: GoogleSink) -> Iterator[LogShipper]:
    """A shipper on its thread."""
    shipper = shipper_for(path, sink)
    with contextlib.closing(sink), Scope("test") as scope:
        scope.spawn("logship", shipper.run, scope.stopping)
        yield shipper


def shipped(
    path: Path, service: CloudLogging, while_it_runs: Callable[[], None], budget_s: float = 20.0
) -> ShipCounts:
    """Run a shipper's thread, do something meanwhile, finish."""
    with running(path, GoogleSink(parse_target(f"google-cloud-logging;{service.url}"), LOG)) as shipper:
        while_it_runs()
        return shipper.finish(Budget(CLOCK, budget_s, "drain"))


def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def numbers(service: CloudLogging) -> list[int]:
    return [int(e["jsonPayload"]["seq"]) for e in service.entries(LOG)]


FAULTS = {
    "unavailable": Fault(status=503, times=3),
    "deadline exceeded": Fault(status=504, times=3),
    "internal": Fault(status=500, times=3),
    "too many": Fault(status=429, times=5),
    "too many bytes": Fault(status=429, times=5, message="Quota exceeded for quota metric 'Log write bytes'"),
    "too many, come back": Fault(status=429, times=1, headers={"Retry-After": "1"}),
    "permission denied": Fault(status=403, times=5),
    "unauthenticated": Fault(status=401, times=5),
    "no such project": Fault(status=404, times=5),
    "reset": Fault(reset=True, times=3),
    "written, then unavailable": Fault(status=503, commit=True, times=10, every=2),
    "written, then reset": Fault(reset=True, commit=True, times=10, every=2),
    "written, then no answer": Fault(hang_s=5.0, commit=True, times=1, reset=True),
    "hang": Fault(hang_s=30.0, times=1, reset=True),
    "half of it stored, the rest over quota": Fault(partial=8, times=4),
    "half of it stored, the rest not permitted": Fault(partial=7, times=4),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_loses_or_doubles(service: CloudLogging, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "payload-log.json"
    order = FAULTS[fault]
    service.faults.append(Fault(**{**order.__dict__, "seen": 0}))

    def write() -> None:
        for start in range(0, 500, 50):
            with path.open("ab") as out:
                out.write(b"".join(map(line, range(start, start + 50))))
            time.sleep(0.02)

    counts = shipped(path, service, write)
    assert lost_and_doubled(list(range(500)), numbers(service)) == ([], [])
    assert numbers(service) == list(range(500))
    assert counts.left_bytes == 0
    assert counts.rejected == 0
    assert counts.repeated > 0


def test_partial_success_names_what_is_refused(service: CloudLogging) -> None:
    good = Entry(b'{"message":"x"}', "INFO", "2026-11-21T05:02:42.694168Z", "a-1")
    bad = good._replace(timestamp="2999-01-01T00:00:00.000000Z", insert_id="a-2")
    with contextlib.closing(GoogleSink(Target("google", service.url), LOG)) as sink:
        outcome = sink.write([good, bad, good._replace(insert_id="a-3")], timeout_s=2.0)
        alone = sink.write([bad], timeout_s=2.0)
    assert outcome.kind is OutcomeKind.DELIVERED
    assert list(outcome.rejected) == [1]
    assert "too far in the future" in outcome.rejected[1]
    assert len(service.entries(LOG)) == 2
    assert alone.kind is OutcomeKind.TOO_LARGE


def test_a_wrong_log_name_keeps_everything(service: CloudLogging) -> None:
    entry = Entry(b'{"message":"x"}', "INFO", "2026-11-21T05:02:42.694168Z", "a-1")
    sink = GoogleSink(Target("google", service.url), "x" * 600)
    outcome = sink.write([entry], timeout_s=2.0)
    sink.close()
    assert outcome.kind is OutcomeKind.DENIED
    assert "every request is refused" in outcome.detail


def test_a_sink_that_hangs_bounds_the_drain(service: CloudLogging, tmp_path: Path) -> None:
    path = tmp_path / "payload-log.json"
    path.write_bytes(b"".join(map(line, range(100))))
    service.faults.append(Fault(hang_s=60.0, times=-1))
    start = time.monotonic()
    counts = shipped(path, service, lambda: None, budget_s=1.5)
    assert time.monotonic() - start < stated(3.0)
    assert counts.sent == 0
    assert counts.left_bytes == path.stat().st_size
    service.faults.clear()
    service.released.set()
    shipped(path, service, lambda: None)
    assert numbers(service) == list(range(100))


def test_a_record_is_there_soon_after_it_was_written(service: CloudLogging, tmp_path: Path) -> None:
    path = tmp_path / "payload-log.json"

    def write() -> None:
        path.write_bytes(line(0))
        until(lambda: numbers(service) == [0], seconds=2.0)

    shipped(path, service, write)


def test_large_records(service: CloudLogging, tmp_path: Path) -> None:
    path = tmp_path / "payload-log.json"
    texts = ["é\n" * 100_000, "x" * 10_000_000, "y" * 249_000]
    path.write_bytes(b"".join(line(n, text) for n, text in enumerate(texts)))
    counts = shipped(path, service, lambda: None)
    assert counts.rejected == 0
    found: dict[int, str] = {}
    for entry in service.entries(LOG):
        payload = entry["jsonPayload"]
        found[payload["seq"]] = found.get(payload["seq"], "") + payload["message"]
    assert [found[n] for n in range(len(texts))] == texts


def test_ids_labels_severity_and_resource(service: CloudLogging, tmp_path: Path) -> None:
    path = tmp_path / "payload-log.json"
    asctime = datetime.now(UTC).isoformat()
    path.write_text(json.dumps({"asctime": asctime, "message": "x", "levelname": "ERROR"}) + "\n")
    facts = PodFacts("p1", "us-central1-f", "cluster", "panda", "grid-1", "atlas-grid-centos7")
    sink = GoogleSink(Target("google", service.url), LOG, facts=facts, labels={"queue": "TEST"})
    with running(path, sink) as shipper:
        shipper.finish(Budget(CLOCK, 10.0, "drain"))
    (entry,) = service.entries(LOG)
    assert entry["logName"] == f"projects/p1/logs/{LOG}"
    assert entry["severity"] == "ERROR"
    assert datetime.fromisoformat(entry["timestamp"]) == datetime.fromisoformat(asctime)
    assert entry["labels"] == {"queue": "TEST"}
    assert entry["resource"] == {
        "type": "k8s_container",
        "labels": {
            "project_id": "p1",
            "location": "us-central1-f",
            "cluster_name": "cluster",
            "namespace_name": "panda",
            "pod_name": "grid-1",
            "container_name": "atlas-grid-centos7",
        },
    }
    payload = entry["jsonPayload"]
    assert {k: payload[k] for k in CONTEXT.fields()} == {
        "TaskID": "77",
        "PandaJobID": "4242",
        "Harvester_WorkerID": "9",
        "Harvester_ID": "h1",
        "RequestID": 5,
    }
    assert isinstance(payload["PilotTimeStamp"], float)


def test_credentials_of_the_real_library_and_a_token_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "payload-log.json"
    path.write_bytes(b"".join(map(line, range(50))))
    with CloudLogging(token="first") as service:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service.credentials(tmp_path / "key.json")))
        target = parse_target(f"google-cloud-logging;{service.url};credentials=default")
        with running(path, GoogleSink(target, LOG)) as shipper:
            until(lambda: len(service.entries(LOG)) == 50)
            service.token = "second"
            with path.open("ab") as out:
                out.write(b"".join(map(line, range(50, 100))))
            counts = shipper.finish(Budget(CLOCK, 15.0, "drain"))
        assert numbers(service) == list(range(100))
        assert service.entries(LOG)[0]["logName"].startswith("projects/fake-project/")
        assert counts.left_bytes == 0


KILLED = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from pilot_core.logship.sinks.google import GoogleSink
from pilot_core.logship.target import Target
from tests.integration.test_logship import LOG, shipper_for
shipper = shipper_for(Path(sys.argv[1]), GoogleSink(Target("google", sys.argv[2]), LOG))
print("ready", flush=True)
shipper.run(threading.Event())
"""


def test_kill_9_at_any_moment(service: CloudLogging, tmp_path: Path) -> None:
    path = tmp_path / "payload-log.json"
    path.touch()
    service.faults.append(Fault(status=503, commit=True, times=-1, every=3))
    written = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), service.url, str(ROOT)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        child.stdout.readline()
        before = len(service.written)
        for _ in range(20):
            with path.open("ab") as out:
                out.write(b"".join(map(line, range(written, written + 100))))
            written += 100
            time.sleep(0.005)
        until(lambda before=before: len(service.written) > before)  # type: ignore[misc]
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
    service.faults.clear()
    shipped(path, service, lambda: None)
    assert numbers(service) == list(range(written))


SHARED = os.environ.get("PILOT_SHARED_DATA", "")
REAL = ("current.json", "2022.json", "big.json.gz")


@pytest.mark.skipif(not SHARED, reason="PILOT_SHARED_DATA names no folder with real payload logs")
@pytest.mark.parametrize("name", REAL)
def test_real_logs_arrive_whole_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Credentials, token and project by Google's own library; every kind of
    failure.
    """
    raw = (Path(SHARED) / "payload-log" / name).read_bytes()
    data = gzip.decompress(raw) if name.endswith(".gz") else raw
    records = [json.loads(x) for x in data.split(b"\n") if x]
    path = tmp_path / "payload-log.json"
    kinds = [
        Fault(status=503),
        Fault(status=504),
        Fault(status=429),
        Fault(status=403),
        Fault(status=401),
        Fault(reset=True),
        Fault(hang_s=3.0, reset=True),
        Fault(partial=8),
        Fault(status=503, commit=True),
        Fault(reset=True, commit=True),
    ]
    with CloudLogging(token="first") as service:
        service.faults += kinds
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service.credentials(tmp_path / "key.json")))
        target = parse_target(f"google-cloud-logging;{service.url};credentials=default")
        with running(path, GoogleSink(target, LOG)) as shipper:
            with path.open("ab", buffering=0) as out:
                for start in range(0, len(data), 200_001):
                    out.write(data[start : start + 200_001])
                    time.sleep(0.005)
            counts = shipper.finish(Budget(CLOCK, 60.0, "drain"))
        assert counts.rejected == counts.left_bytes == 0
        assert not service.refused
        assert not any(fault.times for fault in kinds), "not every failure happened"
    found = _joined(service.entries(LOG))
    assert len(found) == len(records)
    mine = sorted(json.dumps(r, sort_keys=True) for r in records)
    assert sorted(json.dumps(r, sort_keys=True) for r in found) == mine


def _joined(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The users' records again: parts put together, the pilot's fields taken
    off.
    """
    ours = {*CONTEXT.fields(), "PilotTimeStamp"}
    whole: list[dict[str, Any]] = []
    last = ""
    for entry in entries:
        payload = {k: v for k, v in entry["jsonPayload"].items() if k not in ours}
        assert entry["severity"] != "DEFAULT"
        part, of = payload.pop("Part", ""), payload.pop("PartOf", "")
        if of and of == last:
            whole[-1]["message"] += payload["message"]
        else:
            assert not part or part.startswith("1 of")
            whole.append(payload)
        last = of
    return whole
