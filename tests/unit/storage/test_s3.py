"""The copytool s3 when the service refuses, fails or hangs: what it says."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.s3 import S3Tool
from tests.fakes import s3
from tests.fakes.absent import put_without
from tests.fakes.s3 import Refusal, failing_s3

CLOCK = SystemClock()
FAST = RetryPolicy(attempts=3, first_s=0.01, cap_s=0.02)
HOUR = 3600.0

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path) -> Iterator[None]:
    with s3.credentials(tmp_path):
        yield


def put(url: str, folder: Path, *, seconds: float = 20.0, profile: str = s3.PROFILE, size: int = 9) -> None:
    path = folder / "pilotlog.txt"
    path.write_bytes(os.urandom(size))
    tool = S3Tool(clock=CLOCK, profile=profile, policy=FAST)
    tool.put(path, f"{url}/bucket/logs/pilotlog.txt", budget=Budget(CLOCK, seconds, "upload"))


FINAL = [
    (Refusal(404, "NoSuchBucket", "The specified bucket does not exist"), ErrorCode.STAGEOUTFAILED),
    (Refusal(403, "AccessDenied", "Access Denied"), ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
    (Refusal(403, "InvalidAccessKeyId", "no such key"), ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
    (Refusal(403, "SignatureDoesNotMatch", "wrong"), ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
    (Refusal(403, "QuotaExceeded", "bucket is full"), ErrorCode.NOREMOTESPACE),
    (Refusal(507, "XMinioStorageFull", "disk is full"), ErrorCode.NOREMOTESPACE),
    (Refusal(400, "InvalidRequest", "bad"), ErrorCode.STAGEOUTFAILED),
]


@pytest.mark.parametrize(("refusal", "code"), FINAL, ids=lambda x: getattr(x, "code", ""))
def test_a_refusal_is_final_and_said(tmp_path: Path, refusal: Refusal, code: ErrorCode) -> None:
    with failing_s3(refusal) as service:
        wanted = f"upload of pilotlog.txt to {service.url}/bucket/logs/pilotlog.txt: "
        with pytest.raises(StorageError, match=f"{wanted}.*{refusal.code}: {refusal.message}") as caught:
            put(service.url, tmp_path)
    assert caught.value.code is code
    assert len(service.requests) == 1


@pytest.mark.parametrize(("off_s", "word"), [(-HOUR, "fast"), (HOUR, "slow")])
def test_a_clock_off_by_an_hour_is_named(tmp_path: Path, off_s: float, word: str) -> None:
    refusal = Refusal(403, "RequestTimeTooSkewed", "too large a difference", off_s=off_s)
    with failing_s3(refusal) as service, pytest.raises(StorageError) as caught:
        put(service.url, tmp_path)
    assert caught.value.code is ErrorCode.STAGEOUTAUTHENTICATIONFAILURE
    found = re.search(r"; the clock of this node is (\d+) s (fast|slow)$", caught.value.diag)
    assert found is not None
    # The Date of an answer has no fractions, and a busy node reads it late.
    assert (abs(int(found[1]) - HOUR) < 60, found[2]) == (True, word)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_repeated(tmp_path: Path, status: int) -> None:
    with failing_s3(*[Refusal(status, "SlowDown")] * 3) as service, pytest.raises(StorageError) as caught:
        put(service.url, tmp_path)
    assert caught.value.code is ErrorCode.STAGEOUTFAILED
    assert len(service.requests) == FAST.attempts


def test_a_corrupted_upload_is_a_mismatch(tmp_path: Path) -> None:
    with failing_s3(*[Refusal(400, "BadDigest")] * 3) as service, pytest.raises(StorageError) as caught:
        put(service.url, tmp_path)
    assert caught.value.code is ErrorCode.PUTADMISMATCH
    assert len(service.requests) == FAST.attempts


def test_a_service_that_hangs_costs_no_more_than_the_budget(tmp_path: Path) -> None:
    started = CLOCK.monotonic()
    with failing_s3(hang=True) as service, pytest.raises(StorageError) as caught:
        put(service.url, tmp_path, seconds=1.5)
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    assert CLOCK.monotonic() - started < 2.5


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="EndpointConnectionError") as caught:
        put("http://127.0.0.1:9", tmp_path)
    assert caught.value.code is ErrorCode.STAGEOUTFAILED


def test_a_profile_that_is_not_there_is_missing_credentials(tmp_path: Path) -> None:
    with failing_s3() as service, pytest.raises(StorageError, match="nobody") as caught:
        put(service.url, tmp_path, profile="nobody")
    assert caught.value.code is ErrorCode.MISSINGCREDENTIALS
    assert service.requests == []


def test_no_credentials_are_missing_credentials(tmp_path: Path) -> None:
    with s3.credentials(tmp_path, ""), failing_s3() as service, pytest.raises(StorageError) as caught:
        put(service.url, tmp_path, profile="")
    assert caught.value.code is ErrorCode.MISSINGCREDENTIALS
    assert "Unable to locate credentials" in caught.value.diag


URLS = {
    "https://s3dfrgw.slac.stanford.edu/rubin-usdf-panda-logs/SLAC_TEST/PandaJob_1/pilotlog.txt": "",
    "s3://s3.cern.ch:443//bucket/a/b": "https://s3.cern.ch:443/bucket/a/b",
    "s3://bucket/a b": "https://bucket.s3.amazonaws.com/a%20b",
}


@pytest.mark.parametrize("url", URLS)
def test_public_urls_without_any_call(url: str) -> None:
    assert S3Tool(clock=CLOCK).public_url(url) == (URLS[url] or url)


@pytest.mark.parametrize(
    "url", ["s3://bucket", "https://host/bucket", "s3://b/a/../c", "gs://b/c", "s3://user@host:1/b/c", "x"]
)
def test_what_is_no_object(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        S3Tool(clock=CLOCK).public_url(url)
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    said = put_without("boto3", S3Tool, "s3://b/c", folder=tmp_path)
    assert said.startswith(f"{int(ErrorCode.MIDDLEWAREIMPORTFAILURE)} copytool s3 needs the package boto3")
