"""Insist on it: which dialect, which failures deserve another try, how often.

====================  =======================================================
failure               what is done
====================  =======================================================
ServerUnreachable     again, with waits (requests for a job and updates under
                      way are raised: those who make them know when to ask
                      again)
ServerBusy            again, not before Retry-After
FieldRefused          again at once without that field, for good
MethodForbidden, 404  again at once in the other dialect, where that is `auto`
NotStored             again, with the essential fields only
NotAuthorised         raised; with a final report again: credentials are read
                      anew each time, and somebody may be renewing them
ServerRefused         raised
any other exception   logged with its traceback, then as ServerUnreachable
====================  =======================================================
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy, insistence, retry
from pilot_core.config import ServerConfig
from pilot_core.errors import (
    NotAuthorised,
    ServerBusy,
    ServerError,
    ServerRefused,
    ServerUnreachable,
    SetupError,
)
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server import wire_legacy, wire_v1
from pilot_core.server.answer import Answer, FieldRefused, MethodForbidden, NoSuchPath, NotStored
from pilot_core.server.auth import Auth, Credential
from pilot_core.server.contract import JobRequest
from pilot_core.server.field import Dialect
from pilot_core.server.fields import ACQUIRE, UPDATE, WORKER, WorkerNote
from pilot_core.server.http import Http, NotSent
from pilot_core.server.wire import Definition, Request, Wire

__all__ = ["PandaServer"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# A final report is repeated for as long as its budget lasts, since nobody else
# will ever tell how the job ended: see `insistence`. Requests for a job, for a
# credential, and updates under way are sent once here; `jobs.pull`, `renewing`
# and `heartbeat` repeat them.
# 1 * (10 + 90) = 100 s, 1 * 70 = 70 s.
ASKED_ONCE = RetryPolicy(attempts=1)

# Each sum: attempts * (connect_s + read_s) + the largest waits, with the
# default timeouts of 10 s and 60 s. Full jitter: waits are half as long on
# average.

# 2 * 70 + 5 = 145 s. Nothing depends on it but a page of the monitor.
WORKER_RETRY = RetryPolicy(attempts=2, first_s=5.0)
# 3 * 310 + 5 + 15 = 950 s.
UPLOAD_RETRY = RetryPolicy(attempts=3, first_s=5.0, factor=3.0)
UPLOAD_READ_S = 300.0

#: prodSourceLabel of a pilot that runs its owner's jobs only.
OWN_JOBS = "self"

_WIRES: dict[str, tuple[Wire, ...]] = {
    "auto": (wire_v1, wire_legacy),
    "v1": (wire_v1,),
    "legacy": (wire_legacy,),
}
_REQUIRED = {
    dialect: frozenset(field.name(dialect) for field in (*ACQUIRE, *UPDATE, *WORKER) if field.required)
    for dialect in Dialect
}


def _worth_another_try(err: Exception) -> float | None:
    return err.retry_after_s if isinstance(err, ServerBusy | ServerUnreachable) else None


def _never_give_up(err: Exception) -> float | None:
    return 0.0 if isinstance(err, NotAuthorised) else _worth_another_try(err)


class PandaServer:
    """A PanDA server over HTTP; implements `contract.Server`.

    Parameters
    ----------
    config
        Where and who; `api` is `auto`, `v1` or `legacy`.
    clock
        For the waits.
    harvester_id, worker_id
        The worker; without both, `update_worker` sends nothing.

    Raises
    ------
    SetupError
        The URL or the dialect is none, or a token has no origin.
    """

    def __init__(
        self, config: ServerConfig, *, clock: Clock, harvester_id: str = "", worker_id: int | None = None
    ) -> None:
        if config.api not in _WIRES:
            raise SetupError(f"PanDA API {config.api!r}: must be auto, v1 or legacy")
        self.auth = Auth(config)
        self._http = Http(config, self.auth, clock=clock)
        self._config = config
        self._clock = clock
        self._worker = (harvester_id, worker_id)
        self._lock = threading.Lock()
        # The dialect in use stands first; both change under the lock.
        self._wires = _WIRES[config.api]
        self._refused: dict[Dialect, frozenset[str]] = dict.fromkeys(Dialect, frozenset())
        # The last update under way was not stored; read and written by the
        # one thread that sends these.
        self._lean = False

    @property
    def dialect(self) -> Dialect:
        """What is spoken at the moment: with `auto` a guess until the first
        answer.
        """
        return self._wires[0].DIALECT

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        """See `contract.Server`.

        One request: an answer that got lost may have held a job, which then is
        `sent` to us, and each further request may take another one.

        With the label `self` these are jobs of the owner of our proxy, as in
        pilot3; a server that sees a token knows the owner by itself.
        """
        if request.label == OWN_JOBS:
            request = replace(request, user=self.auth.owner())
        jobs = self._insist(
            lambda wire, without: wire.acquire(request, without),
            lambda wire, answer: wire.read_jobs(answer),
            policy=ASKED_ONCE,
            again=_worth_another_try,
            read_s=self._config.acquire_s,
            budget=budget,
            stop=stop,
            what="asking for a job",
        )
        for extra in jobs[1:]:
            log.error("the server sent a job nobody asked for: PandaID %s is not run", extra.get("PandaID"))
        return jobs[0] if jobs else None

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        """See `contract.Server`.

        After "Database error" the next attempt, or the next update under way,
        holds the essential fields only: one number too large for its column
        must not cost the job.
        """
        final = report.state.final
        lean = self._lean and not final

        def make(wire: Wire, without: frozenset[str]) -> Request:
            return wire.update(report, without, lean)

        def read(wire: Wire, answer: Answer) -> Reply:
            nonlocal lean
            try:
                reply = wire.read_update(answer)
            except NotStored:
                lean = not lean
                self._lean = lean and not final
                raise
            self._lean = False
            if lean:
                log.warning(
                    "job %d: the server stored this update only without its measurements", report.panda_id
                )
            return reply

        return self._insist(
            make,
            read,
            policy=insistence(budget) if final else ASKED_ONCE,
            again=_never_give_up if final else _worth_another_try,
            read_s=self._config.read_s,
            budget=budget,
            stop=stop,
            what=f"update of job {report.panda_id} to {report.state}",
        )

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        """See `contract.Server`."""
        harvester_id, worker_id = self._worker
        if not harvester_id or worker_id is None:
            return
        note = WorkerNote(worker_id, harvester_id, state, site, node)
        self._insist(
            lambda wire, without: wire.worker(note, without),
            lambda wire, answer: wire.read_done(answer),
            policy=WORKER_RETRY,
            again=_worth_another_try,
            read_s=self._config.read_s,
            budget=budget,
            stop=stop,
            what=f"worker status {state}",
        )

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        """See `contract.Server`."""
        maybe_there = False

        def read(wire: Wire, answer: Answer) -> None:
            try:
                wire.read_upload(answer)
            except ServerRefused as err:
                # The answer to an earlier attempt got lost, and it had worked.
                if not (maybe_there and "cannot overwrite" in err.diag):
                    raise

        def again(err: Exception) -> float | None:
            nonlocal maybe_there
            maybe_there = maybe_there or not isinstance(err, NotSent | ServerBusy)
            return _worth_another_try(err)

        self._insist(
            lambda wire, _without: wire.upload(),
            read,
            policy=UPLOAD_RETRY,
            again=again,
            read_s=UPLOAD_READ_S,
            budget=budget,
            stop=stop,
            what=f"upload of {path.name}",
            file=path,
        )

    def renew(self, credential: Credential, *, budget: Budget, stop: threading.Event) -> bool:
        """Exchange a credential for a fresh one; False if that is not ours to
        do: not wanted, or no token key.

        The fresh one is used from the next request on, and written to its
        file for everybody else who reads that.

        Raises
        ------
        ServerError
            The server did not hand one out.
        """
        ask: Callable[[Wire], Request]
        keep: Callable[[str], None]
        if credential is Credential.TOKEN:
            key = self.auth.token_key() if self._config.renew_token else None
            if key is None:
                return False
            ask, keep = lambda wire: wire.token(key), self.auth.renew
        else:
            config = self._config
            if not (config.renew_proxy and config.proxy_file and config.spare_folder):
                return False
            ask, keep = lambda wire: wire.proxy(config.proxy_role), self.auth.renew_proxy
        keep(
            self._insist(
                lambda wire, _without: ask(wire),
                lambda wire, answer: wire.read_credential(answer),
                policy=ASKED_ONCE,
                again=_worth_another_try,
                read_s=self._config.read_s,
                budget=budget,
                stop=stop,
                what=f"{credential} renewal",
            )
        )
        return True

    def lifetimes(self) -> dict[Credential, float]:
        """Seconds for which each credential is still good; those that do not
        say are left out.

        Raises
        ------
        NotAuthorised
            The one that the server is to see cannot be read.
        """
        now = self._clock.time()
        return {credential: end - now for credential, end in self.auth.expires().items()}

    def close(self) -> None:
        """See `contract.Server`."""
        self._http.close()

    def _insist(
        self,
        make: Callable[[Wire, frozenset[str]], Request],
        read: Callable[[Wire, Answer], T],
        *,
        policy: RetryPolicy,
        again: Callable[[Exception], float | None],
        read_s: float,
        budget: Budget,
        stop: threading.Event,
        what: str,
        file: Path | None = None,
    ) -> T:
        dropped: frozenset[str] = frozenset()

        def attempt() -> T:
            """One request, and at once another for all it teaches about this
            server.
            """
            nonlocal dropped
            switched = False
            while True:
                wire = self._wires[0]
                request = make(wire, self._refused[wire.DIALECT] | dropped)
                answer = self._http.send(request, budget=budget, read_s=read_s, file=file)
                try:
                    return self._understand(read, wire, answer)
                except FieldRefused as err:
                    if err.field not in request.body or err.field in _REQUIRED[wire.DIALECT]:
                        raise
                    dropped |= {err.field}
                    if err.always:
                        self._never_again(wire.DIALECT, err)
                except (MethodForbidden, NoSuchPath) as err:
                    # Where neither is understood, the second switch leads
                    # back.
                    if not self._switch(wire, err) or switched:
                        raise
                    switched = True

        def guarded() -> T:
            try:
                return attempt()
            except (ServerError, BudgetSpent):
                raise
            except Exception as err:
                # Our own mistake, or a library's at what the server sent: a
                # heartbeat or a final report must not end with it.
                log.exception("%s failed in an unforeseen way", what)
                raise ServerUnreachable(f"{self._config.url}: unforeseen {type(err).__name__}") from err

        return retry(
            guarded, policy=policy, again=again, clock=self._clock, budget=budget, stop=stop, what=what
        )

    def _understand(self, read: Callable[[Wire, Answer], T], wire: Wire, answer: Answer) -> T:
        """Read an answer; an error names the server it came from."""
        try:
            return read(wire, answer)
        except ServerError as err:
            err.diag = f"{self._config.url}: {err.diag}"
            err.args = (err.diag,)
            raise

    def _never_again(self, dialect: Dialect, err: FieldRefused) -> None:
        with self._lock:
            known = self._refused[dialect]
            self._refused[dialect] = known | {err.field}
        if err.field not in known:
            log.warning("this server does not take %s, which is no longer sent: %s", err.field, err.diag)

    def _switch(self, failed: Wire, err: ServerError) -> bool:
        """Speak the other dialect; False if there is none to speak."""
        with self._lock:
            if len(self._wires) == 1:
                return False
            if self._wires[0] is failed:
                self._wires = (*self._wires[1:], failed)
                log.info(
                    "the server does not speak %s (%s): trying %s", failed.DIALECT, err.diag, self.dialect
                )
        return True
