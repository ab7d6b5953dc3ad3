"""`requests` set up so that no answer, however slow, outlives its budget.

The library's own read timeout starts again with every byte: a server that
sends one byte a second is never too slow for it. Here each socket asks, before
it blocks, how much time the request that its thread is making has left.
"""

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from pilot_core.base.budget import Budget

__all__ = ["limited", "new_session"]

# A request is sent and read by one thread, which owns its session: the thread
# is the one link between a call and the sockets deep below it.
_calling = threading.local()

# A budget may be shortened while a thread waits (SIGTERM): so often it is
# looked at.
_SLICE_S = 1.0
# Sending is not cut in slices: half of what was sent could not be told.
_LONGEST_S = 60.0


@contextlib.contextmanager
def limited(budget: Budget) -> Iterator[None]:
    """Everything this thread sends and receives in the block ends with
    `budget`.
    """
    _calling.budget = budget
    try:
        yield
    finally:
        # Whatever this thread still does with a connection is to say goodbye.
        _calling.budget = None


def _left() -> float:
    budget: Budget | None = getattr(_calling, "budget", None)
    return _SLICE_S if budget is None else budget.timeout(_LONGEST_S)


def _sliced(sock: socket.socket, receive: Callable[[], int]) -> int:
    """Receive; wait in slices, until something comes or the budget is over."""
    while True:
        sock.settimeout(min(_left(), _SLICE_S))
        try:
            return receive()
        except TimeoutError:
            if getattr(_calling, "budget", None) is None:
                raise


class _TimedSocket(socket.socket):
    """A socket that obeys `limited`."""

    def recv_into(self, *args: Any) -> int:
        return _sliced(self, lambda: super(_TimedSocket, self).recv_into(*args))

    def sendall(self, *args: Any) -> None:
        self.settimeout(_left())
        super().sendall(*args)


class _TimedTlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        return _sliced(self, lambda: super(_TimedTlsSocket, self).recv_into(*args, **kwargs))

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left())
        return super().send(*args, **kwargs)


class _TimedConnection(HTTPConnection):
    """Plain HTTP over a `_TimedSocket`."""

    def connect(self) -> None:
        super().connect()
        if self.sock is not None:
            timeout = self.sock.gettimeout()
            self.sock = _TimedSocket(fileno=self.sock.detach())
            self.sock.settimeout(timeout)


class _TimedPool(HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _Session(requests.Session):
    """Takes a redirect for an answer like any other.

    The library, told not to follow it, would still read its whole body and
    take its address apart.
    """

    def get_redirect_target(self, _resp: requests.Response) -> None:
        return None


class _Adapter(HTTPAdapter):
    """Verifies every server with our own TLS context, and nothing but that
    one.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{**kwargs, "ssl_context": self._context})
        _use_timed_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **{**kwargs, "ssl_context": self._context})
        _use_timed_pools(manager)
        return manager

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Do not let the library add CAs of its own to the context."""


def _use_timed_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _TimedPool, "https": HTTPSConnectionPool}


def _is_address(url: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def new_session(context: ssl.SSLContext, url: str) -> requests.Session:
    """A session for one server.

    `http_proxy`, `https_proxy` and `no_proxy` are honoured, as curl does;
    `.netrc` is not, for it would replace the Authorization header.
    """
    context.sslsocket_class = _TimedTlsSocket
    if version("urllib3").startswith("1.") and _is_address(url):
        # It hides an address from the TLS layer and compares the names itself.
        context.check_hostname = False
    session = _Session()
    session.trust_env = False
    session.proxies = dict(requests.utils.get_environ_proxies(url))
    adapter = _Adapter(context)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
