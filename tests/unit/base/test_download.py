"""One file over HTTP, from servers that do all they can to prevent it."""

import socket
import struct
import threading
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import SystemClock
from pilot_core.base.download import DownloadFailed, content_length, download, worth_another_try
from pilot_core.base.scope import Scope
from tests.fakes.answering import answering
from tests.fakes.drip import DRIPS, dripping
from tests.fakes.https_store import Fault, https_store
from tests.fakes.patience import stated
from tests.fakes.pki import make_pki

CLOCK = SystemClock()


def got(url: str, *, most_bytes: int = 100, seconds: float = 60.0, **options: object) -> bytes:
    body = bytearray()
    budget = Budget(CLOCK, seconds, "download")
    download(url, body.extend, most_bytes=most_bytes, budget=budget, stop=threading.Event(), **options)  # type: ignore[arg-type]
    return bytes(body)


def ok(length: bytes, body: bytes = b"hello") -> bytes:
    return b"200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"5"),
        ok(b"5, 5"),
        b"200 OK\r\n\r\nhello",
        b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    ],
)
def test_a_whole_file(answer: bytes) -> None:
    with answering(answer) as url:
        assert got(url, most_bytes=5) == b"hello"


CHUNKED = b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PASSING = {
    "a short body": (ok(b"6"), "5 "),
    "half a chunk": (CHUNKED + b"5\r\nhel", "Incomplete"),
    "a chunk of no length": (CHUNKED + b"zz\r\n", "InvalidChunk"),
    "a length in words": (ok(b"12, twelve"), "no number"),
    "a negative length": (ok(b"-5"), "no number"),
    "an empty length": (ok(b""), "no number"),
    "a raised digit": (ok(b"\xb2"), "no number"),
    "5000 digits": (ok(b"9" * 5000), "no number"),
    "no HTTP": (b"garbage\r\n\r\n", "garbage"),
    "a bad redirect": (b"302 Found\r\nLocation: http://[bad\r\n\r\n", "Invalid"),
    "503": (b"503 Busy\r\n\r\n", "HTTP 503 Busy"),
    "408": (b"408 Slow\r\n\r\n", "HTTP 408 Slow"),
    "no gzip": (b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", "gzip"),
}


@pytest.mark.parametrize(("answer", "said"), PASSING.values(), ids=PASSING.keys())
def test_what_may_pass(answer: bytes, said: str) -> None:
    with answering(answer) as url, pytest.raises(DownloadFailed, match=said) as caught:
        got(url)
    assert worth_another_try(caught.value) == 0.0


FINAL = {
    "too long": (ok(b"101", b"x" * 101), "more than 100 bytes", 0),
    "too long without a word": (b"200 OK\r\n\r\n" + b"x" * 101, "more than 100 bytes", 0),
    "403": (b"403 Forbidden\r\n\r\nno", "HTTP 403 Forbidden", 403),
    "204": (b"204 No Content\r\n\r\n", "HTTP 204", 204),
}


@pytest.mark.parametrize(("answer", "said", "status"), FINAL.values(), ids=FINAL.keys())
def test_what_is_final(answer: bytes, said: str, status: int) -> None:
    with answering(answer) as url, pytest.raises(DownloadFailed, match=said) as caught:
        got(url)
    assert (worth_another_try(caught.value), caught.value.status) == (None, status)


def test_a_server_says_when_to_come_back() -> None:
    with answering(b"429 Later\r\nRetry-After: 7\r\n\r\n") as url, pytest.raises(DownloadFailed) as caught:
        got(url)
    assert (worth_another_try(caught.value), caught.value.status) == (7.0, 429)


def test_a_connection_that_is_reset() -> None:
    def reset(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with answering(reset) as url, pytest.raises(DownloadFailed) as caught:
        got(url)
    assert caught.value.again_s == 0.0


def test_nobody_there_and_the_words_hold_no_query() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/f?key=k"
    with pytest.raises(DownloadFailed, match="refused") as caught:
        got(url)
    assert caught.value.again_s == 0.0
    assert "key" not in str(caught.value)


def test_a_redirect_is_followed_or_not() -> None:
    with (
        answering(ok(b"5")) as there,
        answering(b"302 Found\r\nLocation: " + there.encode() + b"\r\n\r\n") as url,
    ):
        assert got(url) == b"hello"
        with pytest.raises(DownloadFailed, match="HTTP 302") as caught:
            got(url, redirects=False)
    assert caught.value.again_s is None


@pytest.mark.parametrize("redirects", [True, False])
def test_nobody_reads_the_body_of_a_redirect(redirects: bool) -> None:
    """requests would, to its end, before it goes on."""
    sent = []

    def flood(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n")
        while not stop.is_set():
            sent.append(connection.send(b"x" * 1_000_000))

    with answering(flood) as url, pytest.raises(DownloadFailed):
        got(url, redirects=redirects)
    assert sum(sent) < 64_000_000


@pytest.mark.parametrize("drip", DRIPS)
def test_a_drip_ends_with_the_budget(drip: str) -> None:
    with dripping(DRIPS[drip]) as url:
        began = CLOCK.monotonic()
        with pytest.raises(BudgetSpent):
            got(url, seconds=0.5)
        assert CLOCK.monotonic() - began < stated(3.0)


def test_it_is_left_when_somebody_wants_to_stop() -> None:
    stop = threading.Event()
    with dripping(DRIPS["body"]) as url, Scope("stopping") as scope:
        scope.spawn("stop", lambda: scope.stopping.wait(0.2) or stop.set())
        began = CLOCK.monotonic()
        with pytest.raises(InterruptedError):
            download(url, print, most_bytes=9, budget=Budget(CLOCK, 600.0, "download"), stop=stop)
        assert CLOCK.monotonic() - began < 60.0


def test_what_the_taker_says_comes_through() -> None:
    def full(piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    with answering(ok(b"5")) as url, pytest.raises(OSError, match="No space") as caught:
        download(url, full, most_bytes=9, budget=Budget(CLOCK, 60.0, "x"), stop=threading.Event())
    assert caught.value.errno == 28


def test_a_stranger_is_final_and_a_ca_that_is_not_there_may_come(tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    with https_store(pki.tls.cert, pki.tls.key) as store:
        store.files["/f"] = (b"hello", "")
        assert got(f"{store.url}/f", ca=pki.ca) == b"hello"
        with pytest.raises(DownloadFailed, match=r"TLS: .*certificate verify failed") as caught:
            got(f"{store.url}/f")
        assert caught.value.again_s is None
        with pytest.raises(DownloadFailed, match="CA certificate bundle") as caught:
            got(f"{store.url}/f", ca=tmp_path / "none")
        assert caught.value.again_s == 0.0


def test_https_does_not_lead_to_http(tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    with answering(ok(b"5")) as there, https_store(pki.tls.cert, pki.tls.key) as store:
        store.faults = [Fault("status", "GET", status=302, headers={"Location": there})]
        with pytest.raises(DownloadFailed, match="not https") as caught:
            got(f"{store.url}/f", ca=pki.ca)
    assert caught.value.again_s is None


@pytest.mark.parametrize(("text", "number"), [(None, None), ("0", 0), ("12", 12), ("7, 7", 7)])
def test_a_promised_length(text: str | None, number: int | None) -> None:
    assert content_length({} if text is None else {"Content-Length": text}) == number


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", "1_0", "²", "٣", "1,2", "9" * 5000, "1.0"])
def test_a_length_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        content_length({"Content-Length": text})
