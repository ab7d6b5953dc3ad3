"""The client against servers that misbehave: what is repeated, and when it
ends.
"""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock, SystemClock
from pilot_core.base.scope import Scope
from pilot_core.config import ServerConfig
from pilot_core.errors import (
    NotAuthorised,
    ServerBusy,
    ServerError,
    ServerRefused,
    ServerUnreachable,
    SetupError,
)
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import CommandKind, JobReport, JobState, Node, WorkerState
from pilot_core.model.sample import Usage
from pilot_core.server import http
from pilot_core.server.auth import Credential
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from pilot_core.server.field import Dialect
from tests.fakes.patience import stated
from tests.fakes.pki import Pki, make_pki
from tests.fakes.server import SkippingClock

QUEUE = "DOMA_LSST_GOOGLE_TEST"
JOB = {"computingSite": QUEUE, "transformation": "https://example.org/x", "jobPars": "x"}
REQUEST = JobRequest(QUEUE, QUEUE, "managed", "node7", disk_mb=20_000, memory_mb=16_000)
NODE = Node("node7", "Kubernetes", "grid-job-17")


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda", adder_delay_s=3_600) as panda:
        yield panda


@contextlib.contextmanager
def client(url: str, clock: Clock | None = None, **more: object) -> Iterator[PandaServer]:
    config = ServerConfig(url, **more)  # type: ignore[arg-type]
    server = PandaServer(config, clock=clock or SkippingClock(), harvester_id="Rubin", worker_id=17)
    yield server
    server.close()


def budget(seconds: float = 14_400.0, clock: Clock | None = None) -> Budget:
    return Budget(clock or SystemClock(), seconds, "test")


def acquire(server: PandaServer, request: JobRequest = REQUEST) -> object:
    return server.acquire_job(request, budget=budget(), stop=threading.Event())


def report(panda_id: int, state: JobState = JobState.RUNNING, **more: object) -> JobReport:
    return JobReport(panda_id, 1, state, QUEUE, NODE, **more)  # type: ignore[arg-type]


def update(server: PandaServer, what: JobReport, seconds: float = 14_400.0) -> tuple[CommandKind, ...]:
    reply = server.update_job(what, budget=budget(seconds), stop=threading.Event())
    return tuple(command.kind for command in reply.commands)


OUTAGES = [
    Fault("*", FaultKind.STATUS, status=500),
    Fault("*", FaultKind.STATUS, status=502),
    Fault("*", FaultKind.STATUS, status=404),
    Fault("*", FaultKind.HTML),
    Fault("*", FaultKind.RESET),
    Fault("*", FaultKind.HALF),
    Fault("*", FaultKind.HANG, seconds=0.05),
    Fault("*", FaultKind.STATUS_CODE, status_code=10),
]


def again(fault: Fault, **more: object) -> Fault:
    return Fault(**{**{name: getattr(fault, name) for name in Fault.__slots__}, **more})


@pytest.mark.parametrize("dialect", ["v1", "legacy"])
@pytest.mark.parametrize("fault", OUTAGES, ids=lambda f: f"{f.kind} {f.status}")
def test_a_final_report_survives_an_outage(panda: LocalPanda, fault: Fault, dialect: str) -> None:
    panda_id = panda.store.submit(JOB)
    with client(panda.url, api=dialect) as server:
        acquire(server)
        panda.faults.add(again(fault, count=7))
        # Half an answer comes from a server that has done it all.
        done = (CommandKind.ALREADY_DONE,) if fault.kind is FaultKind.HALF else ()
        assert update(server, report(panda_id, JobState.FAILED)) == done
    assert panda.store.job(panda_id).final == "failed"
    # Seven that failed and one that did not: nothing is asked twice at once.
    assert len(panda.calls("update_job")) == 8


@pytest.mark.parametrize("fault", OUTAGES, ids=lambda f: f"{f.kind} {f.status}")
def test_a_heartbeat_does_not_press(panda: LocalPanda, fault: Fault) -> None:
    panda_id = panda.store.submit(JOB)
    with client(panda.url, api="v1") as server:
        acquire(server)
        panda.faults.add(again(fault, count=None))
        with pytest.raises(ServerUnreachable):
            update(server, report(panda_id))
    # The next one follows when the heartbeat says so.
    assert len(panda.calls("update_job")) == 1


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.HALF, FaultKind.HTML])
def test_a_job_whose_answer_was_lost_is_not_asked_for_again(panda: LocalPanda, kind: FaultKind) -> None:
    panda.store.submit(JOB)
    second = panda.store.submit(JOB)
    panda.faults.add(Fault("acquire_jobs", kind, commit=True))
    with client(panda.url) as server, pytest.raises(ServerUnreachable):
        acquire(server)
    assert panda.store.job(second).status == "activated"
    assert len(panda.calls("acquire_jobs")) == 1


def test_a_final_report_whose_answer_was_lost_is_delivered_once(panda: LocalPanda) -> None:
    panda_id = panda.store.submit(JOB)
    with client(panda.url) as server:
        acquire(server)
        panda.faults.add(Fault("update_job", FaultKind.RESET, commit=True))
        assert update(server, report(panda_id, JobState.FAILED)) == (CommandKind.ALREADY_DONE,)


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(panda: LocalPanda) -> None:
    clock = SkippingClock()
    panda_id = panda.store.submit(JOB)
    panda.faults.add(Fault("*", FaultKind.STATUS, status=503, retry_after="400"))
    with client(panda.url, clock) as server:
        final = report(panda_id, JobState.FAILED)
        server.update_job(final, budget=Budget(clock, 3_600, "t"), stop=threading.Event())
    (wait,) = clock.waits
    assert 400.0 <= wait <= 600.0


def test_a_stray_failure_of_a_final_report_costs_seconds(panda: LocalPanda) -> None:
    clock = SkippingClock()
    panda_id = panda.store.submit(JOB)
    with client(panda.url, clock) as server:
        acquire(server)
        panda.faults.add(Fault("*", FaultKind.STATUS, status=503))
        update(server, report(panda_id, JobState.FAILED))
    (wait,) = clock.waits
    assert wait <= 15.0


def test_a_final_report_with_seconds_left_does_not_wait_for_minutes(panda: LocalPanda) -> None:
    """A pilot that is being killed, and a server that fails for a moment."""
    clock = SkippingClock()
    panda_id = panda.store.submit(JOB)
    with client(panda.url, clock) as server:
        acquire(server)
        panda.faults.add(Fault("*", FaultKind.STATUS, status=503, count=2))
        whole = Budget(clock, 9.0, "killed")
        server.update_job(report(panda_id, JobState.FAILED), budget=whole, stop=threading.Event())
    assert len(clock.waits) == 2
    assert sum(clock.waits) < 9.0


def test_an_update_after_one_that_was_not_stored_is_lean(
    panda: LocalPanda, caplog: pytest.LogCaptureFixture
) -> None:
    """Else one number too large would cost every heartbeat, and the job."""
    panda_id = panda.store.submit(JOB)
    with client(panda.url, api="v1") as server:
        acquire(server)
        panda.faults.add(Fault("update_job", FaultKind.STATUS_CODE, status_code=30))
        with pytest.raises(ServerUnreachable):
            update(server, report(panda_id))
        update(server, report(panda_id))
        update(server, report(panda_id))
    assert caplog.text.count("only without its measurements") == 1


def test_a_busy_server_that_asks_for_too_much_is_given_up(panda: LocalPanda) -> None:
    panda.faults.add(Fault("*", FaultKind.STATUS, status=429, retry_after="400"))
    with client(panda.url) as server, pytest.raises(ServerBusy):
        update(server, report(1), seconds=60.0)
    assert len(panda.requests) == 1


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with client(url) as server, pytest.raises(http.NotSent, match="Connection refused"):
        acquire(server)


def test_what_the_caller_was_handling_is_not_the_reason(panda: LocalPanda) -> None:
    panda.faults.add(Fault("*", FaultKind.RESET, count=100))
    with client(panda.url) as server:
        try:
            raise socket.gaierror("a name of another request")
        except OSError:
            with pytest.raises(ServerUnreachable, match=r"closed|reset|aborted") as caught:
                acquire(server)
    assert not isinstance(caught.value, http.NotSent)


def test_a_name_nobody_knows() -> None:
    with client("http://nothing.invalid:25080") as server, pytest.raises(http.NotSent, match="no connection"):
        acquire(server)


@pytest.mark.parametrize("url", ["", "panda.example.org", "ftp://panda", "https://"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(SetupError, match="server URL"):
        PandaServer(ServerConfig(url), clock=SystemClock())


def test_a_dialect_that_is_none() -> None:
    with pytest.raises(SetupError, match="v2"):
        PandaServer(ServerConfig("https://panda", api="v2"), clock=SystemClock())


def test_stop_ends_the_waits(panda: LocalPanda) -> None:
    panda.faults.add(Fault("*", count=None))
    stop = threading.Event()
    stop.set()
    with client(panda.url, SystemClock()) as server, pytest.raises(ServerUnreachable):
        server.update_job(report(1, JobState.FAILED), budget=budget(), stop=stop)
    assert len(panda.requests) == 1


# -- dialects ----------------------------------------------------------------


def test_auto_finds_legacy_and_remembers(tmp_path: Path) -> None:
    """A server from before v1, and one that has it and forbids it."""
    with LocalPanda(tmp_path / "old", dialects=("legacy",)) as panda:
        panda_id = panda.store.submit(JOB)
        with client(panda.url) as server:
            assert isinstance(acquire(server), dict)
            update(server, report(panda_id))
            assert server.dialect is Dialect.LEGACY
        paths = [record.path for record in panda.requests]
    assert paths == ["/api/v1/pilot/acquire_jobs", "/server/panda/getJob", "/server/panda/updateJob"]


def test_legacy_alone_is_refused_by_a_server_of_today(tmp_path: Path) -> None:
    with (
        LocalPanda(tmp_path / "new", dialects=("v1",)) as panda,
        client(panda.url, api="legacy") as server,
        pytest.raises(ServerRefused, match="method getJob is forbidden"),
    ):
        acquire(server)


def test_a_server_that_is_upgraded_while_a_job_runs(tmp_path: Path) -> None:
    with LocalPanda(tmp_path / "panda", dialects=("legacy",)) as panda:
        panda_id = panda.store.submit(JOB)
        with client(panda.url) as server:
            acquire(server)
            panda.dialects = ("v1",)
            update(server, report(panda_id))
            assert server.dialect is Dialect.V1
        assert panda.store.job(panda_id).status == "running"


def test_a_path_that_is_gone_for_a_moment_changes_nothing(panda: LocalPanda) -> None:
    """A front end that lost its server says 404 to both dialects."""
    panda.faults.add(Fault("acquire_jobs", FaultKind.STATUS, status=404, count=2))
    panda.store.submit(JOB)
    with client(panda.url) as server:
        with pytest.raises(ServerUnreachable):
            acquire(server)
        assert isinstance(acquire(server), dict)
        assert server.dialect is Dialect.V1


def test_a_pilot_for_its_owners_jobs_says_who_that_is(panda: LocalPanda, tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    with client(panda.url, proxy_file=pki.proxy) as server:
        acquire(server, replace(REQUEST, label="self"))
        acquire(server)
    asked = [record.body.get("prod_user_id") for record in panda.calls("acquire_jobs")]
    assert asked == ["/CN=Robot Pilot", None]


# -- what a server teaches ---------------------------------------------------


def test_a_word_the_server_does_not_know_is_said_once(
    panda: LocalPanda, caplog: pytest.LogCaptureFixture
) -> None:
    request = JobRequest(
        QUEUE,
        QUEUE,
        "managed",
        "node7",
        disk_mb=20_000,
        memory_mb=16_000,
        extra={"target_architecture": "x86_64-v3"},
    )
    with client(panda.url) as server, caplog.at_level(logging.WARNING):
        assert acquire(server, request) is None
        assert acquire(server, request) is None
    assert len(panda.calls("acquire_jobs")) == 3
    assert caplog.text.count("target_architecture, which is no longer sent") == 1


def test_a_required_field_is_not_dropped(panda: LocalPanda) -> None:
    with client(panda.url) as server, pytest.raises(ServerRefused, match="job_id"):
        update(server, report(2**70))
    assert len(panda.requests) == 1


def test_a_number_the_database_does_not_take_costs_only_itself(
    panda: LocalPanda, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch id that changes is such a thing (panda-server 1.0.3)."""
    panda_id = panda.store.submit(JOB)
    with client(panda.url) as server:
        acquire(server)
        update(server, report(panda_id))
        other = JobReport(
            panda_id,
            1,
            JobState.FAILED,
            QUEUE,
            Node("node7", batch_id="other"),
            usage=Usage(cpu_s=5),
            diag="why",
        )
        assert update(server, other) == ()
    assert panda.store.job(panda_id).pilot_error == (0, "why")
    assert len(panda.calls("update_job")) == 3
    assert "only without its measurements" in caplog.text


# -- time --------------------------------------------------------------------


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that reads a request and then does what `answer` does."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Scope("raw") as scope:
        listener.settimeout(0.05)

        def serve() -> None:
            while not scope.stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(5.0)
                        connection.recv(65_536)
                        answer(connection, scope.stopping)

        scope.spawn("serve", serve)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def trickle(text: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """One byte every 20 ms: no single wait is long, and there is no end."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        for byte in text:
            connection.sendall(bytes([byte]))
            if stop.wait(0.02):
                return

    return answer


SLOW = {
    "silence": lambda connection, stop: stop.wait(5.0),
    "status line": trickle(b"HTTP/1.1 200 " + b"O" * 60_000),
    "headers": trickle(b"HTTP/1.1 200 OK\r\n" + b"X-Nothing: 1\r\n" * 90 + b"X: " + b"y" * 60_000),
    "body": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b" " * 60_000),
    "chunks": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9_000),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_no_answer_outlives_the_budget(answer: Callable[[socket.socket, threading.Event], None]) -> None:
    with raw_server(answer) as url, client(url, SystemClock()) as server:
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable):
            server.acquire_job(REQUEST, budget=budget(0.4), stop=threading.Event())
        assert time.monotonic() - begin < stated(1.0)


def test_a_budget_that_is_shortened_ends_a_request_under_way() -> None:
    """SIGTERM comes while the server thinks: the time is needed for the last
    word.
    """
    whole = budget(600.0)
    with raw_server(SLOW["silence"]) as url, client(url, SystemClock()) as server, Scope("signal") as scope:

        def term() -> None:
            scope.stopping.wait(0.2)
            whole.shorten(0.1)

        scope.spawn("term", term)
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable):
            server.update_job(report(1, JobState.FAILED), budget=whole, stop=threading.Event())
        assert time.monotonic() - begin < stated(2.0)


def test_a_page_instead_of_an_answer_is_named(panda: LocalPanda) -> None:
    panda.faults.add(Fault("*", FaultKind.HTML))
    with client(panda.url) as server, pytest.raises(ServerUnreachable) as caught:
        acquire(server)
    assert str(caught.value) == caught.value.diag
    assert caught.value.diag.startswith(f"{panda.url}: a web page instead of an answer: <!DOCTYPE html>")


def test_an_endless_answer_ends() -> None:
    def flood(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.is_set():
            connection.sendall(b"x" * 1_000_000)

    with (
        raw_server(flood) as url,
        client(url) as server,
        pytest.raises(ServerUnreachable, match="longer than"),
    ):
        acquire(server)


def test_a_large_definition_passes(panda: LocalPanda) -> None:
    parameters = "x" * 3_000_000
    panda.store.submit({**JOB, "jobPars": parameters})
    with client(panda.url) as server:
        job = acquire(server)
    assert isinstance(job, dict)
    assert job["jobPars"] == parameters


def test_a_large_report_goes_gzipped(panda: LocalPanda) -> None:
    panda_id = panda.store.submit(JOB)
    metadata = '{"x": "' + "abc" * 100_000 + '"}'
    with client(panda.url, api="v1") as server:
        acquire(server)
        update(server, report(panda_id, JobState.FINISHED, metadata=metadata))
    assert panda.store.job(panda_id).metadata == metadata
    assert panda.calls("update_job")[0].headers["content-encoding"] == "gzip"


# -- headers, connections, credentials ----------------------------------------


def test_headers(panda: LocalPanda) -> None:
    with client(panda.url, api="v1") as server:
        acquire(server)
    with client(panda.url, api="legacy") as server:
        acquire(server)
    new, old = (record.headers for record in panda.requests)
    assert (new["content-type"], old["content-type"]) == (
        "application/json",
        "application/x-www-form-urlencoded",
    )
    for headers in (new, old):
        assert headers["accept"] == "application/json"
        assert headers["user-agent"].startswith("pilot/")
        assert "authorization" not in headers


def test_one_connection_serves_many_requests() -> None:
    """And a new one is made after a rest: a NAT may have forgotten the old
    one.
    """
    connections = 0

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        nonlocal connections
        connections += 1
        body = b'{"success": false, "message": "No jobs in PanDA", "data": null}'
        for _ in range(3):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            if not connection.recv(65_536):
                return

    clock = SkippingClock()
    with raw_server(answer) as url, client(url, clock) as server:
        acquire(server)
        acquire(server)
        assert connections == 1
        clock.wait(threading.Event(), 120.0)
        acquire(server)
        assert connections == 2


def test_a_token_is_exchanged_and_used(tmp_path: Path) -> None:
    with LocalPanda(tmp_path / "panda", require_auth=True) as panda:
        token, key = tmp_path / "token", tmp_path / "key"
        token.write_text(panda.issue_token(seconds=100))
        key.write_text("local-token-key\n")
        for api in ("v1", "legacy"):
            old = token.read_text()
            with client(
                panda.url,
                SystemClock(),
                api=api,
                token_file=token,
                token_origin="Rubin.pilot",
                token_key_file=key,
            ) as server:
                if api == "v1":
                    assert 0 < server.lifetimes()[Credential.TOKEN] <= 100
                assert server.renew(Credential.TOKEN, budget=budget(), stop=threading.Event())
                assert server.lifetimes()[Credential.TOKEN] > 3_000
                assert acquire(server) is None
            if api == "v1":
                assert token.read_text() != old


def test_no_token_key_no_exchange(panda: LocalPanda) -> None:
    with client(panda.url) as server:
        for credential in Credential:
            assert not server.renew(credential, budget=budget(), stop=threading.Event())
        assert server.lifetimes() == {}


def test_a_wrong_token_key_is_refused_and_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LocalPanda(tmp_path / "panda", require_auth=True) as panda:
        token, key = tmp_path / "token", tmp_path / "key"
        token.write_text(panda.issue_token())
        key.write_text("a-wrong-token-key")
        panda.faults.add(Fault("get_access_token", FaultKind.RESET, count=1))
        with (
            client(panda.url, token_file=token, token_origin="Rubin.pilot", token_key_file=key) as server,
            caplog.at_level(logging.DEBUG),
        ):
            with pytest.raises(ServerUnreachable) as first:
                server.renew(Credential.TOKEN, budget=budget(), stop=threading.Event())
            with pytest.raises(NotAuthorised) as caught:
                server.renew(Credential.TOKEN, budget=budget(), stop=threading.Event())
    assert "a-wrong-token-key" not in "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("pilot_core.server")
    )
    assert "a-wrong-token-key" not in repr((first.value, caught.value))


@pytest.mark.parametrize("call", ["acquire", "update", "worker"])
@pytest.mark.parametrize("dialect", ["v1", "legacy"])
def test_nobody_is_not_authorised(tmp_path: Path, dialect: str, call: str) -> None:
    with LocalPanda(tmp_path / "panda", require_auth=True) as panda, client(panda.url, api=dialect) as server:
        calls: dict[str, Callable[[], object]] = {
            "acquire": lambda: acquire(server),
            "update": lambda: update(server, report(1)),
            "worker": lambda: server.update_worker(
                WorkerState.STARTED, site=QUEUE, node="n", budget=budget(), stop=threading.Event()
            ),
        }
        with pytest.raises(NotAuthorised):
            calls[call]()
        assert len(panda.requests) == 1


def test_an_expired_token(tmp_path: Path) -> None:
    with LocalPanda(tmp_path / "panda", require_auth=True) as panda:
        token = tmp_path / "token"
        token.write_text(panda.issue_token(seconds=-1))
        with (
            client(panda.url, token_file=token, token_origin="Rubin.pilot") as server,
            pytest.raises(NotAuthorised, match="Signature has expired"),
        ):
            acquire(server)


def test_a_final_report_waits_for_fresh_credentials(tmp_path: Path) -> None:
    with LocalPanda(tmp_path / "panda", require_auth=True, adder_delay_s=3_600) as panda:
        panda_id = panda.store.submit(JOB)
        token = tmp_path / "token"
        token.write_text(panda.issue_token())

        class RenewingClock(SkippingClock):
            """In the third wait, somebody renews the token."""

            def wait(self, event: threading.Event, seconds: float) -> bool:
                if len(self.waits) == 2:
                    token.write_text(panda.issue_token(seconds=7_200))
                return super().wait(event, seconds)

        clock = RenewingClock()
        with client(panda.url, clock, token_file=token, token_origin="Rubin.pilot") as server:
            acquire(server)
            token.write_text(panda.issue_token(seconds=-1))
            assert update(server, report(panda_id, JobState.FAILED)) == ()
        assert len(clock.waits) == 3


def test_an_upload_whose_answer_was_lost_is_good(panda: LocalPanda, tmp_path: Path) -> None:
    path = tmp_path / "Rubin_17.out"
    path.write_bytes(os.urandom(3_000_000))
    panda.faults.add(Fault("upload", FaultKind.RESET, commit=True))
    with client(panda.url) as server:
        server.upload_worker_log(path, budget=budget(), stop=threading.Event())
    assert (panda.folder / "cache" / path.name).read_bytes() == path.read_bytes()


def test_every_failure_is_a_server_error(panda: LocalPanda) -> None:
    """Each kind of fault on each call: nothing but `ServerError` comes out."""
    for kind in FaultKind:
        if kind is FaultKind.SLOW:
            continue
        panda.faults.add(Fault("*", kind, count=None, seconds=0.05))
        with client(panda.url) as server:
            for call in (
                lambda server=server: acquire(server),
                lambda server=server: update(server, report(1)),
                lambda server=server: server.update_worker(
                    WorkerState.STARTED, site=QUEUE, node="n", budget=budget(), stop=threading.Event()
                ),
            ):
                with contextlib.suppress(ServerError):
                    call()
        panda.faults.clear()
    assert {struck.fault.kind for struck in panda.faults.done} == set(FaultKind) - {FaultKind.SLOW}


# -- TLS -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def secure(tmp_path: Path, pki: Pki) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda", tls=pki.tls, require_auth=True) as panda:
        yield panda


def test_a_server_that_nobody_vouches_for_is_not_talked_to(secure: LocalPanda, pki: Pki) -> None:
    with (
        client(secure.url, proxy_file=pki.proxy) as server,
        pytest.raises(http.NotSent, match=r"certificate verify failed.*the system's"),
    ):
        acquire(server)
    assert secure.requests == []


def test_a_server_under_another_name_is_not_talked_to(secure: LocalPanda, pki: Pki) -> None:
    url = secure.url.replace("127.0.0.1", "localhost")
    with (
        client(url, ca_file=pki.ca) as server,
        pytest.raises(http.NotSent, match="certificate is not valid for"),
    ):
        acquire(server)


def test_a_directory_of_authorities(secure: LocalPanda, pki: Pki, tmp_path: Path) -> None:
    """The grid's way: files named by the hash of the subject, `openssl
    rehash`.
    """
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(pki.ca.read_bytes())
    subprocess.run(["openssl", "rehash", str(folder)], check=True, timeout=30)
    with client(secure.url, ca_path=folder, proxy_file=pki.proxy) as server:
        assert acquire(server) is None


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_broken_proxy_is_named(secure: LocalPanda, pki: Pki, tmp_path: Path, content: str) -> None:
    proxy = tmp_path / "x509up"
    proxy.write_text(content)
    with (
        client(secure.url, ca_file=pki.ca, proxy_file=proxy) as server,
        pytest.raises(NotAuthorised, match=r"X\.509 proxy .*x509up"),
    ):
        acquire(server)


def test_a_missing_authority_is_named(secure: LocalPanda, tmp_path: Path) -> None:
    with (
        client(secure.url, ca_file=tmp_path / "ca.pem") as server,
        pytest.raises(NotAuthorised, match=r"CA certificates .*ca\.pem: No such file"),
    ):
        acquire(server)


@pytest.mark.parametrize("call", ["acquire", "update", "renew"])
def test_an_expired_proxy_is_named(secure: LocalPanda, pki: Pki, tmp_path: Path, call: str) -> None:
    """The server says so with a TLS alert, in TLS 1.3 after the handshake."""
    (secure.folder / "proxy.pem").write_bytes(pki.fresh.read_bytes())
    with client(secure.url, ca_file=pki.ca, proxy_file=pki.expired, spare_folder=tmp_path) as server:
        calls: dict[str, Callable[[], object]] = {
            "acquire": lambda: acquire(server),
            "update": lambda: update(server, report(1)),
            "renew": lambda: server.renew(Credential.PROXY, budget=budget(), stop=threading.Event()),
        }
        with pytest.raises(NotAuthorised, match="certificate expired") as caught:
            calls[call]()
    assert caught.value.code is ErrorCode.CERTIFICATEHASEXPIRED


def test_a_proxy_that_is_renewed_is_used_at_once(secure: LocalPanda, pki: Pki, tmp_path: Path) -> None:
    """The same connection would still speak for the old one."""
    proxy = tmp_path / "x509up"
    proxy.write_bytes(pki.stranger.read_bytes())
    with client(secure.url, ca_file=pki.ca, proxy_file=proxy) as server:
        with pytest.raises(NotAuthorised):
            update(server, report(1))
        os.replace(shutil.copy(pki.proxy, tmp_path / "fresh"), proxy)
        assert update(server, report(1)) == (CommandKind.KILL,)
    assert [record.who.name for record in secure.requests] == ["Plain User", "Robot Pilot"]
