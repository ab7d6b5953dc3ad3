"""Signed URLs: made without a request, good for as long as asked, named where
they cannot be made.
"""

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.config import StorageConfig
from pilot_core.storage import gcs_client
from pilot_core.storage.gcs import GcsTool
from pilot_core.storage.s3 import S3Tool
from tests.fakes import s3
from tests.fakes.gcs_server import gcs_server

CLOCK = SystemClock()
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def budget() -> Budget:
    return Budget(CLOCK, 20, "upload")


def blob(credentials: Any) -> storage.Blob:
    return storage.Client("p", credentials).bucket("bucket").blob("logs/a b.txt")


def service() -> service_account.Credentials:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {
        "client_email": "pilot@p.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:9/none",
        "private_key": pem.decode(),
    }
    return service_account.Credentials.from_service_account_info(info)


def test_a_service_account_signs_without_a_request() -> None:
    url = gcs_client.sign(blob(service()), 3600)
    split = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(split.query).items()}
    assert (split.netloc, split.path) == ("storage.googleapis.com", "/bucket/logs/a%20b.txt")
    assert query["X-Goog-Expires"] == "3600"
    # What is signed: https://cloud.google.com/storage/docs/authentication/signatures
    rest = split.query.partition("&X-Goog-Signature=")[0]
    text = f"GET\n{split.path}\n{rest}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(text.encode()).hexdigest()
    signed = f"{query['X-Goog-Algorithm']}\n{query['X-Goog-Date']}\n{scope}\n{digest}"
    KEY.public_key().verify(
        bytes.fromhex(query["X-Goog-Signature"]), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
    )


def test_credentials_that_cannot_sign_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert gcs_client.sign(blob(AnonymousCredentials()), 3600) == ""
    assert "google.auth.credentials.AnonymousCredentials cannot sign" in caplog.text


def test_a_link_that_cannot_be_signed_costs_no_upload(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("text")
    with gcs_server() as server:
        tool = GcsTool(clock=CLOCK, endpoint=server.url, signed_s=60)
        stored = tool.put(tmp_path / "log.txt", "gs://bucket/log.txt", budget=budget())
        assert stored.public_url == f"{server.url}/bucket/log.txt"
        assert list(server.objects) == ["log.txt"]


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
