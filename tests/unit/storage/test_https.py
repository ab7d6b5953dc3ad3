"""The copytool https when the server or the way to it fails."""

import contextlib
import os
import time
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.contract import Stored
from pilot_core.storage.https import HttpsTool
from tests.fakes.https_store import Fault, HttpsStore, https_store
from tests.fakes.pki import make_pki

CLOCK = SystemClock()
FAST = RetryPolicy(attempts=4, first_s=0.01, cap_s=0.02)
SIZE = 2_500_001
NAME = "/logs/payload.stderr"


@pytest.fixture
def store() -> Iterator[HttpsStore]:
    with https_store() as state:
        state.folders.add("/logs/")
        yield state


def put(store: HttpsStore, source: Path, *, seconds: float = 20.0, **options: object) -> Stored:
    tool = HttpsTool(clock=CLOCK, policy=FAST, **options)  # type: ignore[arg-type]
    return tool.put(source, f"{store.url}{NAME}", budget=Budget(CLOCK, seconds, "upload"))


def get(store: HttpsStore, target: Path, *, seconds: float = 20.0) -> Stored:
    tool = HttpsTool(clock=CLOCK, policy=FAST)
    return tool.get(f"{store.url}{NAME}", target, budget=Budget(CLOCK, seconds, "download"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "payload.stderr"
    path.write_bytes(os.urandom(SIZE))
    return path


PASSING = [
    Fault("status", status=503),
    Fault("status", status=429, headers={"Retry-After": "0"}),
    Fault("reset"),
    Fault("half"),
    Fault("flip"),
    Fault("lose"),
    Fault("lose", "MOVE"),
    Fault("reset", "HEAD"),
    Fault("status", "MOVE", status=500),
    Fault("status", status=302, headers={"Location": "http://[bad"}),
    Fault("status", "HEAD", status=200, headers={"Content-Length": "12, twelve"}),
    Fault("status", "HEAD", status=200, headers={"Content-Length": "9" * 5000}),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f"{f.kind}-{f.method}{f.status or ''}")
@pytest.mark.parametrize("digests", [True, False], ids=["digest", "read back"])
def test_a_passing_failure_is_survived(store: HttpsStore, source: Path, fault: Fault, digests: bool) -> None:
    store.faults, store.digests = [fault], digests
    stored = put(store, source)
    assert store.faults == []
    assert stored.adler32 == f"{zlib.adler32(source.read_bytes()):08x}"
    # The whole file, and nothing beside it.
    assert {name: data for name, (data, _) in store.files.items()} == {NAME: source.read_bytes()}


BROKEN = [
    *(Fault(kind, "GET") for kind in ("reset", "half", "lose")),
    Fault("status", "GET", status=200, headers={"Content-Length": "\xb2"}),
]


@pytest.mark.parametrize("fault", BROKEN, ids=lambda f: f.kind)
def test_a_broken_download_is_repeated(store: HttpsStore, source: Path, tmp_path: Path, fault: Fault) -> None:
    put(store, source)
    store.faults = [fault]
    get(store, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


FINAL = [
    (401, ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
    (403, ErrorCode.STAGEOUTAUTHENTICATIONFAILURE),
    (507, ErrorCode.NOREMOTESPACE),
    (400, ErrorCode.STAGEOUTFAILED),
]


@pytest.mark.parametrize(("status", "code"), FINAL)
def test_a_refusal_is_final_and_said(store: HttpsStore, source: Path, status: int, code: ErrorCode) -> None:
    store.faults = [Fault("status", status=status)]
    with pytest.raises(StorageError, match=f"PUT: HTTP {status} .*told to fail") as caught:
        put(store, source)
    assert caught.value.code is code
    assert [line[:4] for line in store.requests] == ["PUT ", "DELE"]
    assert store.files == {}


def test_a_clock_off_by_an_hour_is_named(store: HttpsStore, source: Path) -> None:
    # A token of which the server thinks that it is not yet, or no more, valid.
    theirs = formatdate(time.time() + 3600, usegmt=True)
    store.faults = [Fault("status", status=401, headers={"Date": theirs})]
    with pytest.raises(StorageError, match=r"; the clock of this node is 3[56]\d\d s slow$"):
        put(store, source)


def test_a_server_without_move_is_said(store: HttpsStore, source: Path) -> None:
    store.moves = False
    with pytest.raises(StorageError, match="knows no MOVE"):
        put(store, source)
    assert store.files == {}


def test_missing_folders_are_made(store: HttpsStore, source: Path) -> None:
    store.folders = {"/"}
    put(store, source)
    assert store.folders == {"/", "/logs/"}
    assert store.files[NAME][0] == source.read_bytes()


def test_the_token_of_the_moment_goes_to_its_own_server_only(store: HttpsStore, source: Path) -> None:
    tokens = ["old"]
    store.token = "new"
    with pytest.raises(StorageError, match="HTTP 401"):
        put(store, source, token=lambda: tokens[-1])
    tokens.append("new")
    put(store, source, token=lambda: tokens[-1])
    with https_store() as pool:
        pool.folders.add("/logs/")
        pool.token = "new"
        # Another host name is another server to a client.
        store.redirect_to = pool.url.replace("127.0.0.1", "localhost")
        with pytest.raises(StorageError, match="HTTP 401"):
            put(store, source, token=lambda: tokens[-1])


def test_a_redirected_upload_arrives_whole(store: HttpsStore, source: Path) -> None:
    with https_store() as pool:
        pool.folders.add("/logs/")
        # Door and pool of a dCache share their files.
        pool.files = store.files
        store.redirect_to = pool.url
        put(store, source)
    assert store.files[NAME][0] == source.read_bytes()


@pytest.mark.parametrize("method", ["PUT", "HEAD", "MOVE"])
def test_a_server_that_hangs_costs_no_more_than_the_budget(
    store: HttpsStore, source: Path, method: str
) -> None:
    store.faults = [Fault("hang", method)] * 20
    started = CLOCK.monotonic()
    with pytest.raises(StorageError) as caught:
        put(store, source, seconds=1.0, stall_s=60.0)
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    assert CLOCK.monotonic() - started < 2.0


@pytest.mark.parametrize("status", [201, 302, 403, 503])
def test_an_answer_without_an_end_is_read_no_further_than_its_first_words(
    store: HttpsStore, source: Path, status: int
) -> None:
    headers = {"Location": f"{store.url}/logs/elsewhere"} if status == 302 else {}
    store.faults = [Fault("flood", status=status, headers=headers)]
    with contextlib.suppress(StorageError):
        put(store, source)
    assert store.faults == []
    assert store.flooded < 50_000_000


@pytest.mark.parametrize("status", [201, 403])
def test_an_answer_that_drips_costs_no_more_than_the_budget(
    store: HttpsStore, source: Path, status: int
) -> None:
    store.faults = [Fault("drip", status=status)]
    started = CLOCK.monotonic()
    with pytest.raises(StorageError) as caught:
        put(store, source, seconds=1.0)
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT
    # Its first words alone would take seven minutes.
    assert CLOCK.monotonic() - started < 60.0


def test_a_certificate_of_a_stranger_is_final(tmp_path: Path, source: Path) -> None:
    pki = make_pki(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_pki(tmp_path / "other")
    with https_store(pki.tls.cert, pki.tls.key) as store:
        with pytest.raises(StorageError, match="certificate verify failed") as caught:
            put(store, source, ca=other.ca)
        assert caught.value.code is ErrorCode.STAGEOUTAUTHENTICATIONFAILURE
        assert store.requests == []


@pytest.mark.parametrize("url", ["https://host", "https://h/a/../b", "root://h//a", "https://u@h/a", "/a"])
def test_what_is_no_file_on_a_server(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        HttpsTool(clock=CLOCK).public_url(url)
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL
