"""HTTP/1.1 for the local server: sockets, TLS, keep-alive; bytes in, bytes
out.

One thread a connection, each in the owner's scope.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

from pilot_core.local.exchange import Answer, Exchange, Identity, Refusal

__all__ = ["Handler", "Listener", "Owner"]

log = logging.getLogger(__name__)

#: Seconds an idle connection is kept, as by the Apache before the real server.
KEEP_ALIVE_S = 600.0
HANDSHAKE_S = 10.0


class Owner(Protocol):
    """Who answers, and where the threads live."""

    def identity(self, connection: socket.socket, headers: Mapping[str, str]) -> Identity: ...
    def handle(self, exchange: Exchange, handler: "Handler") -> None: ...
    def spawn(self, function: Callable[..., object], *args: Any) -> None: ...


class Listener(HTTPServer):
    """Accepts; a thousand pilots may knock at once."""

    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], owner: Owner, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without the base class's name look-up: seconds, on some
        laptops.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        self.owner.spawn(self.serve_connection, request, client_address)

    def serve_connection(self, request: socket.socket, address: Any) -> None:
        """Handshake, requests, end; in the connection's own thread."""
        sock = request
        try:
            request.settimeout(KEEP_ALIVE_S)
            if self._tls is not None:
                request.settimeout(HANDSHAKE_S)
                sock = self._tls.wrap_socket(request, server_side=True)
                sock.settimeout(KEEP_ALIVE_S)
                with self._lock:
                    self._open.discard(request)
                    self._open.add(sock)
            self.finish_request(sock, address)
        except (OSError, ValueError) as err:
            # The client went away, or we closed on it: its business.
            log.debug("connection from %s: %s", address, err)
        finally:
            with self._lock:
                self._open.discard(request)
                self._open.discard(sock)
            self.shutdown_request(sock)

    def drop_connections(self) -> None:
        """Close what is open, so that no thread waits for another request."""
        with self._lock:
            for sock in self._open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    log.debug("connection was closed already")


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive: bytes in, bytes out."""

    protocol_version = "HTTP/1.1"
    server_version = "LocalPanda"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Listener

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        parts = urlsplit(self.path)
        try:
            who = self.server.owner.identity(self.connection, headers)
        except Refusal as refusal:
            self.send(refusal.answer)
            return
        exchange = Exchange(self.command, parts.path, parts.query, headers, body, who)
        self.server.owner.handle(exchange, self)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return b"".join(parts)

    def send(self, answer: Answer, *, half: bool = False) -> None:
        """Send an answer; with `half`, all headers, half the body and no more."""
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)
        self.wfile.flush()
        if half:
            self.close_connection = True

    def reset(self) -> None:
        """End the connection with a TCP reset instead of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close_connection = True
        # The base class would say goodbye properly; closing at once sends the
        # reset.
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%s %s", self.client_address[0], format % args)
