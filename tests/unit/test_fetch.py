"""Where a transformation may come from."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import PilotError
from pilot_core.fetch import allowed, fetch_script
from pilot_core.model.codes import ErrorCode
from tests.fakes.drip import DRIPS, dripping

BASES = ("https://storage.googleapis.com/drp-us-central1-containers", "https://pandaserver.cern.ch")


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.googleapis.com/drp-us-central1-containers/bash-c-enc",
        "https://pandaserver.cern.ch/trf/user/runGen-00-00-02",
        "https://pandaserver.cern.ch:443/trf/x",
        "https://PANDASERVER.cern.ch/trf/x",
    ],
)
def test_allowed(url: str) -> None:
    assert allowed(url, BASES)


@pytest.mark.parametrize(
    "url",
    [
        "https://pandaserver.cern.ch.evil.org/x",
        "https://pandaserver.cern.ch@evil.org/x",
        "https://user:pw@pandaserver.cern.ch/x",
        "http://pandaserver.cern.ch/x",
        "https://pandaserver.cern.ch:8443/x",
        "https://storage.googleapis.com/drp-us-central1-containers-evil/x",
        "https://storage.googleapis.com/drp-us-central1-containers/../other/x",
        "https://storage.googleapis.com/drp-us-central1-containers/%2e%2e/other/x",
        "https://storage.googleapis.com/drp-us-central1-containers",
        "https://storage.googleapis.com/",
        "file:///etc/passwd",
        "https://[::1",
        "",
    ],
)
def test_not_allowed(url: str) -> None:
    assert not allowed(url, BASES)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        kind = self.path.rsplit("/", 1)[-1]
        if kind == "flaky" and len(self.asked) == 1:
            self.send_error(503)
            return
        if kind == "missing":
            self.send_error(404)
            return
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/evil")
            self.end_headers()
            return
        body = b"<!DOCTYPE html><html>portal</html>" if kind == "page" else b"#!/bin/sh\necho ok\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (10 if kind == "half" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def base() -> Iterator[str]:
    Handler.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/trf"
    server.shutdown()
    server.server_close()
    thread.join()


def get(base: str, name: str, target: Path) -> None:
    clock = SystemClock()
    fetch_script(
        f"{base}/{name}",
        target,
        base_urls=[base],
        ca=None,
        budget=Budget(clock, 20.0, "test"),
        clock=clock,
        stop=threading.Event(),
    )


@pytest.mark.parametrize("name", ["script", "flaky"])
def test_a_script_arrives_executable(base: str, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    get(base, name, target)
    assert target.read_bytes().startswith(b"#!/bin/sh")
    assert target.stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("name", "word"), [("missing", "404"), ("moved", "302"), ("page", "HTML"), ("half", "half")]
)
def test_anything_else_is_an_error_that_names_the_url(
    base: str, tmp_path: Path, name: str, word: str
) -> None:
    target = tmp_path / name
    with pytest.raises(PilotError) as caught:
        get(base, name, target)
    assert caught.value.code == ErrorCode.TRFDOWNLOADFAILURE
    assert f"{base}/{name}" in caught.value.diag
    assert word in caught.value.diag
    assert not target.exists()


def test_a_permanent_error_is_not_repeated(base: str, tmp_path: Path) -> None:
    with pytest.raises(PilotError):
        get(base, "missing", tmp_path / "x")
    assert len(Handler.asked) == 1


def test_a_silent_server_is_left_when_the_pilot_is_killed(tmp_path: Path) -> None:
    clock = SystemClock()
    stop = threading.Event()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/trf"
        # Nothing wakes the one who waits but this.
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(PilotError) as caught:
            fetch_script(
                f"{base}/x",
                tmp_path / "x",
                base_urls=[base],
                ca=None,
                budget=Budget(clock, 3.0, "test"),
                clock=clock,
                stop=stop,
            )
        assert time.monotonic() - began < 2.0
        timer.join()
    assert caught.value.code == ErrorCode.PANDAKILL


def test_an_existing_script_is_not_fetched(base: str, tmp_path: Path) -> None:
    target = tmp_path / "script"
    target.write_text("mine")
    get(base, "script", target)
    assert target.read_text() == "mine"
    assert not Handler.asked


@pytest.mark.parametrize("drip", DRIPS)
def test_a_server_that_answers_byte_by_byte_has_no_more_time_than_others(tmp_path: Path, drip: str) -> None:
    clock = SystemClock()
    with dripping(DRIPS[drip]) as base:
        began = time.monotonic()
        with pytest.raises(PilotError) as caught:
            fetch_script(
                f"{base}/trf/x",
                tmp_path / "x",
                base_urls=[f"{base}/trf"],
                ca=None,
                budget=Budget(clock, 0.6, "test"),
                clock=clock,
                stop=threading.Event(),
            )
        assert time.monotonic() - began < 3.0
    assert caught.value.code == ErrorCode.TRFDOWNLOADFAILURE
