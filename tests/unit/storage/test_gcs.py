"""The copytool gs when the service fails: what it repeats, says and costs."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.auth.exceptions import RefreshError, TransportError

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage import gcs_client
from pilot_core.storage.gcs import GcsTool
from tests.fakes.gcs_server import Fault, GcsServer, gcs_server

CLOCK = SystemClock()
FAST = RetryPolicy(attempts=4, first_s=0.01, cap_s=0.02)
TARGET = "gs://bucket/logs/pilotlog.txt"
LARGE = 9 * 1024 * 1024 + 5


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with gcs_server() as state:
        yield state


def make_tool(server: GcsServer, stall_s: float = 5.0) -> GcsTool:
    return GcsTool(clock=CLOCK, endpoint=server.url, policy=FAST, stall_s=stall_s)


def budget(seconds: float = 20.0) -> Budget:
    return Budget(CLOCK, seconds, "upload")


def make(folder: Path, data: bytes = b"line\r\nline\n") -> Path:
    path = folder / "pilotlog.txt"
    path.write_bytes(data)
    return path


FAULTS = [
    Fault("status", 503),
    Fault("status", 429),
    Fault("status", 408),
    Fault("status", 500),
    Fault("reset"),
    Fault("lose"),
    Fault("corrupt"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.kind}{f.status or ''}")
@pytest.mark.parametrize("after", [0, 1])
def test_a_passing_failure_is_survived(server: GcsServer, tmp_path: Path, fault: Fault, after: int) -> None:
    data = os.urandom(LARGE if after else 1000)
    nothing = Fault("none")
    server.faults = [nothing] * after + [fault]
    stored = make_tool(server).put(make(tmp_path, data), TARGET, budget=budget(), content_type="text/plain")
    assert server.objects["logs/pilotlog.txt"].data == data
    assert server.objects["logs/pilotlog.txt"].content_type == "text/plain"
    assert stored.size == len(data)
    assert server.faults == []


def test_an_upload_that_breaks_goes_on_where_it_broke(
    server: GcsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [Fault("none"), Fault("break"), Fault("status", 503)]
    data = os.urandom(LARGE)
    make_tool(server).put(make(tmp_path, data), TARGET, budget=budget())
    assert server.objects["logs/pilotlog.txt"].data == data
    # Whoever has the id of an upload may write the object.
    assert "upload_id=" not in caplog.text
    # One upload: the file, a question that fails as well, another, the rest.
    assert [line[:4] for line in server.requests] == ["POST", "PUT ", "PUT ", "PUT ", "PUT "]


@pytest.mark.parametrize("size", [1000, LARGE])
def test_what_got_through_without_an_answer_is_not_sent_again(
    server: GcsServer, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    server.faults = [Fault("lose")] if size < LARGE else [Fault("none"), Fault("lose")]
    make_tool(server).put(make(tmp_path, data), TARGET, budget=budget(), content_type="text/plain")
    found = server.objects["logs/pilotlog.txt"]
    assert (found.data, found.generation) == (data, 101), "it was stored a second time"
    # The same again, by the next pilot: the precondition names no object.
    make_tool(server).put(make(tmp_path, data), TARGET, budget=budget(), content_type="text/plain")
    assert server.objects["logs/pilotlog.txt"].generation == 101
    make_tool(server).put(make(tmp_path, data), TARGET, budget=budget(), content_type="text/html")
    assert server.objects["logs/pilotlog.txt"].content_type == "text/html"


def test_an_existing_object_is_replaced_and_each_put_names_its_generation(
    server: GcsServer, tmp_path: Path
) -> None:
    server.store("logs/pilotlog.txt", b"from another life", "text/plain", None)
    make_tool(server).put(make(tmp_path, b"x" * LARGE), TARGET, budget=budget())
    assert len(server.objects["logs/pilotlog.txt"].data) == LARGE
    tool = make_tool(server)
    tool.put(make(tmp_path, b"new"), TARGET, budget=budget())
    assert server.objects["logs/pilotlog.txt"].data == b"new"
    asked = len(server.requests)
    tool.put(make(tmp_path, b"newer"), TARGET, budget=budget())
    # The second time the generation is known: one request.
    assert len(server.requests) == asked + 1
    assert "ifGenerationMatch=103" in server.requests[-1]


FINAL = [
    # We come without credentials here, and the library says so itself.
    (Fault("status", 401, "cannot be refreshed"), ErrorCode.MISSINGCREDENTIALS),
    (Fault("status", 403, "no storage.objects.create access"), ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
    (Fault("status", 403, "full", reason="quotaExceeded"), ErrorCode.NOREMOTESPACE),
    (Fault("status", 404, "The specified bucket does not exist."), ErrorCode.STAGEOUTFAILED),
    (Fault("status", 400, "bad"), ErrorCode.STAGEOUTFAILED),
]


@pytest.mark.parametrize(("fault", "code"), FINAL, ids=lambda x: str(getattr(x, "status", "")))
def test_a_refusal_is_final_and_said(
    server: GcsServer, tmp_path: Path, fault: Fault, code: ErrorCode
) -> None:
    server.faults = [fault]
    with pytest.raises(
        StorageError, match=f"upload of pilotlog.txt to {TARGET}: .*{fault.message}"
    ) as caught:
        make_tool(server).put(make(tmp_path), TARGET, budget=budget())
    assert caught.value.code is code
    assert len(server.requests) == 1


def test_a_clock_that_is_off_is_suspected() -> None:
    # What the token service says to a key file used an hour too early or late.
    said = "invalid_grant: Invalid JWT: Token must be a short-lived token and in a reasonable timeframe."
    error = gcs_client.failed(RefreshError(said), "upload of pilotlog.txt", put=True)
    assert error.code is ErrorCode.STAGEOUTAUTHENTICATIONFAILURE
    assert error.diag.endswith("; the clock of this node may be off")
    assert error.again_s is None
    known = "; the clock of this node is 3600 s fast"
    assert gcs_client.failed(RefreshError(said), "upload", put=True, skew=known).diag.endswith(known)


@pytest.mark.parametrize(
    "error",
    [RefreshError("HTTP 503", retryable=True), RefreshError(TransportError("metadata.google.internal"))],
)
def test_a_token_that_cannot_be_had_now_is_asked_for_again(error: RefreshError) -> None:
    # A metadata server is not yet there when a pod has just been started.
    found = gcs_client.failed(error, "upload", put=True)
    assert (found.code, found.again_s) == (ErrorCode.STAGEOUTFAILED, 0.0)


def test_a_full_disk_is_the_nodes() -> None:
    error = gcs_client.failed(OSError(errno.ENOSPC, "No space left on device"), "download of x", put=False)
    assert error.code is ErrorCode.NOLOCALSPACE


def test_a_storage_that_always_corrupts_is_a_mismatch(server: GcsServer, tmp_path: Path) -> None:
    server.faults = [Fault("corrupt")] * 20
    with pytest.raises(StorageError) as caught:
        make_tool(server).put(make(tmp_path), TARGET, budget=budget())
    assert caught.value.code is ErrorCode.PUTADMISMATCH


@pytest.mark.parametrize("after", [0, 1])
def test_a_storage_that_hangs_costs_no_more_than_the_budget(
    server: GcsServer, tmp_path: Path, after: int
) -> None:
    server.faults = [Fault("none")] * after + [Fault("hang")] * 50
    started = CLOCK.monotonic()
    with pytest.raises(StorageError) as caught:
        make_tool(server, stall_s=60.0).put(make(tmp_path, os.urandom(LARGE)), TARGET, budget=budget(1.5))
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    assert CLOCK.monotonic() - started < 2.0


def test_nobody_listens(tmp_path: Path) -> None:
    tool = GcsTool(clock=CLOCK, endpoint="http://127.0.0.1:9", policy=FAST, stall_s=0.1)
    with pytest.raises(StorageError, match="Connection"):
        tool.put(make(tmp_path), TARGET, budget=budget(3.0))


@pytest.mark.parametrize(
    "url",
    ["gs://bucket", "gs://bucket/", "s3://bucket/x", "gs://B/x", "gs://bucket/a/../../b", "gs://bucket/a\nb"],
)
def test_what_is_no_object(tmp_path: Path, url: str) -> None:
    with pytest.raises(StorageError) as caught:
        GcsTool(clock=CLOCK).put(make(tmp_path), url, budget=budget())
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL


def test_public_urls_without_any_call() -> None:
    quoted = "logs/PandaJob_1/payload%20one.stdout"
    target = "gs://bucket/logs/PandaJob_1/payload one.stdout"
    assert GcsTool(clock=CLOCK).public_url(target) == f"https://storage.googleapis.com/bucket/{quoted}"
    login = GcsTool(clock=CLOCK, link="authenticated").public_url(target)
    assert login == f"https://storage.cloud.google.com/bucket/{quoted}"
    local = GcsTool(clock=CLOCK, endpoint="127.0.0.1:9023").public_url(target)
    assert local == f"http://127.0.0.1:9023/bucket/{quoted}"


SCRIPT = """
import sys
from pathlib import Path
from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import StorageError
from pilot_core.storage.gcs import GcsTool
if sys.argv[1] == "missing":
    sys.modules["google.cloud.storage"] = None
time = Budget(SystemClock(), 20, "upload")
tool = GcsTool(clock=SystemClock())
assert "google.cloud" not in sys.modules, "the SDK is loaded too early"
try:
    print(tool.put(Path(sys.argv[2]), "gs://bucket/x/y", budget=time).public_url)
except StorageError as err:
    print(int(err.code), err.diag)
"""


def run(tmp_path: Path, case: str, **environment: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, str(script), case, str(make(tmp_path))],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout


def test_the_emulator_variable_is_honoured(tmp_path: Path, server: GcsServer) -> None:
    said = run(tmp_path, "plain", STORAGE_EMULATOR_HOST=server.url)
    assert said == f"{server.url}/bucket/x/y\n"
    assert "x/y" in server.objects


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    said = run(tmp_path, "missing")
    assert said.startswith(str(int(ErrorCode.MIDDLEWAREIMPORTFAILURE)))
    assert "copytool gs needs the package google-cloud-storage" in said


@pytest.mark.parametrize("content", [None, "", "{", json.dumps({"type": "service_account"})])
def test_unusable_credentials_are_said(tmp_path: Path, content: str | None) -> None:
    key = tmp_path / "key.json"
    if content is not None:
        key.write_text(content)
    said = run(tmp_path, "plain", GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert said.startswith(f"{int(ErrorCode.MISSINGCREDENTIALS)} no usable Google credentials")
    assert str(key) in said
