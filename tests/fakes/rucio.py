"""A Rucio server: enough of its REST interface for the real client library.

One RSE, deterministic, whose protocol is a folder of this machine; a file that
lies in it counts as registered.
"""

import contextlib
import hashlib
import http.server
import json
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.serve import http_server

RSE = "SLAC_TEST_DISK"
SCOPE = "panda"
TOKEN = "pilot-rucio-token"

# One JSON document a line.
_LINES = "application/x-json-stream"

CONFIG = """\
[client]
rucio_host = {url}
auth_host = {url}
auth_type = userpass
username = pilot
password = secret
account = pilot
auth_token_file_path = {folder}/token
protocol_stat_retries = 1
request_retries = 1
[trace]
trace_host = {url}
"""


@dataclass
class RucioServer:
    """State: the RSE's folder, and how to fail.

    Attributes
    ----------
    refuse
        Status and exception class by path prefix, told to every such request.
    checksum
        Told instead of the true adler32 of each replica.
    """

    root: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    checksum: str = ""
    hang: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def path(self, scope: str, name: str) -> Path:
        """Where Rucio's algorithm `hash` puts a file."""
        digest = hashlib.md5(f"{scope}:{name}".encode(), usedforsecurity=False).hexdigest()
        return self.root / scope / digest[:2] / digest[2:4] / name

    def settings(self) -> dict[str, Any]:
        priorities = dict.fromkeys(("read", "write", "delete", "third_party_copy_read"), 1)
        protocol = {
            "scheme": "file",
            "hostname": "localhost",
            "port": 0,
            "prefix": f"{self.root}/",
            "impl": "rucio.rse.protocols.posix.Default",
            "domains": {"lan": priorities, "wan": priorities},
            "extended_attributes": None,
        }
        return {
            "id": "1",
            "rse": RSE,
            "rse_type": "DISK",
            "deterministic": True,
            "volatile": False,
            "staging_area": False,
            "domain": ["lan", "wan"],
            "protocols": [protocol],
            "verify_checksum": True,
            "lfn2pfn_algorithm": "hash",
            "availability_read": True,
            "availability_write": True,
            "availability_delete": True,
            "credentials": None,
            "sign_url": None,
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: RucioServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _serve(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        if self.state.hang:
            self.state.over.wait(60)
            self.close_connection = True
            return
        for prefix, (status, kind) in self.state.refuse.items():
            if path.startswith(prefix):
                self._answer(
                    status, json.dumps({"ExceptionClass": kind, "ExceptionMessage": "told to"}), kind
                )
                return
        if path.startswith("/auth/"):
            self._answer(200, "")
            return
        if self.headers.get("X-Rucio-Auth-Token") != TOKEN and path != "/traces/":
            self._answer(401, "{}", "CannotAuthenticate")
            return
        parts = path.strip("/").split("/")
        known = getattr(self, f"_{parts[0]}", None)
        if known is None:
            self._answer(404, "{}", "NotFound")
        else:
            known(parts[1:], body)

    def _rses(self, parts: list[str], body: bytes) -> None:
        if not parts:
            # The other question is which of them are tapes: none.
            asked = parse_qs(urlsplit(self.path).query).get("expression", [""])[0]
            self._answer(200, json.dumps({"rse": RSE}) + "\n" if asked == RSE else "", kind=_LINES)
        elif parts[0] != RSE:
            self._answer(404, "{}", "RSENotFound")
        else:
            self._answer(200, json.dumps({} if parts[-1] == "attr" else self.state.settings()))

    def _scopes(self, parts: list[str], body: bytes) -> None:
        self._answer(200, json.dumps([SCOPE]))

    def _dids(self, parts: list[str], body: bytes) -> None:
        name = parse_qs(urlsplit(self.path).query).get("name", [""])[0]
        there = self.state.path(parts[0], name).is_file()
        found = {"scope": parts[0], "name": name, "did_type": "FILE", "bytes": 0, "length": 1}
        self._answer(200, f"{json.dumps(found)}\n" if there else "", kind=_LINES)

    def _replicas(self, parts: list[str], body: bytes) -> None:
        files = "".join(self._metalink(did["scope"], did["name"]) for did in json.loads(body)["dids"])
        text = f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">\n{files}</metalink>\n'
        self._answer(200, '<?xml version="1.0" encoding="UTF-8"?>\n' + text, kind="application/metalink4+xml")

    def _metalink(self, scope: str, name: str) -> str:
        path = self.state.path(scope, name)
        if not path.is_file():
            return ""
        sums = self.state.checksum or f"{zlib.adler32(path.read_bytes()):08x}"
        return (
            f'<file name="{name}"><identity>{scope}:{name}</identity>'
            f'<hash type="adler32">{sums}</hash><size>{path.stat().st_size}</size>'
            f'<url location="{RSE}" domain="wan" priority="1" client_extract="false">'
            f"file://localhost:0{path}</url></file>\n"
        )

    def _traces(self, parts: list[str], body: bytes) -> None:
        told = json.loads(body)
        self.state.traces += told if isinstance(told, list) else [told]
        self._answer(201, "")

    def _answer(self, status: int, text: str, error: str = "", kind: str = "application/json") -> None:
        raw = text.encode()
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(raw)), "X-Rucio-Auth-Token": TOKEN}
        headers["X-Rucio-Auth-Token-Expires"] = "Thu, 01 Jan 2099 00:00:00 UTC"
        if error:
            headers |= {"ExceptionClass": error, "ExceptionMessage": "told to"}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def rucio_server(folder: Path) -> Iterator[RucioServer]:
    """A server, and RUCIO_CONFIG that leads to it, while the block lasts."""
    state = RucioServer(folder / "rse")
    state.root.mkdir()
    config = folder / "rucio.cfg"
    with http_server(_Handler, state):
        config.write_text(CONFIG.format(url=state.url, folder=folder))
        before = os.environ.get("RUCIO_CONFIG")
        os.environ["RUCIO_CONFIG"] = str(config)
        try:
            yield state
        finally:
            del os.environ["RUCIO_CONFIG"]
            if before is not None:
                os.environ["RUCIO_CONFIG"] = before
