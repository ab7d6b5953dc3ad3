"""Log services behind TLS: who is trusted, and what becomes of entries where
nobody is.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_core.local.server import TlsFiles
from pilot_core.logship.contract import Entry, OutcomeKind, Sink
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.sinks.make import make_sink
from pilot_core.logship.target import parse_target
from tests.fakes.cloud_logging import CloudLogging
from tests.fakes.forward import Fluentd, LogstashHttp, LogstashTcp
from tests.fakes.loki import Loki
from tests.fakes.pki import Pki, make_pki
from tests.fakes.serve import Served
from tests.fakes.shipping import Rig

SERVICES = {
    "fluent;tls": Fluentd,
    "logstash;tls": LogstashTcp,
    "logstash;https": LogstashHttp,
    "loki;https": Loki,
    "google;https": CloudLogging,
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(params=SERVICES)
def spelled(request: pytest.FixtureRequest) -> str:
    """Kind and scheme of a target."""
    found: str = request.param
    return found


@pytest.fixture
def trusts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """The authorities of this machine, as OpenSSL takes them from its
    environment.
    """
    return lambda ca: monkeypatch.setenv("SSL_CERT_FILE", str(ca))


def messages(service: Served) -> list[str]:
    """What a reader finds."""
    if isinstance(service, Loki):
        return [record["message"] for _, _, record in service.read()]
    if isinstance(service, CloudLogging):
        return [found["jsonPayload"]["message"] for found in service.entries("log")]
    assert isinstance(service, Fluentd | LogstashTcp | LogstashHttp)
    return [found["jsonPayload"]["message"] for found in service.read()]


@contextlib.contextmanager
def behind_tls(spelled: str, files: TlsFiles, host: str = "127.0.0.1") -> Iterator[tuple[Served, Sink]]:
    """A service with that certificate, and a sink that writes to it."""
    kind, scheme = spelled.split(";")
    with SERVICES[spelled]().over_tls(files.cert, files.key) as service:
        target = parse_target(f"{kind};{scheme}://{host}:{service.port}")
        with contextlib.closing(make_sink(target, "log", PodFacts())) as sink:
            yield service, sink


def until_there(service: Served, count: int) -> list[str]:
    """Messages, as soon as there are so many: by TCP nobody says when."""
    end = time.monotonic() + 30.0
    while len(messages(service)) < count:
        assert time.monotonic() < end, messages(service)
        time.sleep(0.02)
    return messages(service)


def entry(number: int) -> Entry:
    payload = json.dumps({"message": f"line {number}"}).encode()
    return Entry(payload, "INFO", f"2026-11-21T05:02:42.{number:06d}Z", f"4242-file-{number:013d}")


def test_a_server_of_a_trusted_authority_gets_everything(
    spelled: str, pki: Pki, trusts: Callable[[Path], None]
) -> None:
    trusts(pki.ca)
    with behind_tls(spelled, pki.tls) as (service, sink):
        for first in (0, 2):
            outcome = sink.write([entry(first), entry(first + 1)], timeout_s=20.0)
            assert outcome.kind is OutcomeKind.DELIVERED, outcome.detail
        assert until_there(service, 4) == [f"line {n}" for n in range(4)]


@pytest.mark.parametrize("trouble", ["unknown authority", "expired", "another name"])
def test_a_server_that_is_not_to_be_trusted_gets_nothing(
    spelled: str, trouble: str, pki: Pki, strangers: Pki, trusts: Callable[[Path], None]
) -> None:
    trusts(strangers.ca if trouble == "unknown authority" else pki.ca)
    files = pki.tls_over if trouble == "expired" else pki.tls
    host = "localhost" if trouble == "another name" else "127.0.0.1"
    with behind_tls(spelled, files, host) as (service, sink):
        outcome = sink.write([entry(1)], timeout_s=20.0)
        assert messages(service) == []
    assert outcome.kind is OutcomeKind.DENIED
    said = {
        # Of the same name, with another key.
        "unknown authority": "certificate signature failure",
        "expired": "certificate has expired",
        "another name": "Hostname mismatch, certificate is not valid for 'localhost'",
    }
    assert said[trouble] in outcome.detail


def test_what_an_untrusted_server_did_not_get_is_kept_for_when_it_is_trusted(
    spelled: str,
    pki: Pki,
    strangers: Pki,
    tmp_path: Path,
    trusts: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with behind_tls(spelled, pki.tls) as (service, sink):
        trusts(strangers.ca)
        rig = Rig(tmp_path, sink)
        rig.lines(20)
        counts = rig.finish(30.0)
        assert (counts.sent, counts.left_bytes) == (0, rig.path.stat().st_size)
        # What the operator reads; the last try may have had no time left.
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        trusts(pki.ca)
        rig.kill()
        counts = rig.finish()
        assert (counts.sent, counts.left_bytes) == (20, 0)
        assert len(until_there(service, 20)) == 20
