"""Say it once: one HTTP request, one answer or one named error."""

import gzip
import json
import logging
import math
import platform
import re
import ssl
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pilot_core import __version__
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.download import content_length
from pilot_core.base.httptime import retry_after
from pilot_core.config import ServerConfig
from pilot_core.errors import NotAuthorised, ServerRefused, ServerUnreachable, SetupError
from pilot_core.model.codes import ErrorCode
from pilot_core.server.answer import Answer
from pilot_core.server.auth import Auth, Credential, Stamp
from pilot_core.server.multipart import MultipartFile
from pilot_core.server.wire import Request

if TYPE_CHECKING:
    import requests

__all__ = ["Http", "NotSent"]

log = logging.getLogger(__name__)

# A definition may carry megabytes of jobPars; an endless answer must end
# somewhere.
LONGEST_ANSWER = 16 * 1024 * 1024
# Both servers accept a gzipped JSON body; below this it is not worth the CPU.
GZIP_FROM = 64 * 1024
# A connection that was silent for longer may have been forgotten by a NAT in
# between, which shows only as a timeout; heartbeats come every 30 minutes.
IDLE_S = 60.0

_USER_AGENT = (
    f"pilot/{__version__} (Python {platform.python_version()}; {platform.system()} {platform.machine()})"
)


# Alerts of a server that does not want our certificate, in OpenSSL's words.
_OF_OURS = re.compile("ALERT_(BAD_|UNSUPPORTED_)?(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")


class NotSent(ServerUnreachable):
    """No connection: the request has certainly not been carried out."""


class _Line:
    """One thread's connection to the server."""

    def __init__(self, session: "requests.Session", stamp: Stamp | None, now: float) -> None:
        self.session = session
        self.stamp = stamp
        self.used = now


class Http:
    """Sends requests to one server; may be used from any thread at the same
    time.

    Parameters
    ----------
    config
        URL, timeouts, CA files.
    auth
        Asked before each request.

    Raises
    ------
    SetupError
        The URL is none.
    """

    def __init__(self, config: ServerConfig, auth: Auth, *, clock: Clock) -> None:
        if not re.match(r"https?://[^/\s]+", config.url):
            raise SetupError(f"server URL {config.url!r}: must begin with https:// or http:// and a host")
        self._base = config.url.rstrip("/")
        self._config = config
        self._auth = auth
        self._clock = clock
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def send(self, request: Request, *, budget: Budget, read_s: float, file: Path | None = None) -> Answer:
        """One attempt.

        Parameters
        ----------
        budget
            The attempt ends with it, whatever the server does.
        read_s
            Longest time from the connection to the end of the answer, seconds.
        file
            Sent as the only part of a form.

        Raises
        ------
        NotSent
            No connection; nothing was asked.
        ServerUnreachable
            It may or may not have been carried out.
        NotAuthorised, ServerRefused
            A credential or the file cannot be read.
        """
        import requests  # the first use pays the 0.1 s, not `pilot.py --help`.
        import urllib3

        from pilot_core.server.session import limited

        handled = sys.exc_info()[1]
        headers = {"Accept": "application/json", "User-Agent": _USER_AGENT, **self._auth.headers()}
        line = self._line()
        part = budget.part(self._config.connect_s + read_s, "HTTP request")
        try:
            timeout = part.timeout(self._config.connect_s), part.timeout(read_s)
        except BudgetSpent as err:
            raise NotSent(f"{self._base}: no time left for a request") from err
        body = _encode(request, headers, file)
        try:
            with limited(part):
                response = line.session.request(
                    request.method,
                    self._base + request.path,
                    params=dict(request.query) or None,
                    data=body,
                    headers={**headers, "Accept-Encoding": None},
                    timeout=timeout,
                    allow_redirects=False,
                    stream=True,
                )
                with response:
                    answer = Answer(
                        response.status_code,
                        response.headers.get("Content-Type", ""),
                        _read(response),
                        retry_after(response.headers),
                    )
        # The libraries' parsers say ValueError to much of what a server may
        # send.
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
            BudgetSpent,
        ) as err:
            line.session.close()
            _part(err, handled)
            failure = self._failure(err, request)
            # The library's own words hold the URL, and with it a query's
            # secrets.
            raise failure from (None if request.query else err)
        finally:
            if isinstance(body, MultipartFile):
                body.close()
        line.used = self._clock.monotonic()
        return answer

    def close(self) -> None:
        """Close every connection; a later request opens a new one."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _failure(self, err: Exception, request: Request) -> ServerUnreachable | NotAuthorised:
        from requests import exceptions

        reason = _reason(err)
        where = f"{self._base}{request.path}"
        if any(isinstance(step, ssl.SSLCertVerificationError) for step in _chain(err)):
            return NotSent(f"{where}: TLS: {reason} (CA: {self._ca()})")
        if isinstance(err, exceptions.ConnectTimeout | exceptions.ProxyError) or _no_connection(err):
            return NotSent(f"{where}: no connection: {reason}")
        if self._proxy_ended(reason):
            return NotAuthorised(
                f"{where}: our certificate expired: {reason}", ErrorCode.CERTIFICATEHASEXPIRED
            )
        if _OF_OURS.search(reason):
            return NotAuthorised(f"{where}: the server does not take our certificate: {reason}")
        # In TLS 1.3 what ends a connection may come long after the handshake,
        # when a request was carried out already.
        return ServerUnreachable(
            f"{where}: {'TLS: ' if isinstance(err, exceptions.SSLError) else ''}{reason}"
        )

    def _proxy_ended(self, reason: str) -> bool:
        """True if the server ended the connection for a proxy that has ended.

        It may say so, and it may just hang up.
        """
        if "ALERT_CERTIFICATE_EXPIRED" in reason:
            return True
        try:
            shown = self._base.startswith("https") and self._auth.proxy() is not None
            ends = self._auth.expires() if shown else {}
        except NotAuthorised:
            return False
        return ends.get(Credential.PROXY, math.inf) <= self._clock.time()

    def _line(self) -> _Line:
        """This thread's connection: a new one if the credential changed."""
        proxy = self._auth.proxy()
        stamp = proxy[1] if proxy else None
        now = self._clock.monotonic()
        line: _Line | None = getattr(self._local, "line", None)
        if line is not None and line.stamp == stamp:
            if now - line.used > IDLE_S:
                line.session.close()
            return line
        from pilot_core.server.session import new_session

        if line is not None:
            log.info("the X.509 proxy has changed on disk: connecting with the new one")
            line.session.close()
        session = new_session(self._context(proxy[0] if proxy else None), self._base)
        with self._lock:
            self._sessions.add(session)
        self._local.line = _Line(session, stamp, now)
        fresh: _Line = self._local.line
        return fresh

    def _context(self, proxy: Path | None) -> ssl.SSLContext:
        """Servers are always verified: with the CAs given, else with the
        system's.
        """
        config = self._config
        try:
            context = ssl.create_default_context(
                cafile=None if config.ca_file is None else str(config.ca_file),
                capath=None if config.ca_path is None else str(config.ca_path),
            )
        except (OSError, ssl.SSLError) as err:
            raise NotAuthorised(f"CA certificates {self._ca()}: {_words(err)}") from err
        # Python 3.13 is stricter than grid CAs, many of which lack an
        # extension.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if proxy is not None:
            try:
                # A key with a passphrase is an error, not a question.
                context.load_cert_chain(proxy, password="")
            except (OSError, ssl.SSLError) as err:
                raise NotAuthorised(f"X.509 proxy {proxy}: {_words(err)}") from err
        return context

    def _ca(self) -> str:
        given = [str(path) for path in (self._config.ca_file, self._config.ca_path) if path is not None]
        return ", ".join(given) or "the system's"


def _encode(request: Request, headers: dict[str, str], file: Path | None) -> "bytes | MultipartFile | None":
    """The body; sets the headers that describe it."""
    if file is not None:
        try:
            form = MultipartFile(file)
        except OSError as err:
            raise ServerRefused(f"{file}: {err.strerror}") from err
        headers["Content-Type"] = form.content_type
        return form
    if request.method == "GET":
        return None
    if request.form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return urlencode(request.body).encode()
    # Exactly this: with "; charset=utf-8" the server takes the body for a
    # form.
    headers["Content-Type"] = "application/json"
    body = json.dumps(request.body, separators=(",", ":")).encode()
    if len(body) >= GZIP_FROM:
        headers["Content-Encoding"] = "gzip"
        return gzip.compress(body, compresslevel=5)
    return body


def _read(response: "requests.Response") -> bytes:
    """The whole body, complete and not endless."""
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_content(64 * 1024):
        size += len(chunk)
        if size > LONGEST_ANSWER:
            raise OSError(f"answer longer than {LONGEST_ANSWER} bytes")
        chunks.append(chunk)
    promised = content_length(response.headers)
    # urllib3 1.x, which many images still hold, does not mind a short answer.
    if promised is not None and "Content-Encoding" not in response.headers and size < promised:
        raise OSError(f"answer broke off after {size} of {promised} bytes")
    return b"".join(chunks)


def _chain(err: BaseException) -> list[BaseException]:
    """An error and what it came from, the root last."""
    found: list[BaseException] = []
    step: BaseException | None = err
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or step.__context__
    return found


def _part(err: BaseException, handled: BaseException | None) -> None:
    """End the chain of an error before what our caller was handling: that has
    nothing to do with the request.
    """
    for step in _chain(err):
        if step.__context__ is handled:
            step.__context__ = None


def _no_connection(err: BaseException) -> bool:
    """True if the failure came before a connection stood."""
    names = {type(step).__name__ for step in _chain(err)}
    return bool(names & {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "gaierror"})


def _reason(err: BaseException) -> str:
    """What happened, without the library's wrapping and without the URL."""
    return _words(_chain(err)[-1])


def _words(root: BaseException) -> str:
    if isinstance(root, TimeoutError | BudgetSpent):
        return "timed out"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(root).splitlines()[0][:200] if str(root) else type(root).__name__
