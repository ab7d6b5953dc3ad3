"""The client on the wire: answers that drip or never end, sizes, headers,
connections.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.clock import SystemClock
from pilot_core.base.scope import Scope
from pilot_core.errors import (
    ServerError,
    ServerUnreachable,
)
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from pilot_core.model.report import JobState, WorkerState
from tests.fakes.answering import Answer, answering
from tests.fakes.client import JOB, QUEUE, REQUEST, acquire, budget, client, report, update
from tests.fakes.patience import stated
from tests.fakes.server import SkippingClock


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda", adder_delay_s=3_600) as panda:
        yield panda


def trickle(text: bytes) -> Answer:
    """One byte every 20 ms: no single wait is long, and there is no end."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        for byte in text:
            connection.sendall(bytes([byte]))
            if stop.wait(0.02):
                return

    return answer


SLOW = {
    "silence": lambda connection, stop: stop.wait(5.0),
    "status line": trickle(b"HTTP/1.1 200 " + b"O" * 60_000),
    "headers": trickle(b"HTTP/1.1 200 OK\r\n" + b"X-Nothing: 1\r\n" * 90 + b"X: " + b"y" * 60_000),
    "body": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b" " * 60_000),
    "chunks": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9_000),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_no_answer_outlives_the_budget(answer: Answer) -> None:
    with answering(answer) as url, client(url, SystemClock()) as server:
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable):
            server.acquire_job(REQUEST, budget=budget(0.4), stop=threading.Event())
        assert time.monotonic() - begin < stated(1.0)


def test_a_budget_that_is_shortened_ends_a_request_under_way() -> None:
    """SIGTERM comes while the server thinks: the time is needed for the last
    word.
    """
    whole = budget(600.0)
    with answering(SLOW["silence"]) as url, client(url, SystemClock()) as server, Scope("signal") as scope:

        def term() -> None:
            scope.stopping.wait(0.2)
            whole.shorten(0.1)

        scope.spawn("term", term)
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable):
            server.update_job(report(1, JobState.FAILED), budget=whole, stop=threading.Event())
        assert time.monotonic() - begin < stated(2.0)


def test_a_page_instead_of_an_answer_is_named(panda: LocalPanda) -> None:
    panda.faults.add(Fault("*", FaultKind.HTML))
    with client(panda.url) as server, pytest.raises(ServerUnreachable) as caught:
        acquire(server)
    assert str(caught.value) == caught.value.diag
    assert caught.value.diag.startswith(f"{panda.url}: a web page instead of an answer: <!DOCTYPE html>")


@pytest.mark.parametrize("head", [b"200 OK", b"302 Found\r\nLocation: /login"], ids=["answer", "redirect"])
def test_an_endless_answer_ends(head: bytes) -> None:
    def flood(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 %s\r\n\r\n" % head)
        while not stop.is_set():
            connection.sendall(b"x" * 1_000_000)

    with (
        answering(flood) as url,
        client(url) as server,
        pytest.raises(ServerUnreachable, match="longer than"),
    ):
        acquire(server)


BROKEN = {
    "a redirect to no address": b"302 F\r\nLocation: http://[login/\r\nContent-Length: 0\r\n\r\n",
    "a length of 5000 digits": b"200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "a length of one raised digit": b"200 OK\r\nContent-Length: \xb2\r\n\r\n{}",
    "two lengths": b"200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "more than it promised": b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_that_makes_no_sense_is_no_answer(answer: bytes) -> None:
    with answering(answer) as url, client(url, api="v1") as server, pytest.raises(ServerUnreachable):
        update(server, report(1, JobState.RUNNING))


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FINISHED])
def test_a_mistake_of_ours_is_a_failed_update(state: JobState, caplog: pytest.LogCaptureFixture) -> None:
    """Heartbeats and final reports are to go on after it."""
    wrong = report(1, state, cores="many")
    with client("http://127.0.0.1:9", api="v1") as server, pytest.raises(ServerUnreachable) as caught:
        server.update_job(wrong, budget=budget(0.5), stop=threading.Event())
    assert caught.value.diag == "http://127.0.0.1:9: unforeseen TypeError"
    assert "Traceback" in caplog.text


def test_a_large_definition_passes(panda: LocalPanda) -> None:
    parameters = "x" * 3_000_000
    panda.store.submit({**JOB, "jobPars": parameters})
    with client(panda.url) as server:
        job = acquire(server)
    assert isinstance(job, dict)
    assert job["jobPars"] == parameters


def test_a_large_report_goes_gzipped(panda: LocalPanda) -> None:
    panda_id = panda.store.submit(JOB)
    metadata = '{"x": "' + "abc" * 100_000 + '"}'
    with client(panda.url, api="v1") as server:
        acquire(server)
        update(server, report(panda_id, JobState.FINISHED, metadata=metadata))
    assert panda.store.job(panda_id).metadata == metadata
    assert panda.calls("update_job")[0].headers["content-encoding"] == "gzip"


# -- headers, connections, credentials ----------------------------------------


def test_headers(panda: LocalPanda) -> None:
    with client(panda.url, api="v1") as server:
        acquire(server)
    with client(panda.url, api="legacy") as server:
        acquire(server)
    new, old = (record.headers for record in panda.requests)
    assert (new["content-type"], old["content-type"]) == (
        "application/json",
        "application/x-www-form-urlencoded",
    )
    for headers in (new, old):
        assert headers["accept"] == "application/json"
        assert headers["user-agent"].startswith("pilot/")
        assert "authorization" not in headers


def test_one_connection_serves_many_requests() -> None:
    """And a new one is made after a rest: a NAT may have forgotten the old
    one.
    """
    connections = 0

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        nonlocal connections
        connections += 1
        body = b'{"success": false, "message": "No jobs in PanDA", "data": null}'
        for _ in range(3):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            if not connection.recv(65_536):
                return

    clock = SkippingClock()
    with answering(answer) as url, client(url, clock) as server:
        acquire(server)
        acquire(server)
        assert connections == 1
        clock.wait(threading.Event(), 120.0)
        acquire(server)
        assert connections == 2


def test_an_upload_whose_answer_was_lost_is_good(panda: LocalPanda, tmp_path: Path) -> None:
    path = tmp_path / "Rubin_17.out"
    path.write_bytes(os.urandom(3_000_000))
    panda.faults.add(Fault("upload", FaultKind.RESET, commit=True))
    with client(panda.url) as server:
        server.upload_worker_log(path, budget=budget(), stop=threading.Event())
    assert (panda.folder / "cache" / path.name).read_bytes() == path.read_bytes()


def test_every_failure_is_a_server_error(panda: LocalPanda) -> None:
    """Each kind of fault on each call: nothing but `ServerError` comes out."""
    for kind in FaultKind:
        if kind is FaultKind.SLOW:
            continue
        panda.faults.add(Fault("*", kind, count=None, seconds=0.05))
        with client(panda.url) as server:
            for call in (
                lambda server=server: acquire(server),
                lambda server=server: update(server, report(1)),
                lambda server=server: server.update_worker(
                    WorkerState.STARTED, site=QUEUE, node="n", budget=budget(), stop=threading.Event()
                ),
            ):
                with contextlib.suppress(ServerError):
                    call()
        panda.faults.clear()
    assert {struck.fault.kind for struck in panda.faults.done} == set(FaultKind) - {FaultKind.SLOW}
