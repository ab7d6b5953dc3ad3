"""The client's tokens and certificates, good and bad."""

import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_core.base.clock import SystemClock
from pilot_core.errors import (
    NotAuthorised,
    ServerUnreachable,
)
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import CommandKind, JobState, WorkerState
from pilot_core.server import http
from pilot_core.server.auth import Credential
from tests.fakes.client import JOB, QUEUE, acquire, budget, client, report, update
from tests.fakes.pki import Pki, make_pki
from tests.fakes.server import SkippingClock


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda", adder_delay_s=3_600) as panda:
        yield panda


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
