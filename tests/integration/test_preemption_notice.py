"""The metadata lookup against a real HTTP server on loopback."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pilot_core.monitor.shutdown import PreemptionNotice
from tests.fakes.drip import DRIPS, dripping
from tests.fakes.patience import stated


@contextmanager
def metadata_server(body: bytes, *, status: int = 200, flavor: str = "Google") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path == "/computeMetadata/v1/instance/preempted"
            allowed = self.headers.get("Metadata-Flavor") == "Google"
            self.send_response(status if asked and allowed else 403)
            if flavor:
                self.send_header("Metadata-Flavor", flavor)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/computeMetadata/v1/instance/preempted"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.mark.parametrize(("body", "said"), [(b"TRUE", True), (b"FALSE", False), (b"<html>" * 99, None)])
def test_what_the_server_says(body: bytes, said: bool | None) -> None:
    with metadata_server(body) as url:
        assert PreemptionNotice(url).preempted() is said


@pytest.mark.parametrize(("status", "flavor"), [(404, "Google"), (200, "")])
def test_another_server_says_nothing(status: int, flavor: str) -> None:
    with metadata_server(b"TRUE", status=status, flavor=flavor) as url:
        assert PreemptionNotice(url).preempted() is None


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert PreemptionNotice(f"http://127.0.0.1:{free.getsockname()[1]}/x").preempted() is None


def test_a_server_that_never_answers_costs_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        notice = PreemptionNotice(f"http://127.0.0.1:{silent.getsockname()[1]}/x", timeout_s=0.2)
        assert notice.preempted() is None
        assert time.monotonic() - started < stated(2.0)


@pytest.mark.parametrize("begin", ["status", "header"])
def test_a_server_that_dribbles_costs_no_more(begin: str) -> None:
    with dripping(DRIPS[begin], every_s=0.05) as url:
        started = time.monotonic()
        assert PreemptionNotice(f"{url}/x", timeout_s=0.2).preempted() is None
        assert time.monotonic() - started < stated(2.0)
