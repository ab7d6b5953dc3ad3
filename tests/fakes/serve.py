"""Servers of tests: a program until it answers, or an HTTP server in a thread."""

import contextlib
import http.server
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(url: str) -> bool:
    """True if somebody speaks HTTP there, whatever he says."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def program(
    command: Sequence[str], folder: Path, *, ready: Callable[[], bool], start_s: float = 30.0
) -> Iterator[None]:
    """Run a server while the block lasts; begin once it is `ready`.

    What it says goes to a file in `folder`, and into the failure if it ends
    too early or never answers.
    """
    said = folder / "server.log"
    with (
        said.open("wb") as out,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder) as process,
    ):
        try:
            end = time.monotonic() + start_s
            while not ready():
                assert process.poll() is None, f"{command[0]} ended: {said.read_text()}"
                assert time.monotonic() < end, f"{command[0]} does not answer: {said.read_text()}"
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


class Served:
    """A server that works in a thread while the block lasts."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def over_tls(self, certificate: Path, key: Path) -> Self:
        """The same behind a certificate; before it serves."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake in the connection's thread: a client may hang up in
        # it.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])  # type: ignore[index]

    @property
    def url(self) -> str:
        """Base URL, for HTTP."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def http_server(
    handler: type[http.server.BaseHTTPRequestHandler],
    state: Any,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Iterator[None]:
    """Serve on loopback while the block lasts.

    Parameters
    ----------
    handler
        Finds `state` as an attribute of its class.
    state
        Its `url` is set at the start, and its event `over`, which ends what
        hangs, at the end.
    """
    bound = type("Handler", (handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    served = Served(server)
    if certificate is not None and key is not None:
        served.over_tls(certificate, key)
    with served:
        state.url = served.url if certificate is None else served.url.replace("http:", "https:")
        try:
            yield
        finally:
            state.over.set()
