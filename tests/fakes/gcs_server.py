"""A small Cloud Storage of our own: it knows generations and fails as it is
told.

The emulator from PyPI ignores preconditions and never fails; this one does
both, and knows only uploads and metadata.
"""

import base64
import contextlib
import email
import email.policy
import http.server
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from tests.fakes.serve import http_server


@dataclass
class Fault:
    """What happens to a request instead of, or after, its work.

    `kind`: `status` (answer `status`), `reset` (close the connection), `hang`
    (say nothing until the end), `break` (take half a piece, then close),
    `lose`
    (do the work, then close), `corrupt` (claim another checksum).
    """

    kind: str
    status: int = 0
    message: str = "told to fail"
    reason: str = ""


@dataclass
class Object:
    data: bytes
    content_type: str
    generation: int


@dataclass
class GcsServer:
    """State of the server; requests that match `only` use up `faults` in turn.

    `took` hears of each piece of a body that has come, in bytes.
    """

    url: str = ""
    objects: dict[str, Object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    only: str = r"(POST|PUT) /upload"
    requests: list[str] = field(default_factory=list)
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    generation: int = 100
    took: Callable[[int], None] = lambda _: None

    def fault(self, line: str) -> Fault | None:
        with self.lock:
            self.requests.append(line)
            return self.faults.pop(0) if self.faults and re.match(self.only, line) else None

    def store(self, name: str, data: bytes, content_type: str, match: str | None) -> Object | None:
        """Store an object; None if the precondition fails."""
        with self.lock:
            current = self.objects.get(name)
            if match is not None and int(match) != (current.generation if current else 0):
                return None
            self.generation += 1
            self.objects[name] = Object(data, content_type, self.generation)
            return self.objects[name]


def metadata(name: str, found: Object) -> dict[str, str]:
    crc = google_crc32c.value(found.data).to_bytes(4, "big")
    return {
        "name": name,
        "bucket": "bucket",
        "size": str(len(found.data)),
        "crc32c": base64.b64encode(crc).decode(),
        "generation": str(found.generation),
        "contentType": found.content_type,
    }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: GcsServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(self._metadata)

    def do_POST(self) -> None:
        self._serve(self._upload)

    def do_PUT(self) -> None:
        self._serve(self._piece)

    def _serve(self, work: Any) -> None:
        fault = self.state.fault(self.requestline)
        if fault is not None and fault.kind == "hang":
            self.state.over.wait(60)
            self.close_connection = True
            return
        if fault is not None and fault.kind == "break":
            self._take_half()
            return
        body = self._body()
        if body is None:
            return
        if fault is not None and fault.kind == "reset":
            self._cut()
            return
        if fault is not None and fault.kind == "status":
            reason = [{"reason": fault.reason, "message": fault.message}]
            self._answer(fault.status, {"error": {"message": fault.message, "errors": reason}})
            return
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        status, answer, headers = work(split.path, query, body)
        if fault is not None and fault.kind == "corrupt" and "name" in answer:
            answer["crc32c"] = "AAAAAA=="
        if fault is not None and fault.kind == "lose":
            self._cut()
            return
        self._answer(status, answer, headers)

    def _body(self) -> bytes | None:
        """The whole body; None if the client went away in the middle of it."""
        left, body = int(self.headers.get("Content-Length") or 0), bytearray()
        while left > 0 and (piece := self.rfile.read(min(left, 65_536))):
            self.state.took(len(piece))
            body += piece
            left -= len(piece)
        self.close_connection = self.close_connection or left > 0
        return None if left else bytes(body)

    def _take_half(self) -> None:
        """Keep the first half of a piece, in units of 256 KiB, and close."""
        query = parse_qs(urlsplit(self.path).query)
        half = int(self.headers["Content-Length"]) // 2 // 262144 * 262144
        self.state.uploads[query["upload_id"][0]]["data"] += self.rfile.read(half)
        self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        with contextlib.suppress(ConnectionError):  # a client may be killed
            self.end_headers()
            self.wfile.write(raw)

    def _metadata(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, Any]:
        name = unquote(path.rsplit("/", 1)[1])
        found = self.state.objects.get(name)
        if found is None:
            return 404, {"error": {"message": "No such object"}}, None
        return 200, metadata(name, found), None

    def _upload(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, Any]:
        if query["uploadType"] == "resumable":
            told = json.loads(body)
            key = str(len(self.state.uploads))
            kind = self.headers.get("x-upload-content-type", "")
            self.state.uploads[key] = {"name": told["name"], "data": b"", "type": kind, "query": query}
            return 200, {}, {"Location": f"{self.state.url}/upload/resume?upload_id={key}"}
        header = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.message_from_bytes(header + body, policy=email.policy.HTTP).get_payload()
        assert isinstance(parts, list)
        told = json.loads(str(parts[0].get_payload()))
        boundary = re.search(rb'boundary="?([^";]+)', header)
        assert boundary is not None
        # By hand: the parser would change the line ends of the object.
        data = body.split(b"--" + boundary[1])[2].split(b"\r\n\r\n", 1)[1][:-2]
        return self._finish(told["name"], data, str(parts[1].get_content_type()), query)

    def _piece(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, Any]:
        upload = self.state.uploads[query["upload_id"]]
        found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", self.headers["Content-Range"])
        assert found is not None
        if found[1] is not None and int(found[1]) == len(upload["data"]):
            upload["data"] += body
        if found[2] != "*" and len(upload["data"]) == int(found[2]):
            return self._finish(upload["name"], upload["data"], upload["type"], upload["query"])
        return 308, {}, {"Range": f"bytes=0-{len(upload['data']) - 1}"} if upload["data"] else {}

    def _finish(self, name: str, data: bytes, kind: str, query: dict[str, str]) -> tuple[int, Any, Any]:
        stored = self.state.store(name, data, kind, query.get("ifGenerationMatch"))
        if stored is None:
            return 412, {"error": {"message": "conditionNotMet"}}, None
        return 200, metadata(name, stored), None


@contextlib.contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """Serve on loopback while the block lasts."""
    state = GcsServer()
    with http_server(_Handler, state):
        yield state
