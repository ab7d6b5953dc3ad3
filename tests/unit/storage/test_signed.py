"""Signed URLs: by a key or by IAM, good for as long as asked, and said where they
cannot be made.
"""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from google.auth import compute_engine
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.config import StorageConfig
from pilot_core.storage.gcs import GcsTool
from pilot_core.storage.gcs_links import Links
from pilot_core.storage.s3 import S3Tool
from pilot_core.storage.tools import COPYTOOLS
from tests.fakes import s3
from tests.fakes.clock import FakeClock
from tests.fakes.gcs_server import gcs_server
from tests.fakes.google_identity import EMAIL, KEY, Identity, google_identity, key_info

CLOCK = SystemClock()


def budget() -> Budget:
    return Budget(CLOCK, 20, "upload")


def blob(credentials: Any) -> storage.Blob:
    return storage.Client("p", credentials).bucket("bucket").blob("logs/a b.txt")


def key() -> service_account.Credentials:
    return service_account.Credentials.from_service_account_info(key_info("http://127.0.0.1:9/none"))


def pod() -> compute_engine.Credentials:
    """Workload Identity: a token from the node, no key."""
    return compute_engine.Credentials(universe_domain="googleapis.com")


@pytest.fixture
def identity() -> Iterator[Identity]:
    with google_identity() as services:
        yield services


def check_signature(url: str, seconds: int) -> None:
    split = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(split.query).items()}
    assert (split.netloc, split.path) == ("storage.googleapis.com", "/bucket/logs/a%20b.txt")
    assert query["X-Goog-Credential"].startswith(f"{EMAIL}/")
    assert query["X-Goog-Expires"] == str(seconds)
    # What is signed: https://cloud.google.com/storage/docs/authentication/signatures
    rest = split.query.partition("&X-Goog-Signature=")[0]
    text = f"GET\n{split.path}\n{rest}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(text.encode()).hexdigest()
    signed = f"{query['X-Goog-Algorithm']}\n{query['X-Goog-Date']}\n{scope}\n{digest}"
    KEY.public_key().verify(
        bytes.fromhex(query["X-Goog-Signature"]), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
    )


def test_a_key_signs_without_a_request(identity: Identity) -> None:
    check_signature(Links(identity.session(), 3600, CLOCK).sign(blob(key())), 3600)
    assert identity.asked == []


def test_iam_signs_for_a_pod_without_a_key(identity: Identity) -> None:
    links, given = Links(identity.session(), 3600, CLOCK), blob(pod())
    for _ in range(2):
        check_signature(links.sign(given), 3600)
    # One token for both.
    assert len(identity.signed) == 2
    assert sum(line.endswith("/token") for line in identity.asked) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_of_iam_is_said_once(
    identity: Identity, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    clock = FakeClock()
    links, given = Links(identity.session(), 60, clock), blob(pod())
    identity.answers = [status]
    assert [links.sign(given), links.sign(given)] == ["", ""]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "links are not signed, plain ones are given" in caplog.text
    assert "no iam.serviceAccounts.signBlob" in caplog.text
    # Somebody may have given the permission meanwhile.
    clock.now += 601
    assert "X-Goog-Signature=" in links.sign(given)


def test_iam_that_is_away_for_a_moment_is_asked_again(identity: Identity) -> None:
    identity.answers = [503]
    assert "X-Goog-Signature=" in Links(identity.session(), 60, CLOCK).sign(blob(pod()))


def test_credentials_that_cannot_sign_are_named(identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    assert Links(identity.session(), 3600, CLOCK).sign(blob(AnonymousCredentials())) == ""
    assert "google.auth.credentials.AnonymousCredentials cannot sign" in caplog.text


def test_a_link_that_cannot_be_signed_costs_no_upload(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("text")
    with gcs_server() as server:
        tool = GcsTool(clock=CLOCK, endpoint=server.url, signed_s=60)
        stored = tool.put(tmp_path / "log.txt", "gs://bucket/log.txt", budget=budget())
        assert stored.public_url == f"{server.url}/bucket/log.txt"
        assert list(server.objects) == ["log.txt"]


def test_what_is_not_signed_asks_for_a_login() -> None:
    tool = COPYTOOLS["gs"](StorageConfig(link="signed"), CLOCK)
    assert tool.public_url("gs://bucket/a b.txt") == "https://storage.cloud.google.com/bucket/a%20b.txt"


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    with s3.moto(folder) as url, s3.credentials(folder):
        yield url


@pytest.mark.s3
def test_a_presigned_url_is_read_without_credentials(moto: str, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("text")
    tool = S3Tool(clock=CLOCK, profile=s3.PROFILE, signed_s=60)
    target = f"{moto}/{s3.BUCKET}/logs/log.txt"
    stored = tool.put(tmp_path / "log.txt", target, budget=budget())
    query = parse_qs(urlsplit(stored.public_url).query)
    assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == (["AWS4-HMAC-SHA256"], ["60"])
    assert stored.public_url.partition("?")[0] == tool.public_url(target) == target
    with urllib.request.urlopen(stored.public_url, timeout=10) as answer:
        assert answer.read() == b"text"


@pytest.mark.parametrize(
    ("link", "seconds", "signed"),
    [("public", 60, 0), ("authenticated", 60, 0), ("signed", 60, 60), ("signed", 10**9, 7 * 86_400)],
)
def test_links_are_signed_only_where_asked(link: str, seconds: int, signed: int) -> None:
    assert StorageConfig(link=link, link_s=seconds).signed_s == signed
