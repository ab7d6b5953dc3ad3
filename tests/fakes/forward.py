"""Fluentd's forward protocol, and Logstash by TCP and HTTP, on loopback."""

import base64
import contextlib
import json
import socket
import socketserver
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pilot_core.logship.sinks.msgpack import unpack
from tests.fakes.serve import Served


class _Service(Served):
    """Entries as a reader finds them, each insert id once."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        super().__init__(server)
        self.away = False
        self.found: dict[str, dict[str, Any]] = {}

    def keep(self, record: dict[str, Any], timestamp: str) -> None:
        """Store one record."""
        uid = record.pop("insertId")
        self.found.setdefault(
            uid,
            {
                "insertId": uid,
                "severity": record.pop("severity"),
                "timestamp": timestamp,
                "jsonPayload": record,
            },
        )

    def read(self) -> list[dict[str, Any]]:
        """Every entry once, in the order of arrival."""
        return list(self.found.values())


def _listener(serve: Callable[[socket.socket], None]) -> socketserver.ThreadingTCPServer:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # A client that hangs up, at any moment, is the usual end.
            with contextlib.suppress(OSError):
                serve(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    return Server(("127.0.0.1", 0), Handler)


class Fluentd(_Service):
    """The forward protocol's server side: Forward mode with `chunk`.

    `odd_ack` is answered in place of the right one.
    """

    def __init__(self) -> None:
        super().__init__(_listener(self._serve))
        self.tags: set[str] = set()
        self.odd_ack = ""

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        while fresh := connection.recv(1 << 20):
            data += fresh
            try:
                (tag, events, option), end = unpack(data)
            except (IndexError, struct.error):
                continue
            data = data[end:]
            if self.away:
                return
            self.tags.add(tag)
            assert option["size"] == len(events)
            for when, record in events:
                self.keep(record, _shown(when))
            ack = (self.odd_ack or option["chunk"]).encode()
            connection.sendall(b"\x81\xa3ack" + bytes((0xD9, len(ack))) + ack)


def _shown(event_time: bytes) -> str:
    kind, seconds, nanoseconds = struct.unpack(">BII", event_time)
    assert kind == 0
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LogstashTcp(_Service):
    """`input { tcp { codec => json_lines } }`: takes, and never answers."""

    def __init__(self) -> None:
        super().__init__(_listener(self._serve))

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        while fresh := connection.recv(1 << 20):
            *lines, data = (data + fresh).split(b"\n")
            for line in lines:
                record = json.loads(line)
                record.pop("logname")
                self.keep(record, record.pop("@timestamp"))


class LogstashHttp(_Service):
    """`input { http { user => ... password => ... } }`."""

    def __init__(self, login: str = "", password: str = "") -> None:
        expected = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode() if login else ""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                status = 200
                if owner.away:
                    status = 429  # its queue is full
                elif expected and self.headers.get("Authorization") != expected:
                    status = 401
                else:
                    for record in json.loads(raw):
                        record.pop("logname")
                        owner.keep(record, record.pop("@timestamp"))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *args: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        super().__init__(server)
