"""The client against servers that misbehave: what is repeated, and when it
ends.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.config import ServerConfig
from pilot_core.errors import (
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
    SetupError,
)
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from pilot_core.model.report import CommandKind, JobReport, JobState, Node
from pilot_core.model.sample import Usage
from pilot_core.server import http
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from pilot_core.server.field import Dialect
from tests.fakes.client import JOB, QUEUE, REQUEST, acquire, budget, client, report, update
from tests.fakes.pki import make_pki
from tests.fakes.server import SkippingClock


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda", adder_delay_s=3_600) as panda:
        yield panda


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
