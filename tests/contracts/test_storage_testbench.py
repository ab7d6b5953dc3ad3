"""The copytool gs against googleapis/storage-testbench and the faults that it
injects.

Runs where STORAGE_TESTBENCH names its URL:

    git clone https://github.com/googleapis/storage-testbench
    cd storage-testbench
    python3 -m venv venv && venv/bin/pip install .
    venv/bin/gunicorn --bind=127.0.0.1:9000 --threads=10 "testbench:run()" &
    cd .../rubin-panda-pilot
    STORAGE_TESTBENCH=http://127.0.0.1:9000 make test TESTS=tests/contracts
"""

import json
import os
import urllib.request
import uuid
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage import gcs_client
from pilot_core.storage.gcs import GcsTool
from tests.fakes import gcs

CLOCK = SystemClock()
FAST = RetryPolicy(attempts=4, first_s=0.05, cap_s=0.1)
LARGE = 9 * 1024 * 1024 + 5


@pytest.fixture(scope="module")
def testbench() -> str:
    url = os.environ.get("STORAGE_TESTBENCH", "").rstrip("/")
    if not url:
        pytest.skip("STORAGE_TESTBENCH names no googleapis/storage-testbench")
    gcs.make_bucket(url)
    return url


def faulty(url: str, method: str, *faults: str) -> GcsTool:
    """A tool whose calls of `method` meet these faults in turn."""
    request = urllib.request.Request(
        f"{url}/retry_test",
        data=json.dumps({"instructions": {method: list(faults)}, "transport": "HTTP"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        mark = json.load(answer)["id"]
    tool = GcsTool(clock=CLOCK, endpoint=url, policy=FAST, stall_s=5.0)
    # The testbench tells by this header whom it is to fail.
    tool._connect(gcs_client)
    for session in (tool._session, tool._client._http):
        session.headers["x-retry-test-id"] = mark
    return tool


def new_target() -> str:
    """A name that no earlier run has used: the testbench keeps objects, and an
    upload that it stalled in two generations at once.
    """
    return f"gs://{gcs.BUCKET}/{uuid.uuid4().hex}/payload.stderr"


def budget(seconds: float = 40.0) -> Budget:
    return Budget(CLOCK, seconds, "transfer")


INSERT = [
    ("return-503", "return-503"),
    ("return-429", "return-408", "return-504"),
    ("return-reset-connection",),
    ("return-503-after-1024K",),
    ("return-503-after-1024K", "return-503-after-3072K"),
    ("stall-for-8s-after-1024K",),
]


@pytest.mark.parametrize("faults", INSERT, ids="+".join)
@pytest.mark.parametrize("size", [1000, LARGE])
def test_an_upload_survives(testbench: str, tmp_path: Path, faults: tuple[str, ...], size: int) -> None:
    source = tmp_path / "payload.stderr"
    source.write_bytes(os.urandom(size))
    target = new_target()
    stored = faulty(testbench, "storage.objects.insert", *faults).put(source, target, budget=budget())
    assert stored.size == size
    GcsTool(clock=CLOCK, endpoint=testbench).get(target, tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


DOWNLOAD = [
    "return-503",
    "return-broken-stream",
    "return-broken-stream-after-1024K",
    "stall-for-8s-after-1024K",
]


@pytest.mark.parametrize("fault", DOWNLOAD)
def test_a_download_survives(testbench: str, tmp_path: Path, fault: str) -> None:
    source = tmp_path / "payload.stderr"
    source.write_bytes(os.urandom(LARGE))
    target = new_target()
    GcsTool(clock=CLOCK, endpoint=testbench).put(source, target, budget=budget())
    faulty(testbench, "storage.objects.get", fault).get(target, tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_refusal_is_final(testbench: str, tmp_path: Path) -> None:
    source = tmp_path / "payload.stderr"
    source.write_bytes(b"x")
    tool = faulty(testbench, "storage.objects.insert", "return-403")
    with pytest.raises(StorageError) as caught:
        tool.put(source, new_target(), budget=budget())
    assert caught.value.code is ErrorCode.STAGEOUTAUTHENTICATIONFAILURE


def test_a_bucket_that_does_not_exist(testbench: str, tmp_path: Path) -> None:
    source = tmp_path / "payload.stderr"
    source.write_bytes(b"x")
    tool = GcsTool(clock=CLOCK, endpoint=testbench, policy=FAST)
    with pytest.raises(StorageError, match="HTTP 404") as caught:
        tool.put(source, "gs://no-such-bucket/x", budget=budget())
    assert caught.value.code is ErrorCode.STAGEOUTFAILED
