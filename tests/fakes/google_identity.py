"""Google's identity services on loopback: the token endpoint of a key file, a
node's metadata server, and IAM's signBlob.
"""

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from requests.adapters import HTTPAdapter

from pilot_core.local.server import TlsFiles
from tests.fakes.serve import http_server

EMAIL = "pilot@p.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

#: Where the real ones are.
METADATA, IAM = "http://metadata.google.internal", "https://iamcredentials.googleapis.com"

_SKEWED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


@dataclass
class Identity:
    """State of the services.

    Attributes
    ----------
    tls
        Certificate for IAM, reached by way of an HTTPS proxy; None without.
    off_s
        How far their clock is ahead of ours.
    answers
        Status codes to refuse the next requests with.
    signed
        What signBlob was given.
    """

    tls: TlsFiles | None = None
    url: str = ""
    off_s: float = 0.0
    answers: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    signed: list[bytes] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def session(self) -> requests.Session:
        """A session for which these are the real ones."""
        session = requests.Session()
        for host in (METADATA, IAM):
            session.mount(host, _Redirected(host, self.url))
        return session

    def environment(self, ca: Path) -> dict[str, str]:
        """For a process on a node with Workload Identity."""
        place = self.url.removeprefix("http://")
        return {
            "GCE_METADATA_HOST": place,
            "GCE_METADATA_IP": place,
            "GOOGLE_CLOUD_PROJECT": "p",
            "HTTPS_PROXY": self.url,
            "REQUESTS_CA_BUNDLE": str(ca),
        }

    def now(self) -> float:
        return time.time() + self.off_s

    def key_file(self, folder: Path) -> Path:
        """For GOOGLE_APPLICATION_CREDENTIALS."""
        path = folder / "key.json"
        path.write_text(json.dumps(key_info(f"{self.url}/token")))
        return path


def key_info(token_uri: str) -> dict[str, str]:
    """What a service account's key file holds."""
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "p",
        "client_email": EMAIL,
        "token_uri": token_uri,
        "private_key": pem.decode(),
    }


class _Redirected(HTTPAdapter):
    def __init__(self, host: str, url: str) -> None:
        super().__init__()
        self._host, self._url = host, url

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.url = self._url + (request.url or "").removeprefix(self._host)
        return super().send(request, *args, **kwargs)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Identity

    def log_message(self, format: str, *args: object) -> None:
        pass

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # another one than the server's, after CONNECT

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/":  # is this a node of Google's?
            self._answer(200, {})
            return
        account = "/computeMetadata/v1/instance/service-accounts"
        about = {"email": EMAIL, "scopes": [], "aliases": ["default"]}
        known: Mapping[str, object] = {
            f"{account}/default/": about,
            f"{account}/{EMAIL}/": about,
            f"{account}/default/token": {"access_token": "token", "expires_in": 3600},
        }
        self._answer(*((200, known[path]) if path in known else (404, {"error": path})))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(*(self._token(body) if self.path == "/token" else self._sign(json.loads(body))))

    def do_CONNECT(self) -> None:
        """An HTTPS proxy, and at once the host behind it."""
        assert self.state.tls is not None
        assert self.path == f"{IAM.removeprefix('https://')}:443"
        self.send_response_only(200)
        self.end_headers()
        self.connection = self.state.tls.context().wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def _token(self, body: bytes) -> tuple[int, Any]:
        """RFC 7523: refuses a claim whose times are not those of our clock."""
        claim = parse_qs(body.decode())["assertion"][0].split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(claim + "=" * (-len(claim) % 4)))
        if not said["iat"] - 300 < self.state.now() < said["exp"]:
            return 400, {"error": "invalid_grant", "error_description": _SKEWED}
        return 200, {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}

    def _sign(self, body: Mapping[str, str]) -> tuple[int, Any]:
        assert self.headers["Authorization"] == "Bearer token"
        assert self.path == f"/v1/projects/-/serviceAccounts/{EMAIL}:signBlob", self.path
        blob = base64.b64decode(body["payload"])
        self.state.signed.append(blob)
        return 200, {
            "keyId": "1",
            "signedBlob": base64.b64encode(KEY.sign(blob, padding.PKCS1v15(), hashes.SHA256())).decode(),
        }

    def _answer(self, status: int, answer: Any) -> None:
        self.state.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        if self.state.answers and self.command == "POST":
            status = self.state.answers.pop(0)
            answer = {"error": {"code": status, "message": "no iam.serviceAccounts.signBlob"}}
        raw = json.dumps(answer).encode()
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.state.now(), usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def google_identity(tls: TlsFiles | None = None) -> Iterator[Identity]:
    """Serve on loopback while the block lasts."""
    state = Identity(tls)
    with http_server(_Handler, state):
        yield state
