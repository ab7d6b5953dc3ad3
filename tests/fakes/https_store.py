"""A small WebDAV storage: PUT, GET, HEAD, MOVE, MKCOL, DELETE; fails as it is
told.
"""

import contextlib
import http.server
import socket
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.fakes.serve import http_server


@dataclass
class Fault:
    """What happens to one request whose method is `method`.

    `kind`: `status`, `reset` (close without an answer), `lose` (do the work,
    then close), `half` (a PUT takes half the body, a GET sends half, and
    closes), `flip` (store another byte), `hang`, and answers of this status
    without an end: `flood` as fast as they are read, `drip` byte by byte.
    """

    kind: str
    method: str = "PUT"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class HttpsStore:
    """State of the server: path -> bytes; folders must exist."""

    url: str = ""
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/"})
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    token: str = ""
    digests: bool = True
    moves: bool = True
    redirect_to: str = ""
    flooded: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: HttpsStore

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    @property
    def _name(self) -> str:
        return unquote(self.path)

    def _fault(self) -> Fault | None:
        with self.state.lock:
            self.state.requests.append(f"{self.command} {self._name}")
            first = self.state.faults[0] if self.state.faults else None
            return self.state.faults.pop(0) if first and first.method == self.command else None

    def _serve(self) -> None:
        fault = self._fault()
        kind = fault.kind if fault else ""
        if kind == "hang":
            self.state.over.wait(60)
        if kind in ("hang", "reset"):
            self._cut()
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if kind == "half" else length)
        if kind == "half" and self.command == "PUT":
            # The truth about truncated uploads: some storages keep what came.
            self.state.files[self._name] = (body, "")
            self._cut()
            return
        if fault is not None and kind in ("flood", "drip"):
            self._pour(fault)
            return
        if fault is not None and kind == "status":
            self._answer(fault.status, b"told to fail", fault.headers)
            return
        if self.state.token and self.headers.get("Authorization") != f"Bearer {self.state.token}":
            self._answer(401, b"who are you?")
            return
        if kind == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        status, data, headers = getattr(self, f"_{self.command.lower()}")(body)
        if kind == "lose":
            self._cut()
            return
        self._answer(status, data, headers, half=kind == "half")

    do_PUT = do_GET = do_HEAD = do_MOVE = do_MKCOL = do_DELETE = _serve

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _pour(self, fault: Fault) -> None:
        piece, pause_s = (b"x" * 1_000_000, 0.0) if fault.kind == "flood" else (b"x", 0.1)
        self.close_connection = True
        self.send_response_only(fault.status)
        for key, value in {"Content-Length": str(10**12), **fault.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        while not self.state.over.wait(pause_s):
            self.wfile.write(piece)
            self.state.flooded += len(piece)

    def _answer(
        self, status: int, data: bytes = b"", headers: dict[str, str] | None = None, *, half: bool = False
    ) -> None:
        told = {"Date": self.date_time_string(), "Content-Length": str(len(data)), **(headers or {})}
        self.send_response_only(status)
        for key, value in told.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            self._cut()

    def _put(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self.state.redirect_to:
            return 307, b"", {"Location": f"{self.state.redirect_to}{self.path}"}
        if self._name.rpartition("/")[0] + "/" not in self.state.folders:
            return 409, b"no such folder", {}
        self.state.files[self._name] = (body, self.headers.get("Content-Type", ""))
        return 201, b"", {}

    def _get(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        found = self.state.files.get(self._name)
        if found is None:
            return 404, b"no such file", {}
        headers = {"Content-Type": found[1]}
        if self.state.digests and "adler32" in self.headers.get("Want-Digest", ""):
            headers["Digest"] = f"adler32={zlib.adler32(found[0]):08x}"
        return 200, found[0], headers

    _head = _get

    def _move(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if not self.state.moves:
            return 501, b"", {}
        with self.state.lock:
            found = self.state.files.pop(self._name, None)
            if found is None:
                return 404, b"", {}
            self.state.files[unquote(urlsplit(self.headers["Destination"]).path)] = found
        return 201, b"", {}

    def _mkcol(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self._name in self.state.folders:
            return 405, b"", {}
        self.state.folders.add(self._name)
        return 201, b"", {}

    def _delete(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        return (204 if self.state.files.pop(self._name, None) else 404), b"", {}


@contextlib.contextmanager
def https_store(certificate: Path | None = None, key: Path | None = None) -> Iterator[HttpsStore]:
    """Serve on loopback while the block lasts; with TLS if a certificate is
    given.
    """
    state = HttpsStore()
    with http_server(_Handler, state, certificate=certificate, key=key):
        yield state
