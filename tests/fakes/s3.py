"""S3: moto's server in a process of its own, and a service that fails as it is
told.
"""

import contextlib
import http.server
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path

from tests.fakes.serve import answers, free_port, http_server, program

AVAILABLE = find_spec("moto") is not None
BUCKET = "rubin-usdf-panda-logs"
PROFILE = "pilot-test"

CREDENTIALS = f"[{PROFILE}]\naws_access_key_id = test\naws_secret_access_key = testing-testing\n"


def make_bucket(url: str, name: str = BUCKET) -> None:
    """Create a bucket whose objects everybody may read."""
    request = urllib.request.Request(f"{url}/{name}", method="PUT", headers={"x-amz-acl": "public-read"})
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request")
    with urllib.request.urlopen(request, timeout=10):
        pass


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Run moto's server with one empty bucket while the block lasts; yields
    its URL.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with program(command, folder, ready=lambda: answers(f"{url}/moto-api/")):
        make_bucket(url)
        yield url


@contextlib.contextmanager
def credentials(folder: Path, text: str = CREDENTIALS) -> Iterator[None]:
    """Let the SDK, which reads the environment, find these credentials only."""
    path = folder / "aws-credentials"
    path.write_text(text)
    ours = {
        "AWS_SHARED_CREDENTIALS_FILE": str(path),
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = dict(os.environ)
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


@dataclass
class Refusal:
    """An answer of the failing service; `off_s`: how far its clock is ahead of
    ours.
    """

    status: int
    code: str
    message: str = "told to fail"
    off_s: float = 0.0


@dataclass
class FailingS3:
    """A service that takes what it is sent and answers with `refusals` in
    turn.
    """

    url: str = ""
    refusals: list[Refusal] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    hang: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FailingS3

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.requests.append(self.requestline)
        if self.state.hang:
            self.state.over.wait(60)
            self.close_connection = True
            return
        refusal = self.state.refusals.pop(0) if self.state.refusals else Refusal(500, "InternalError")
        raw = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>".encode()
        self.send_response_only(refusal.status)
        self.send_header("Date", formatdate(time.time() + refusal.off_s, usegmt=True))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = do_PUT


@contextlib.contextmanager
def failing_s3(*refusals: Refusal, hang: bool = False) -> Iterator[FailingS3]:
    """Serve on loopback while the block lasts."""
    state = FailingS3(refusals=list(refusals), hang=hang)
    with http_server(_Handler, state):
        yield state
