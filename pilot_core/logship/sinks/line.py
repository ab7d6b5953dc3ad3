"""One TCP or TLS connection, kept open: what sinks over a stream share."""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

__all__ = ["Line"]

T = TypeVar("T")


class Line:
    """Bytes to one server.

    Parameters
    ----------
    url
        `tcp://host:port` or `tls://host:port`.
    port
        Where the URL names none.
    context
        TLS settings; the system's certificates where None.
    """

    def __init__(self, url: str, *, port: int, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"{url!r} names no host")
        self._address = (parts.hostname, parts.port or port)
        self._tls = parts.scheme == "tls"
        self._context = context
        self._socket: socket.socket | None = None
        self._end = 0.0

    def talk(self, what: Callable[["Line"], T], *, timeout_s: float) -> T:
        """Open if need be and do `what`, all of it within `timeout_s`.

        Raises
        ------
        OSError
            Whatever went wrong; the connection is then closed.
        """
        self._end = time.monotonic() + timeout_s
        try:
            if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
                self.close()  # nobody speaks unasked: the other end has hung up
            if self._socket is None:
                self._socket = self._opened()
            return what(self)
        except OSError:
            self.close()
            raise

    def send(self, data: bytes) -> None:
        """All of `data`."""
        self._ready().sendall(data)

    def receive(self) -> bytes:
        """Some bytes.

        Raises
        ------
        ConnectionError
            If the other end has closed.
        """
        data = self._ready().recv(65536)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        return data

    def close(self) -> None:
        """Close the connection; the next talk opens another."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        plain = socket.create_connection(self._address, timeout=max(0.01, self._end - time.monotonic()))
        if not self._tls:
            return plain
        context = self._context or ssl.create_default_context()
        try:
            return context.wrap_socket(plain, server_hostname=self._address[0])
        except OSError:
            plain.close()
            raise

    def _ready(self) -> socket.socket:
        assert self._socket is not None
        left = self._end - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("no time is left")
        self._socket.settimeout(left)
        return self._socket
