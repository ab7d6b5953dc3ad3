"""Cloud Logging on loopback: `entries:write` with its limits, and faults on
order.

Enforced as documented (quotas page, log_entry.proto, WriteLogEntries): 10 MiB
a
request, 256 KiB an entry in its internal size (measured with protobuf itself),
64 labels, log names, severities, timestamps at most a day ahead, plain JSON;
`partialSuccess` with the indices of what was refused; `dryRun`. A reader sees
entries of the same time and insert id once, sorted by time and insert id.
"""

import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from tests.fakes.serve import Served

MOST_REQUEST = 10 * 1024 * 1024
MOST_ENTRY = 256 * 1024
SEVERITIES = frozenset(
    ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
)
RESOURCES = {
    "global": {"project_id"},
    "k8s_container": {
        "project_id", "location", "cluster_name", "namespace_name", "pod_name", "container_name",
    },
    "generic_task": {"project_id", "location", "namespace", "job", "task_id"},
}  # fmt: skip
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass
class Fault:
    """What goes wrong, for `times` writes (-1: until taken away), each
    `every`-th.

    `commit` stores the entries before anything else goes wrong; `partial`
    stores
    every other one and answers with this google.rpc.Code for the rest.
    """

    status: int = 0
    times: int = 1
    every: int = 1
    commit: bool = False
    partial: int = 0
    hang_s: float = 0.0
    reset: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    seen: int = 0


class Refused(Exception):
    """The request as a whole, or one entry of it, breaks a rule."""


class CloudLogging(Served):
    """The service; `with CloudLogging() as service: service.url ...`.

    Parameters
    ----------
    token
        Where given, requests need it as bearer token; `/token` hands it out.
    """

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.faults: list[Fault] = []
        self.written: list[dict[str, Any]] = []
        self.requests = 0
        self.refused: list[str] = []
        self.resources: list[dict[str, Any]] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        server = _Server(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        server.owner = self
        super().__init__(server)

    def __exit__(self, *error: object) -> None:
        self.released.set()
        super().__exit__(*error)

    def entries(self, log_id: str) -> list[dict[str, Any]]:
        """One log as a reader sees it: each entry once, by time and insert id."""
        with self._lock:
            mine = [e for e in self.written if e["logName"].rsplit("/", 1)[1] == log_id]
        unique: dict[tuple[str, str], dict[str, Any]] = {}
        for entry in mine:
            unique.setdefault((entry["timestamp"], entry["insertId"]), entry)
        return [unique[key] for key in sorted(unique)]

    visible = entries

    def credentials(self, path: Path) -> Path:
        """A service account key whose tokens this server hands out."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        info = {
            "type": "service_account",
            "project_id": "fake-project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "pilot@fake-project.iam.gserviceaccount.com",
            "token_uri": f"{self.url}/token",
        }
        path.write_text(json.dumps(info))
        path.chmod(0o600)
        return path

    def write(self, body: dict[str, Any], size: int) -> dict[int, str]:
        """Store what is good of a request; the refused entries' indices and
        reasons.
        """
        if size > MOST_REQUEST:
            raise Refused(f"Request payload size exceeds the limit: {MOST_REQUEST} bytes.")
        unknown = set(body) - {"logName", "resource", "labels", "entries", "partialSuccess", "dryRun"}
        if unknown:
            raise Refused(f"Invalid JSON payload received. Unknown name {sorted(unknown)[0]!r}")
        resource = body.get("resource", {"type": "global", "labels": {}})
        _check_resource(resource)
        good: list[dict[str, Any]] = []
        bad: dict[int, str] = {}
        for index, entry in enumerate(body["entries"]):
            try:
                good.append(_checked(entry, body, resource))
            except Refused as err:
                bad[index] = str(err)
        if bad and (not body.get("partialSuccess") or not good):
            raise Refused(next(iter(bad.values())))
        if not body.get("dryRun"):
            with self._lock:
                self.written += good
                self.resources.append(resource)
        return bad

    def next_fault(self) -> Fault | None:
        """The fault that this request runs into."""
        with self._lock:
            self.requests += 1
            for fault in self.faults:
                fault.seen += 1
                if fault.times and fault.seen % fault.every == 0:
                    fault.times -= 1
                    return fault
        return None


def _check_resource(resource: dict[str, Any]) -> None:
    allowed = RESOURCES.get(resource.get("type", ""))
    if allowed is None or not set(resource.get("labels", {})) <= allowed:
        raise Refused(f"Unrecognized monitored resource or label: {resource}")


def _checked(entry: dict[str, Any], body: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    name = entry.get("logName", body.get("logName", ""))
    log_id = unquote(name.rsplit("/", 1)[-1])
    if not name.startswith("projects/") or not log_id or len(log_id) >= 512:
        raise Refused(f"Log name contains illegal characters or is missing: {name!r}")
    if not all(c.isalnum() or c in "/_-." for c in log_id):
        raise Refused(f"Log name contains illegal characters: {name!r}")
    labels = {**body.get("labels", {}), **entry.get("labels", {})}
    if len(labels) > 64:
        raise Refused("Too many labels")
    severity = entry.get("severity", "DEFAULT")
    if severity not in SEVERITIES:
        raise Refused(f"Invalid value at 'severity': {severity!r}")
    stamp = entry.get("timestamp") or _shown(datetime.now(UTC))
    _check_time(stamp)
    payload = entry.get("jsonPayload", entry.get("textPayload", ""))
    if isinstance(payload, dict) and len(json.dumps(payload)) > MOST_ENTRY // 8:
        try:
            size = json_format.ParseDict(payload, Struct()).ByteSize()
        except json_format.ParseError as err:
            raise Refused(f"Invalid JSON payload: {err}") from err
        if size > MOST_ENTRY:
            raise Refused(f"Log entry with size {size} exceeds maximum size of {MOST_ENTRY} bytes")
    return {
        "logName": f"{name.rsplit('/', 1)[0]}/{log_id}",
        "severity": severity,
        "timestamp": stamp,
        "insertId": entry.get("insertId") or f"server-{time.monotonic_ns():020d}",
        "labels": labels,
        "resource": resource,
        "jsonPayload": payload,
        "received": time.time(),
    }


def _check_time(stamp: str) -> None:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError as err:
        raise Refused(f"Invalid value at 'timestamp': {stamp!r}") from err
    if moment > datetime.now(UTC) + timedelta(days=1):
        raise Refused(f"Log entry timestamp {stamp} is too far in the future")


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Server(ThreadingHTTPServer):
    owner: CloudLogging
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body leave as two segments; without this each answer waits 40
    # ms.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        service = self.server.owner
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/token":
            self._answer(200, {"access_token": service.token, "expires_in": 3600, "token_type": "Bearer"})
            return
        if self.path != "/v2/entries:write":
            self._fail(404, "Not found")
            return
        fault = service.next_fault()
        if fault is not None and not (fault.commit or fault.partial) and self._suffer(fault):
            return
        if service.token and self.headers.get("Authorization") != f"Bearer {service.token}":
            self._fail(401, "Request had invalid authentication credentials.")
            return
        try:
            body = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
            held = self._hold_back(body, fault.partial) if fault is not None else {}
            bad = service.write(body, len(raw))
        except (Refused, ValueError) as err:
            service.refused.append(str(err))
            self._fail(400, str(err))
            return
        if fault is not None and fault.commit and self._suffer(fault):
            return
        if held:
            self._fail_partly(429, held)
        elif bad:
            service.refused += bad.values()
            self._fail_partly(400, {str(i): {"code": 3, "message": why} for i, why in bad.items()})
        else:
            self._answer(200, {})

    @staticmethod
    def _hold_back(body: dict[str, Any], code: int) -> dict[str, dict[str, Any]]:
        """Take every other entry out of the request; their errors."""
        entries = body["entries"]
        if not code or len(entries) < 2:
            return {}
        body["entries"] = entries[::2]
        return {str(i): {"code": code, "message": "held back"} for i in range(1, len(entries), 2)}

    def _fail_partly(self, status: int, each: dict[str, dict[str, Any]]) -> None:
        kind = "type.googleapis.com/google.logging.v2.WriteLogEntriesPartialErrors"
        message = str(next(iter(each.values()))["message"])
        self._fail(status, message, details=[{"@type": kind, "logEntryErrors": each}])

    def _suffer(self, fault: Fault) -> bool:
        """Do what the fault says; False if the request goes on undisturbed."""
        if fault.hang_s:
            self.server.owner.released.wait(fault.hang_s)
            if not fault.status and not fault.reset:
                return False
        if fault.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return True
        if fault.status:
            self._fail(fault.status, fault.message or f"fault {fault.status}", headers=fault.headers)
            return True
        return False

    def _fail(
        self,
        status: int,
        message: str,
        *,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        error = {"code": status, "message": message, "status": STATUS_NAMES.get(status, "UNKNOWN")}
        self._answer(status, {"error": {**error, "details": details or []}}, headers)

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
