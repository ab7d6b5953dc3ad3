"""The Docker SDK behind one door: opened late, calls bounded, errors made
ours.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from container.errors import EngineUnavailable, Refused, one_line

if TYPE_CHECKING:
    import docker

__all__ = ["DEFAULT_URL", "Daemon", "Refused"]

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_URL = "unix:///var/run/docker.sock"

# What a client speaks that only asks which version to speak.
_ANY = "1.24"


class Daemon:
    """One Docker daemon.

    Parameters
    ----------
    base_url
        Socket or host, `unix:///...` or `tcp://host:port`.
    call_s
        Seconds a call may take.
    """

    def __init__(self, base_url: str | None, call_s: float) -> None:
        self.url = base_url or DEFAULT_URL
        self.call_s = call_s
        self._clients: dict[float, docker.APIClient] = {}
        self._lock = threading.Lock()

    @property
    def local(self) -> bool:
        """True if the daemon is on this node, as far as its address tells."""
        return self.url.startswith(("unix://", "/"))

    def call(
        self,
        what: str,
        function: "Callable[[docker.APIClient], T]",
        *,
        within_s: float | None = None,
    ) -> T:
        """Let `function` talk to the daemon.

        Parameters
        ----------
        what
            The call in words, for the message of a failure.
        function
            Gets the SDK's low-level client.
        within_s
            Give up after so many seconds instead of `call_s`.

        Raises
        ------
        Refused
            The daemon answered with an error.
        EngineUnavailable
            It did not answer.
        """
        # Imported here: a pilot that starts no container does not pay for it,
        # and one in a field image without the package runs plain processes.
        try:
            import docker.errors
            import requests
            import urllib3
        except ModuleNotFoundError as err:
            raise EngineUnavailable(f"Docker: the python package {err.name!r} is not installed") from err

        limit = self.call_s if within_s is None else within_s
        try:
            return function(self._client(limit))
        except docker.errors.APIError as err:
            status = err.response.status_code if err.response is not None else 0
            raise Refused(f"{what}: {one_line(err.explanation or str(err))}", status) from err
        except (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as err:
            raise EngineUnavailable(f"Docker at {self.url}: {_reason(err, limit)} ({what})") from err

    def open(self, *, timeout_s: float) -> "docker.APIClient":
        """A client of one's own, to be closed by the caller."""
        return _connect(self.url, timeout_s)

    def close(self) -> None:
        """Let go of all connections; the next call opens new ones."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, timeout_s: float) -> "docker.APIClient":
        # Made under no lock: it asks the daemon for its version, and a daemon
        # that hangs must not make a quick caller wait for a slow one.
        client = self._clients.get(timeout_s)
        if client is not None:
            return client
        fresh = _connect(self.url, timeout_s)
        with self._lock:
            client = self._clients.setdefault(timeout_s, fresh)
        if client is not fresh:
            fresh.close()
        return client


def _connect(url: str, timeout_s: float) -> "docker.APIClient":
    import docker

    class Client(docker.APIClient):
        """The SDK's client, with a timeout on the one call that has none
        (attach).
        """

        def post(self, url: Any, data: Any = None, json: Any = None, **kwargs: Any) -> Any:
            kwargs.setdefault("timeout", timeout_s)
            return super().post(url, data, json, **kwargs)

    # types-docker wants an int; requests, which gets it, takes fractions.
    timeout: Any = timeout_s
    _try_socket(url, timeout_s)
    # Asked with a client of its own: the SDK's `version="auto"` asks while it
    # builds itself, and leaves a connection open if that fails.
    with contextlib.closing(Client(url, version=_ANY, timeout=timeout)) as first:
        version = str(first.version(api_version=False)["ApiVersion"])
    client = Client(url, version=version, timeout=timeout)
    # No proxy or .netrc of the environment between us and the daemon.
    client.trust_env = False
    return client


def _try_socket(url: str, timeout_s: float) -> None:
    """Connect once: the SDK forgets to close a socket that it could not
    connect.
    """
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout_s)
            probe.connect(url.removeprefix("unix://"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all it was made from: requests and urllib3 hide it in
    arguments.
    """
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        err = todo.pop(0)
        if id(err) in seen:
            continue
        seen.add(id(err))
        yield err
        linked = (err.__cause__, err.__context__, getattr(err, "reason", None), *err.args)
        todo.extend(part for part in linked if isinstance(part, BaseException))


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (FileNotFoundError, "no such file: no daemon, or its socket is not mounted here"),
    (PermissionError, "permission denied: this user may not use the socket"),
    (ConnectionRefusedError, "connection refused: no daemon listens"),
)


def _reason(error: BaseException, limit_s: float) -> str:
    """Why there was no answer, in one line."""
    import requests

    parts = list(_chain(error))
    for kind, words in _REASONS:
        if any(isinstance(part, kind) for part in parts):
            return words
    if any(isinstance(part, TimeoutError | requests.Timeout) for part in parts):
        return f"no answer within {limit_s:g} s"
    return one_line(str(parts[-1]) or type(parts[-1]).__name__)
