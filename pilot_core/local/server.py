"""`LocalPanda`: the HTTP server of the box.

Routes, in this order: `/api/v1/...`, `/server/panda/...`, CRIC's two shapes of
queue data, transformations at `/trf/`, uploaded files at `/cache/`, logs at
`/logs/`, and `/local/...` for the console. One thread a connection.
"""

import functools
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pilot_core.base.clock import Clock, SystemClock
from pilot_core.base.files import write_atomic
from pilot_core.base.scope import Scope
from pilot_core.local import legacy, v1
from pilot_core.local.auth import LOCAL_PILOT, Tokens, certificate_identity
from pilot_core.local.cric import Cric
from pilot_core.local.desk import Desk
from pilot_core.local.exchange import Answer, Call, Exchange, Identity, Refusal, plain
from pilot_core.local.faults import Fault, FaultKind, Faults
from pilot_core.local.http import Handler, Listener
from pilot_core.local.static import Pages
from pilot_core.local.store import Store

__all__ = ["LocalPanda", "RequestRecord", "TlsFiles"]

log = logging.getLogger(__name__)

#: Requests remembered: `pilot-local serve` may run for weeks.
REMEMBERED = 200_000
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's certificate and key, the CA of client
    certificates.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Server side of TLS; client certificates are asked for, not required."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
        return context


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request that arrived.

    Attributes
    ----------
    time_s
        Epoch seconds.
    call
        v1 name in both dialects, `upload`, or the kind of a file served
        (`cric`, `transformation`, `cache`, `logs`); empty for an unknown path.
    dialect
        `v1`, `legacy` or empty.
    body
        Parameters under v1 names; empty if the request was refused.
    native
        Parameters under the dialect's own names.
    fault
        What was done to it instead of answering; None for nothing.
    """

    time_s: float
    call: str
    dialect: str
    method: str
    path: str
    query: str
    body: Mapping[str, object]
    native: Mapping[str, object]
    headers: Mapping[str, str] = field(repr=False)
    who: Identity
    fault: Fault | None = None


class _Dialect(Protocol):
    """What the modules `v1` and `legacy` offer."""

    def name_of(self, path: str) -> str: ...
    def read(self, exchange: Exchange) -> Call: ...
    def execute(self, desk: Desk, call: Call) -> Answer: ...
    def answer_code(self, call: Call, code: int) -> Answer: ...


def _broken(exchange: Exchange, err: Exception) -> Answer:
    """What the real server does with an exception in a handler."""
    log.warning("%s: %s: %s", exchange.path, type(err).__name__, err)
    return plain(500, str(err).encode("ascii", "backslashreplace").decode())


class LocalPanda:
    """A PanDA server of one's own.

    Parameters
    ----------
    folder
        Where everything is kept; made if it is not there. A second server on
        the same folder goes on where the first one ended.
    host, port
        Address; port 0 takes a free one.
    tls
        Serve HTTPS.
    require_auth
        Refuse who brings neither a client certificate nor a token; else
        everybody is a pilot and an operator.
    dialects
        `("v1",)` for a server of today (1.0.x), which answers 403 to legacy;
        `("legacy",)` for one from before v1, which knows no such path.
    adder_delay_s
        See `Store`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: TlsFiles | None = None,
        require_auth: bool = False,
        dialects: Sequence[str] = ("v1", "legacy"),
        adder_delay_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder.resolve()
        for name in ("cache", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.clock = clock or SystemClock()
        self.require_auth = require_auth
        self.dialects = tuple(dialects)
        self.cric = Cric(self.folder)
        self.store = Store(
            self.folder / "panda.sqlite",
            clock=self.clock,
            adder_delay_s=adder_delay_s,
            queue_status=self.cric.status,
        )
        self.faults = Faults()
        self.tokens = Tokens.fresh()
        self.desk = Desk(self.store, self.tokens, self.folder / "cache", self.clock)
        self.pages = Pages(self.folder, self.cric, self.desk)
        self._requests: deque[RequestRecord] = deque(maxlen=REMEMBERED)
        self._http = Listener((host, port), self, None if tls is None else tls.context())
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{host}:{self._http.server_port}"
        self._scope = Scope("local-panda", join_s=5.0)

    def __enter__(self) -> "LocalPanda":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Answer from now on; connections made before have waited for this."""
        write_atomic(self.folder / "url", self.url + "\n")
        self._scope.spawn("accept", self._http.serve_forever, 0.05)

    def stop(self) -> None:
        """Close every connection, end every thread; a second call is harmless."""
        self._scope.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.drop_connections()
        self._scope.stop()
        self.store.close()

    # -- what tests look at --------------------------------------------------

    @property
    def requests(self) -> list[RequestRecord]:
        """Each request so far, in the order of arrival."""
        return list(self._requests)

    def calls(self, name: str) -> list[RequestRecord]:
        """The requests of one call."""
        return [record for record in self._requests if record.call == name]

    def issue_token(self, **claims: Any) -> str:
        """A bearer token, see `Tokens.issue`; its Origin is `Rubin.pilot`."""
        return self.tokens.issue(now=self.clock.time(), **claims)

    # -- answering -----------------------------------------------------------

    def handle(self, exchange: Exchange, handler: Handler) -> None:
        """Answer one request, or do to it what a fault says."""
        dialect = self._dialect(exchange.path)
        name = dialect.name_of(exchange.path) if dialect else self.pages.name_of(exchange.path)
        call: Call | None = None
        refused: Answer | None = None
        try:
            call = None if dialect is None else self._read(dialect, exchange)
        except Refusal as refusal:
            refused = refusal.answer
        except Exception as err:  # noqa: BLE001 - any bytes may come; the real server says 500, too
            refused = _broken(exchange, err)
        fault = None
        if name:
            fault = self.faults.strike(name, call.args if call else {}, now=self.clock.time())
        self._record(exchange, name, call, fault)

        @functools.cache
        def answer() -> Answer:
            if refused is not None:
                return refused
            if dialect is None or call is None:
                return self.pages.answer(exchange)
            try:
                return dialect.execute(self.desk, call)
            except Exception as err:  # noqa: BLE001 - see above
                return _broken(exchange, err)

        if fault is None:
            handler.send(answer())
            return
        if fault.commit:
            answer()
        if fault.kind is FaultKind.STATUS_CODE and dialect is not None and call is not None:
            handler.send(dialect.answer_code(call, fault.status_code))
        else:
            self._misbehave(fault, answer, handler)

    def _dialect(self, path: str) -> _Dialect | None:
        """The module that speaks the dialect of a path; None for other pages."""
        if path.startswith(v1.PREFIX):
            return v1 if "v1" in self.dialects else None
        return legacy if path.startswith(legacy.PREFIX) else None

    def _read(self, dialect: _Dialect, exchange: Exchange) -> Call:
        if dialect is legacy and "legacy" not in self.dialects:
            raise Refusal(plain(403, f"ERROR : method {exchange.path.rsplit('/', 1)[-1]} is forbidden"))
        return dialect.read(exchange)

    def _record(self, exchange: Exchange, name: str, call: Call | None, fault: Fault | None) -> None:
        self._requests.append(
            RequestRecord(
                time_s=self.clock.time(),
                call=name,
                dialect=call.dialect if call else "",
                method=exchange.method,
                path=exchange.path,
                query=exchange.query,
                body=call.args if call else {},
                native=call.native if call else {},
                headers=exchange.headers,
                who=exchange.who,
                fault=fault,
            )
        )

    def _misbehave(self, fault: Fault, answer: Callable[[], Answer], handler: Handler) -> None:
        """Do what the fault says; `answer` carries the request out."""
        kind = fault.kind
        if kind is FaultKind.STATUS:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            handler.send(Answer(fault.status, b"the server has a bad day\n", headers=headers))
        elif kind is FaultKind.HTML:
            handler.send(Answer(200, HTML, "text/html"))
        elif kind is FaultKind.RESET:
            handler.reset()
        elif kind is FaultKind.HANG:
            self.clock.wait(self._scope.stopping, fault.seconds)
            handler.close_connection = True
        elif kind is FaultKind.SLOW:
            self.clock.wait(self._scope.stopping, fault.seconds)
            handler.send(answer())
        else:
            handler.send(answer(), half=kind is FaultKind.HALF)

    def identity(self, connection: socket.socket, headers: Mapping[str, str]) -> Identity:
        """Who asks.

        Raises
        ------
        Refusal
            For a token that is no good.
        """
        if not self.require_auth:
            return LOCAL_PILOT
        names: list[str] = []
        if isinstance(connection, ssl.SSLSocket):
            subject: Any = (connection.getpeercert() or {}).get("subject", ())
            names = [value for part in subject for key, value in part if key == "commonName"]
        return certificate_identity(names) if names else self.tokens.identity(headers, now=self.clock.time())

    def spawn(self, function: Callable[..., object], *args: Any) -> None:
        """Run a connection in a thread of its own."""
        self._scope.spawn("connection", function, *args)
