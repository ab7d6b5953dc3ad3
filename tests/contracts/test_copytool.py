"""What every copy tool promises: on the fake, a folder, emulators and real
servers.
"""

import functools
import os
import random
import resource
import signal
import ssl
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import OutputFile
from pilot_core.model.queue import Protocol, Queue, Storage
from pilot_core.storage.contract import CopyTool, encodes
from pilot_core.storage.destination import LOG_ACTIVITIES, destination
from pilot_core.storage.gcs import GcsTool
from pilot_core.storage.gfal import GfalTool
from pilot_core.storage.https import HttpsTool
from pilot_core.storage.local import LocalTool
from pilot_core.storage.logs import LogUploader
from pilot_core.storage.lsm import LsmTool
from pilot_core.storage.pack import write_gzip
from pilot_core.storage.rucio import RucioTool
from pilot_core.storage.s3 import S3Tool
from pilot_core.storage.xrdcp import XrdcpTool
from tests.fakes import gcs, killed, lsm, rucio, s3
from tests.fakes.https_store import https_store
from tests.fakes.pki import make_pki
from tests.fakes.storage import PREFIX, FakeTool
from tests.fakes.xrootd import Xrootd, xrootd

CLOCK = SystemClock()

#: A name is for ever there.
WRITE_ONCE = ("rucio", "lsm")


@dataclass(frozen=True)
class Place:
    """A tool and a prefix for one test.

    `settings` make the same tool in a child; `packs`: the storage gives packed
    text to a browser as text; `emulated`: by gcp-storage-emulator.
    """

    tool: CopyTool
    prefix: str
    settings: dict[str, str] = field(default_factory=dict)
    trust: ssl.SSLContext | None = None
    packs: bool = False
    emulated: bool = False


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gcs.gcs_emulator(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@pytest.fixture(scope="module")
def testbench() -> str:
    url = os.environ.get("STORAGE_TESTBENCH", "").rstrip("/")
    if not url:
        pytest.skip("STORAGE_TESTBENCH names no googleapis/storage-testbench")
    gcs.make_bucket(url)
    return url


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    with s3.moto(folder) as url, s3.credentials(folder):
        yield url


@pytest.fixture(scope="module")
def xrd() -> Iterator[Xrootd]:
    with xrootd() as server:
        yield server


@pytest.fixture(scope="module")
def dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    pki = make_pki(tmp_path_factory.mktemp("pki"))
    with https_store(pki.tls.cert, pki.tls.key) as store:
        yield store.url, pki.ca


@pytest.fixture(scope="module")
def rse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rucio.RucioServer]:
    with rucio.rucio_server(tmp_path_factory.mktemp("rucio")) as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with lsm.lsm(tmp_path_factory.mktemp("lsm")) as store:
        yield store


@pytest.fixture(
    params=[
        "fake",
        "local",
        pytest.param("gs", marks=pytest.mark.gcs),
        pytest.param("s3", marks=pytest.mark.s3),
        "testbench",
        "https",
        pytest.param("xrdcp", marks=pytest.mark.xrootd),
        pytest.param("gfal", marks=pytest.mark.gfal),
        pytest.param("rucio", marks=pytest.mark.rucio),
        "lsm",
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "fake":
        return Place(FakeTool(), f"{PREFIX}{tmp_path.name}/")
    if request.param == "local":
        return Place(LocalTool(clock=CLOCK), f"file://{tmp_path}/storage/")
    if request.param == "gfal":
        return Place(GfalTool(clock=CLOCK), f"file://{tmp_path}/storage/")
    if request.param == "rucio":
        request.getfixturevalue("rse")
        # Names are unique in a scope, not in a folder.
        return Place(RucioTool(clock=CLOCK), f"rucio://{rucio.RSE}/{rucio.SCOPE}.{tmp_path.name}/")
    if request.param == "lsm":
        request.getfixturevalue("site")
        return Place(LsmTool(clock=CLOCK), f"{lsm.URL}/logs/{tmp_path.name}/")
    if request.param == "https":
        store, ca = request.getfixturevalue("dav")
        prefix = f"{store.replace('https', 'davs')}/logs/{tmp_path.name}/"
        trust = ssl.create_default_context(cafile=ca)
        return Place(HttpsTool(clock=CLOCK, ca=ca), prefix, {"ca": str(ca)}, trust)
    if request.param == "xrdcp":
        server = request.getfixturevalue("xrd")
        return Place(XrdcpTool(clock=CLOCK), f"{server.url}//logs/{tmp_path.name}/")
    if request.param == "s3":
        settings = {"profile": s3.PROFILE}
        prefix = f"{request.getfixturevalue('moto')}/{s3.BUCKET}/logs/{tmp_path.name}/"
        return Place(S3Tool(clock=CLOCK, **settings), prefix, settings, packs=True)
    settings = {"endpoint": request.getfixturevalue("emulator" if request.param == "gs" else "testbench")}
    prefix = f"gs://{gcs.BUCKET}/logs/{tmp_path.name}/"
    # gcp-storage-emulator loses the encoding.
    emulated = request.param == "gs"
    return Place(GcsTool(clock=CLOCK, **settings), prefix, settings, packs=not emulated, emulated=emulated)


def budget(seconds: float = 30.0) -> Budget:
    return Budget(CLOCK, seconds, "test")


def make(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("size", [0, 1, 70_000, 9 * 1024 * 1024 + 17])
def test_put_and_get_give_the_same_bytes(place: Place, tmp_path: Path, size: int) -> None:
    source = make(tmp_path / "a.bin", size)
    stored = place.tool.put(source, f"{place.prefix}a.bin", budget=budget())
    assert stored.size == size
    assert stored.adler32 == f"{zlib.adler32(source.read_bytes()):08x}"
    back = place.tool.get(f"{place.prefix}a.bin", tmp_path / "back.bin", budget=budget())
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    assert (back.size, back.adler32) == (stored.size, stored.adler32)


@pytest.mark.parametrize(
    "name", ["a b?c#d%25", "\N{SNOWMAN}'\"$(id)", "-" + "n" * 254], ids=["url", "shell", "long"]
)
def test_an_odd_name_is_a_name(place: Place, tmp_path: Path, name: str) -> None:
    if place.tool.name in WRITE_ONCE:
        return  # a catalogue has a grammar of its own for names
    if place.emulated and ("%" in name or "?" in name):
        return  # gcp-storage-emulator unquotes names twice
    source = make(tmp_path / name, 1000)
    stored = place.tool.put(source, f"{place.prefix}{name}", budget=budget())
    assert stored.url.endswith(name)
    place.tool.get(f"{place.prefix}{name}", tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_second_put_of_the_same_file_is_harmless(place: Place, tmp_path: Path) -> None:
    source = make(tmp_path / "a.bin", 70_000)
    first, second = (place.tool.put(source, f"{place.prefix}a.bin", budget=budget()) for _ in range(2))
    assert first == second


def test_where_names_are_for_ever_other_bytes_are_refused(place: Place, tmp_path: Path) -> None:
    if place.tool.name not in WRITE_ONCE:
        return
    source, target = tmp_path / "a.bin", f"{place.prefix}a.bin"
    source.write_bytes(b"first")
    place.tool.put(source, target, budget=budget())
    source.write_bytes(b"second")
    with pytest.raises(StorageError) as caught:
        place.tool.put(source, target, budget=budget())
    assert caught.value.code is ErrorCode.FILEEXISTS
    place.tool.get(target, tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == b"first"


def test_a_second_put_replaces_the_first(place: Place, tmp_path: Path) -> None:
    if place.tool.name in WRITE_ONCE:
        return
    source = tmp_path / "pilotlog.txt"
    for text in ("start\n", "start\nend\n", "start\nend\n"):
        source.write_text(text)
        place.tool.put(source, f"{place.prefix}pilotlog.txt", budget=budget(), content_type="text/plain")
    place.tool.get(f"{place.prefix}pilotlog.txt", tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_text() == "start\nend\n"


def test_public_url_is_known_before_and_right_after(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "payload one+two%.stdout"
    source.write_text("héllo\n")
    target = f"{place.prefix}{source.name}"
    expected = place.tool.public_url(target)
    stored = place.tool.put(source, target, budget=budget(), content_type="text/plain; charset=utf-8")
    assert stored.public_url == expected
    if place.tool.name == "fake" or not expected:
        return
    with urllib.request.urlopen(expected, timeout=10, context=place.trust) as answer:
        assert answer.read() == source.read_bytes()
        assert answer.headers.get_content_type() == "text/plain" or place.tool.name == "local"


def test_a_packed_text_is_the_text_to_a_browser(place: Place, tmp_path: Path) -> None:
    if not place.packs:
        return
    assert encodes(place.tool)
    if "emulator" in place.settings:
        return
    text = b"2026-01-01 INFO a line of a log\n" * 500_000
    (tmp_path / "text").write_bytes(text)
    source = write_gzip(tmp_path / "text", tmp_path / "payload.stderr", budget=budget())
    stored = place.tool.put(
        source,
        f"{place.prefix}payload.stderr",
        budget=budget(),
        content_type="text/plain; charset=utf-8",
        encoding="gzip",
    )
    packed = source.read_bytes()
    assert (stored.size, stored.adler32) == (len(packed), f"{zlib.adler32(packed):08x}")
    answer = requests.get(stored.public_url, headers={"Accept-Encoding": "gzip"}, timeout=20)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.content == text


def test_a_missing_source_is_said(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist") as caught:
        place.tool.put(tmp_path / "none", f"{place.prefix}none", budget=budget())
    assert caught.value.code is ErrorCode.MISSINGOUTPUTFILE


def test_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    make(tmp_path / "secret", 10)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError):
        place.tool.put(tmp_path / "link", f"{place.prefix}link", budget=budget())


def test_an_object_that_is_not_there_is_a_missing_input(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        place.tool.get(f"{place.prefix}nothing", tmp_path / "back", budget=budget())
    assert caught.value.code is ErrorCode.MISSINGINPUTFILE
    assert list(tmp_path.iterdir()) == []


def test_a_spent_budget_is_a_timeout(place: Place, tmp_path: Path) -> None:
    source = make(tmp_path / "a", 100)
    with pytest.raises(StorageError) as caught:
        place.tool.put(source, f"{place.prefix}a", budget=budget(0.0))
    assert caught.value.code is ErrorCode.STAGEOUTTIMEOUT


def test_progress_ends_at_the_whole(place: Place, tmp_path: Path) -> None:
    source = make(tmp_path / "a", 600_000)
    seen: list[tuple[int, int]] = []
    place.tool.put(
        source, f"{place.prefix}a", budget=budget(), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (600_000, 600_000)


def test_many_threads_may_use_one_tool(place: Place, tmp_path: Path) -> None:
    sources = [make(tmp_path / f"f{n}", 50_000 + n) for n in range(8)]
    errors: list[StorageError] = []

    def put(path: Path) -> None:
        try:
            place.tool.put(path, f"{place.prefix}{path.name}", budget=budget())
        except StorageError as err:
            errors.append(err)

    threads = [threading.Thread(target=put, args=(path,)) for path in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    for path in sources:
        place.tool.get(f"{place.prefix}{path.name}", tmp_path / "back", budget=budget())
        assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_full_disk_is_said(place: Place, tmp_path: Path) -> None:
    source = make(tmp_path / "a", 3 * 1024 * 1024)
    place.tool.put(source, f"{place.prefix}a", budget=budget())
    if place.tool.name == "fake":
        return
    # The kernel refuses to let any file of this process grow beyond a MiB.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, limit[1]))
    try:
        with pytest.raises(StorageError, match="File too large") as caught:
            place.tool.get(f"{place.prefix}a", tmp_path / "back", budget=budget())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.code is ErrorCode.NOLOCALSPACE
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a"]


@pytest.mark.parametrize("deadly", ["somewhere", "all sent"])
def test_a_killed_upload_shows_the_old_file_or_the_new(place: Place, tmp_path: Path, deadly: str) -> None:
    if place.tool.name in ("fake", "gfal", *WRITE_ONCE):
        return  # has no process of its own, or tells its progress at the end
    target = f"{place.prefix}payload.stderr"
    old, new = make(tmp_path / "old", 1000), make(tmp_path / "new", 9 * 1024 * 1024 + 17)
    place.tool.put(old, target, budget=budget())
    size = new.stat().st_size
    point = size if deadly == "all sent" else random.randrange(1, size)
    done = killed.upload(place.tool.name, place.settings, new, target, point)
    assert done.returncode == -signal.SIGKILL, done.stderr
    place.tool.get(target, tmp_path / "back", budget=budget())
    found = (tmp_path / "back").read_bytes()
    assert found in (old.read_bytes(), new.read_bytes()), f"{len(found)} bytes, killed at {point}"
    # The next life repeats it.
    place.tool.put(new, target, budget=budget())
    place.tool.get(target, tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == new.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_thirty_killed_uploads_leave_no_truncated_file(place: Place, tmp_path: Path) -> None:
    if place.tool.name in ("fake", "gfal", *WRITE_ONCE):
        return
    target = f"{place.prefix}payload.stderr"
    files = [make(tmp_path / f"life{n}", 9 * 1024 * 1024 + n) for n in range(3)]
    whole = [path.read_bytes() for path in files]
    upload = functools.partial(killed.upload_for, place.tool.name, place.settings)
    longest = upload(files[0], target, 60.0)
    ended = 0
    for n in range(30):
        moment = random.uniform(0.0, longest)
        ended += upload(files[n % 3], target, moment) < moment
        place.tool.get(target, tmp_path / "back", budget=budget())
        assert (tmp_path / "back").read_bytes() in whole, f"killed after {moment:.3f} of {longest:.3f} s"
    assert ended < 30
    # The next life repeats it.
    place.tool.put(files[1], target, budget=budget())
    place.tool.get(target, tmp_path / "back", budget=budget())
    assert (tmp_path / "back").read_bytes() == whole[1]


@pytest.mark.gcs
def test_the_logs_of_a_rubin_job_are_readable_where_the_monitor_looks(emulator: str, tmp_path: Path) -> None:
    queue = Queue(
        name="DOMA_LSST_GOOGLE_TEST",
        resource="DOMA_LSST_GOOGLE_TEST",
        copytools={"write_lan": ("gs",)},
        storages={"write_lan": ("GKE-LSST_LOGS",)},
    )
    bucket = Protocol(f"gs://{gcs.BUCKET}", "/logs")
    where = destination(
        queue,
        Storage("GKE-LSST_LOGS", protocols={"write_lan": (bucket,)}),
        activities=LOG_ACTIVITIES,
        file=OutputFile("log.tgz", dataset="PandaJob_#{pandaid}/"),
        panda_id=61234567,
        available=("gs",),
        own_folder=True,
    )
    texts = {"pilotlog.txt": "begin\n", "payload.stderr": "Traceback\n", "payload-log.json": "{}\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    uploader = LogUploader(
        GcsTool(clock=CLOCK, endpoint=emulator),
        where.prefix,
        clock=CLOCK,
        roots=[tmp_path],
        redactor=Redactor(),
    )
    result = uploader.upload([tmp_path / name for name in texts], budget=budget())
    assert result.failed == {}
    # The pilot's log goes once more at the end of everything, then complete.
    texts["pilotlog.txt"] = "begin\nend\n"
    (tmp_path / "pilotlog.txt").write_text(texts["pilotlog.txt"])
    assert uploader.upload([tmp_path / "pilotlog.txt"], budget=budget()).failed == {}
    folder = f"{emulator}/{gcs.BUCKET}/logs/DOMA_LSST_GOOGLE_TEST/PandaJob_61234567"
    assert uploader.url("pilotlog.txt") == f"{folder}/pilotlog.txt"
    for path, stored in result.stored.items():
        assert stored.public_url == f"{folder}/{path.name}"
        with urllib.request.urlopen(stored.public_url, timeout=10) as answer:
            assert answer.read().decode() == texts[path.name]
            assert answer.headers.get_content_type() in ("text/plain", "application/json")
