"""One HTTP connection, kept open between requests: what sinks over HTTP share."""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pilot_core.base.httptime import retry_after
from pilot_core.logship.contract import Outcome, OutcomeKind

__all__ = ["HttpPost", "Reply", "failed"]

# Load balancers drop idle connections after a minute or more: renewed before.
_IDLE_S = 45.0
_MOST_REPLY = 4 * 1024 * 1024

_TOO_LARGE = frozenset((400, 413, 422))
_DENIED = frozenset((401, 403, 404, 407))


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, what the server asked to wait in seconds (0 if nothing), and the
    body.
    """

    status: int
    retry_after_s: float
    body: bytes

    @property
    def detail(self) -> str:
        """The answer in a few words, for a log."""
        words = self.body[:300].decode("utf-8", "replace").split()
        return f"HTTP {self.status} {' '.join(words)}".strip()

    @property
    def outcome(self) -> Outcome:
        """What it means for a batch, where the service has no better words."""
        kind = self.kind
        if kind is OutcomeKind.DELIVERED:
            return Outcome(kind)
        return Outcome(kind, detail=self.detail, retry_after_s=self.retry_after_s)

    @property
    def kind(self) -> OutcomeKind:
        """What the status means for a batch."""
        if 200 <= self.status < 300:
            return OutcomeKind.DELIVERED
        if self.status in _TOO_LARGE:
            return OutcomeKind.TOO_LARGE
        if self.status == 429:
            return self.exhausted
        if self.status in _DENIED:
            return OutcomeKind.DENIED
        # Anything else may pass: a proxy's page, a redirect, an outage.
        return OutcomeKind.RETRY

    @property
    def exhausted(self) -> OutcomeKind:
        """Which quota it is of a service that says that one is exhausted.

        Cloud Logging names "Write requests per minute" or "Log write bytes
        per minute per region"; Loki a limit in bytes/sec, or of one stream
        in MB/sec.
        """
        said = self.body.lower()
        return OutcomeKind.FULL if b"byte" in said or b"b/sec" in said else OutcomeKind.BUSY


def failed(err: Exception) -> Outcome:
    """What it means that there was no whole answer.

    An address that cannot be reached may be there again soon; with a
    certificate that is not to be trusted somebody has to act.
    """
    distrust = isinstance(err, ssl.SSLCertVerificationError)
    kind = OutcomeKind.DENIED if distrust else OutcomeKind.RETRY
    return Outcome(kind, detail=f"{type(err).__name__}: {err}")


class HttpPost:
    """POST to one server.

    Parameters
    ----------
    url
        `http://` or `https://`, host and port; a path is kept and put before
        the path of each request.
    context
        TLS settings; the system's certificates where None.

    Raises
    ------
    ValueError
        If the URL is not of that shape.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http(s) URL")
        self._host = parts.hostname
        self._port = parts.port
        self._base = parts.path.rstrip("/")
        self._tls = parts.scheme == "https"
        self._context = context
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def post(self, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Reply:
        """Send, and read the answer.

        Raises
        ------
        OSError, http.client.HTTPException
            If there was no whole answer; the connection is then closed.
        """
        end = time.monotonic() + timeout_s
        connection = self._open(timeout_s)
        connection.response_class = partial(_Answer, end=end)  # type: ignore[assignment]
        try:
            connection.request("POST", self._base + path, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read(_MOST_REPLY)
            if not answer.isclosed():
                self.close()  # longer than anybody wants to read
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        self._used_at = time.monotonic()
        return Reply(answer.status, retry_after(answer.headers) or 0.0, data)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is not None and time.monotonic() - self._used_at > _IDLE_S:
            self.close()
        if self._connection is None:
            if self._tls:
                context = self._context or ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(self._host, self._port, context=context)
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port)
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection


class _Answer(http.client.HTTPResponse):
    """One that is there as a whole at `end`, or not at all."""

    def __init__(self, sock: socket.socket, *args: Any, end: float, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock, end))


class _TimedReader(io.RawIOBase):
    """Reads a socket until `end`.

    A socket's own time-out is that of one read: a server that sends a byte now
    and then would keep us for ever.
    """

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end
        # It keeps the socket open where the connection is closed before the
        # answer has been read.
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
