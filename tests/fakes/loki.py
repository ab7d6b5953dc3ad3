"""Loki's push API on loopback: keeps lines once, refuses what is too long."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.serve import Served

MOST_LINE = 256 * 1024
MOST_MESSAGE = 4 * 1024 * 1024
# reject_old_samples_max_age and creation_grace_period
OLDEST_S, NEWEST_S = 7 * 24 * 3600, 600


class Loki(Served):
    """The service; a `status` other than 0 is answered instead of storing."""

    def __init__(self) -> None:
        self.status = 0
        self.lines: dict[tuple[tuple[str, str], ...], dict[tuple[int, str], None]] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                status, words = owner.push(self.path, raw)
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(words)))
                self.end_headers()
                if status != 204:
                    self.wfile.write(words.encode())

            def log_message(self, *args: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        super().__init__(server)

    def push(self, path: str, raw: bytes) -> tuple[int, str]:
        """Status and words for one request."""
        if self.status:
            return self.status, "away"
        if path != "/loki/api/v1/push":
            return 404, "404 page not found"
        if len(raw) > MOST_MESSAGE:
            return 413, "message too large"
        refused = ""
        for stream in json.loads(raw)["streams"]:
            labels = tuple(sorted(stream["stream"].items()))
            kept = self.lines.setdefault(labels, {})
            for moment, text in stream["values"]:
                if len(text.encode()) > MOST_LINE:
                    refused = "max entry size exceeded"
                elif not -OLDEST_S < int(moment) / 1e9 - time.time() < NEWEST_S:
                    refused = "entry has timestamp too old or too new"
                else:
                    kept[(int(moment), text)] = None
        return (400, refused) if refused else (204, "")

    def read(self) -> list[tuple[int, dict[str, str], dict[str, Any]]]:
        """Time in ns, labels and record of every line, in the order of time."""
        found = [
            (moment, dict(labels), json.loads(text))
            for labels, kept in self.lines.items()
            for moment, text in kept
        ]
        return sorted(found, key=lambda item: item[0])
