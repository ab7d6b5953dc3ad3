"""The copytool rucio: what Rucio's refusals mean, and what it is not asked."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.rucio import RucioTool
from tests.fakes.absent import put_without
from tests.fakes.rucio import RSE, SCOPE, RucioServer, rucio_server

pytestmark = pytest.mark.rucio

CLOCK = SystemClock()
URL = f"rucio://{RSE}/{SCOPE}/calexp.fits"
TOOL = RucioTool(clock=CLOCK, policy=RetryPolicy(attempts=1))


def budget(seconds: float = 30.0) -> Budget:
    return Budget(CLOCK, seconds, "transfer")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RucioServer]:
    with rucio_server(tmp_path) as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "calexp.fits"
    path.write_bytes(b"content")
    return path


def test_nothing_is_registered_and_the_trace_tells_of_it(server: RucioServer, source: Path) -> None:
    stored = TOOL.put(source, URL, budget=budget())
    path = server.path(SCOPE, "calexp.fits")
    assert stored.url == f"file://localhost{path}"
    assert path.read_bytes() == b"content"
    assert [line for line in server.requests if line.startswith("POST")] == ["POST /traces/"]
    assert [(trace["scope"], trace["clientState"]) for trace in server.traces] == [(SCOPE, "DONE")]


@pytest.mark.parametrize(
    ("path", "refusal", "code"),
    [
        ("/auth/", (401, "CannotAuthenticate"), ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
        ("/rses/", (403, "AccessDenied"), ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
        ("/rses/", (404, "RSENotFound"), ErrorCode.STAGEOUTFAILED),
        ("/rses/", (500, "DatabaseException"), ErrorCode.STAGEOUTFAILED),
    ],
)
def test_a_refusal_has_its_code(
    server: RucioServer, source: Path, path: str, refusal: tuple[int, str], code: ErrorCode
) -> None:
    server.refuse[path] = refusal
    with pytest.raises(StorageError) as caught:
        TOOL.put(source, URL, budget=budget())
    assert caught.value.code is code
    assert refusal[1] in caught.value.diag


def test_other_bytes_than_the_catalogue_has_are_not_kept(
    server: RucioServer, source: Path, tmp_path: Path
) -> None:
    TOOL.put(source, URL, budget=budget())
    server.checksum = "00000001"
    with pytest.raises(StorageError) as caught:
        TOOL.get(URL, tmp_path / "back", budget=budget())
    assert caught.value.code is ErrorCode.GETADMISMATCH
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calexp.fits", "rse", "rucio.cfg", "token"]


def test_any_rse_will_do_where_none_is_named(server: RucioServer, source: Path, tmp_path: Path) -> None:
    TOOL.put(source, URL, budget=budget())
    TOOL.get(f"rucio:///{SCOPE}/calexp.fits", tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == b"content"


def test_a_server_that_hangs_costs_the_budget(server: RucioServer, source: Path) -> None:
    server.hang = True
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        TOOL.put(source, URL, budget=budget(1.5))
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    assert time.monotonic() - started < 4.0


def test_no_configuration_is_no_credentials(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"MissingClientParameter|ConfigNotFound") as caught:
        TOOL.put(source, URL, budget=budget())
    assert caught.value.code is ErrorCode.MISSINGCREDENTIALS


@pytest.mark.parametrize(
    "url", ["rucio://RSE/scope", "rucio://RSE/scope/../x", "gs://b/x", "rucio://RSE/s:c/x"]
)
def test_what_is_no_url(source: Path, url: str) -> None:
    with pytest.raises(StorageError) as caught:
        TOOL.put(source, url, budget=budget())
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    said = put_without("rucio", RucioTool, "rucio://RSE/scope/x", folder=tmp_path)
    assert said.startswith(
        f"{int(ErrorCode.MIDDLEWAREIMPORTFAILURE)} copytool rucio needs the package rucio-clients"
    )
