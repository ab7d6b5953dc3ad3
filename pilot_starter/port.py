"""`/healthz` and `/metrics` over HTTP, for probes and Prometheus.

One thread serves all connections, each of them for a few seconds at most and
only so many at a time: a client that dawdles, or a port scanner, costs others
nothing. Answers are read-only and hold no secrets; who may reach the port is
the cluster's business (it listens on loopback unless told otherwise).
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from pilot_core.base.clock import Clock
from pilot_core.base.scope import Scope

__all__ = ["HealthPort", "Page"]

log = logging.getLogger(__name__)

_CLIENT_S = 5.0
_MOST_CLIENTS = 32
_MOST_BYTES = 8192
_READY_S = 5.0
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


class HealthPort:
    """A `with` block during which the pages are served.

    An address that cannot be had is said in the log; the worker lives without.

    Parameters
    ----------
    pages
        Path to what makes its answer; called in the serving thread.

    Attributes
    ----------
    url
        Where it listens; empty where it does not.
    """

    def __init__(
        self, address: tuple[str, int], pages: Mapping[str, Callable[[], Page]], *, clock: Clock
    ) -> None:
        self._address = address
        self._pages = pages
        self._clock = clock
        self._clients = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._scope = Scope("starter", join_s=0.5, on_death=lambda _name, _err: None, clock=clock)
        self.url = ""

    def __enter__(self) -> "HealthPort":
        host, port = self._address
        try:
            listener = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            )
        except OSError as err:
            log.error("no health and metrics at %s:%d: %s", host, port, err.strerror or err)
            return self
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        self._scope.spawn("health", self._run, listener)
        self._clock.wait(self._ready, _READY_S)
        log.info("health and metrics at %s/healthz and %s/metrics", self.url, self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            # Closed already where its thread has died.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._over.set)
        self._scope.stop()

    def _run(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listener))
        finally:
            listener.close()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._client, sock=listener, limit=_MOST_BYTES)
        self._ready.set()
        try:
            await self._over.wait()
        finally:
            # Connections that are open are cut off with the loop.
            server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _MOST_CLIENTS:
                async with asyncio.timeout(_CLIENT_S):
                    await self._exchange(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as err:
            log.debug("health port: %s: %s", type(err).__name__, err)
        except asyncio.CancelledError:
            # The loop ends; Python 3.11 would log the cancellation as an error.
            log.debug("health port: a client was cut off")
        finally:
            self._clients -= 1
            # What is not read by now never will be: `close` would wait for it.
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        page = self._page(words)
        lines = (
            f"HTTP/1.1 {page.status} {_REASONS[page.status]}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        body = b"" if words[0] == "HEAD" else page.body
        writer.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
        writer.write_eof()
        await writer.drain()
        # Until the client has all of it and closes.
        while await reader.read(_MOST_BYTES):
            pass

    def _page(self, words: list[str]) -> Page:
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return Page(b"this is an HTTP server\n", 400)
        if words[0] not in ("GET", "HEAD"):
            return Page(b"GET and HEAD only\n", 405)
        make = self._pages.get(words[1].partition("?")[0])
        if make is None:
            return Page(f"there are {', '.join(self._pages)}\n".encode(), 404)
        try:
            return make()
        except Exception as err:
            # A page that fails must not end the other ones.
            log.exception("%s failed", words[1])
            return Page(f"{type(err).__name__}\n".encode(), 503)
