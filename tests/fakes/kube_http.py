"""The HTTP side of `kube_api.py`: requests taken apart, rights checked, answers
and streams sent, torn or held back as told.
"""

import contextlib
import json
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.pki import Pki

if TYPE_CHECKING:
    from tests.fakes.kube_api import KubeApi

__all__ = ["NAMESPACE", "TOKEN", "Refusal", "make_server"]

NAMESPACE = "panda"
TOKEN = "a-token"
_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/(pods|events)(?:/([^/]+))?(?:/(log))?")
_METRICS = re.compile(r"/apis/metrics\.k8s\.io/v1beta1/namespaces/([^/]+)/pods/([^/]+)")

Json = dict[str, Any]


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: "KubeApi"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve("")

    def do_POST(self) -> None:
        self._serve("create")

    def do_DELETE(self) -> None:
        self._serve("delete")

    def _serve(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            resource, name, verb = self._what(parts.path, query, verb)
            call = f"{verb} {resource} {name or body.get('metadata', {}).get('name', '')}".strip()
            self.api.calls.append(call)
            how = self.api.failing(call)
            self._allow(resource, verb)
            self._fail(how)
            answer = self._answer(resource, name, verb, query, body, how)
            if how == "lost":
                self._tear()
            elif answer is not None:
                self._send(200, answer)
        except Refusal as err:
            self._send(err.status, {"kind": "Status", "message": str(err), "code": err.status})
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def _what(self, path: str, query: dict[str, str], verb: str) -> tuple[str, str, str]:
        """Resource, name and verb, as the authoriser sees them."""
        if path == "/version":
            return "version", "", "get"
        if found := _METRICS.fullmatch(path):
            return "pods.metrics", found[2], "get"
        found = _PATH.fullmatch(path)
        if found is None or found[1] != NAMESPACE:
            raise Refusal(404, f"the server could not find the requested resource: {path}")
        resource, name = found[2], found[3] or ""
        if found[4]:
            return f"{resource}/log", name, "get"
        if verb:
            return resource, name, verb
        if name:
            return resource, name, "get"
        if query.get("watch", "").lower() == "true":
            return resource, query.get("fieldSelector", "").removeprefix("metadata.name="), "watch"
        return resource, "", "list"

    def _allow(self, resource: str, verb: str) -> None:
        if self.headers.get("Authorization", "").lower() != f"bearer {TOKEN}":
            raise Refusal(401, "Unauthorized")
        right = ("pods" if resource == "pods.metrics" else resource, verb)
        if resource != "version" and right not in self.api.rights:
            raise Refusal(403, f'User "panda-pilot" cannot {verb} resource "{resource}"')

    def _fail(self, how: str | int) -> None:
        if isinstance(how, int):
            raise Refusal(how, f"failed as told: {how}")
        if how == "hang":
            self.api.closing.wait(60)
            raise BrokenPipeError
        if how == "reset":
            self._tear()
            raise ConnectionResetError

    def _answer(
        self, resource: str, name: str, verb: str, query: dict[str, str], body: Json, how: str | int
    ) -> Json | None:
        api = self.api
        if resource == "version":
            return {"gitVersion": "v1.33.0-stub"}
        if resource == "pods.metrics":
            api.pod(name)
            return {"containers": [{"name": "payload", "usage": {"cpu": "10m", "memory": "5000Ki"}}]}
        if resource == "events":
            chosen = query.get("fieldSelector", "").removeprefix("involvedObject.name=")
            return {"items": [one for one in api.events if one["involvedObject"]["name"] == chosen]}
        if resource == "pods/log":
            since = int(query["sinceSeconds"]) if "sinceSeconds" in query else None
            follow = query.get("follow", "").lower() == "true"
            self._stream(api.log(name, since_s=since, follow=follow), "text/plain", how)
            return None
        if verb == "watch":
            if how == "gone":
                status = {"kind": "Status", "code": 410, "reason": "Expired"}
                gone = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
                self._stream(iter([gone]), "application/json", "")
                return None
            until = time.monotonic() + float(query["timeoutSeconds"])
            self._stream(api.changes(name, int(query["resourceVersion"]), until), "application/json", how)
            return None
        if verb == "create":
            return api.create(body, dry_run=query.get("dryRun") == "All")
        if verb == "delete":
            uid = body.get("preconditions", {}).get("uid", "")
            return api.delete(name, grace_s=body.get("gracePeriodSeconds", 30), uid=uid)
        if verb == "list":
            wanted = [part.split("=") for part in query.get("labelSelector", "").split(",") if part]
            found = [
                pod
                for pod in list(api.pods.values())
                if all(pod["metadata"].get("labels", {}).get(key) == value for key, value in wanted)
            ]
            return {"kind": "PodList", "items": found}
        return api.pod(name)

    def _stream(self, pieces: Iterator[bytes], kind: str, how: str | int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if how == "cut":
                # In the middle of a line, where there are several.
                self._chunk(piece[: max(1, len(piece) * 2 // 3)])
                self._tear()
                return
            self._chunk(piece)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status: int, document: Json) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _tear(self) -> None:
        """Reset, not end: what is in the buffers is lost."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


def make_server(api: "KubeApi", pki: Pki) -> _Server:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.socket = pki.tls.context().wrap_socket(server.socket, server_side=True)
    return server
