"""Uploading a job's logs: all of them, in time, and nothing that is not the
job's.
"""

import gzip
import os
import resource
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.clean import cleaned, holds, masked
from pilot_core.storage.logs import LogUploader, content_type
from tests.fakes.storage import PREFIX, FakeTool

CLOCK = SystemClock()


def budget(seconds: float = 20.0) -> Budget:
    return Budget(CLOCK, seconds, "log upload")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("pilotlog.txt", "payload.stdout", "payload.stderr"):
        (folder / name).write_text(f"{name}\n" * 3)
    return folder


def uploader(
    tool: FakeTool,
    *roots: Path,
    workers: int = 4,
    cap_bytes: int = 0,
    gzip_bytes: int = 0,
    secrets: Sequence[str] = (),
) -> LogUploader:
    return LogUploader(
        tool,
        PREFIX,
        clock=CLOCK,
        roots=roots,
        redactor=Redactor(secrets),
        workers=workers,
        cap_bytes=cap_bytes,
        gzip_bytes=gzip_bytes,
    )


def test_every_file_is_stored_with_its_type(work: Path) -> None:
    tool = FakeTool()
    files = sorted(work.iterdir())
    result = uploader(tool, work).upload(files, budget=budget())
    assert list(result.stored) == files
    assert result.failed == {}
    assert result.total_bytes == sum(path.stat().st_size for path in files)
    assert tool.objects == {f"{PREFIX}{path.name}": path.read_bytes() for path in files}
    assert set(tool.types.values()) == {"text/plain; charset=utf-8"}


def test_nothing_to_do_is_done_at_once(work: Path) -> None:
    result = uploader(FakeTool(), work).upload([], budget=budget())
    assert (result.stored, result.failed) == ({}, {})


def test_the_most_useful_goes_first(work: Path) -> None:
    tool = FakeTool()
    files = [work / name for name in ("payload.stdout", "payload.stderr", "pilotlog.txt")]
    uploader(tool, work, workers=1).upload(files, budget=budget(), first=[files[2]])
    assert [url.removeprefix(PREFIX) for url in tool.order] == [
        "pilotlog.txt",
        "payload.stdout",
        "payload.stderr",
    ]


def test_several_at_a_time(work: Path) -> None:
    tool = FakeTool()
    together = threading.Barrier(3)
    tool.on_put = lambda url: together.wait(10) and None
    assert len(uploader(tool, work, workers=3).upload(list(work.iterdir()), budget=budget()).stored) == 3


@pytest.mark.parametrize(
    "error",
    [StorageError("told to"), OSError("disk"), RuntimeError("a defect")],
    ids=lambda e: type(e).__name__,
)
def test_one_failure_stops_nobody(work: Path, error: Exception) -> None:
    tool = FakeTool()

    def fail(url: str) -> None:
        if url.endswith("payload.stdout"):
            raise error

    tool.on_put = fail
    result = uploader(tool, work, workers=1).upload(sorted(work.iterdir()), budget=budget())
    assert [path.name for path in result.stored] == ["payload.stderr", "pilotlog.txt"]
    assert str(error) in result.failed[work / "payload.stdout"].diag


def test_a_tool_that_hangs_costs_no_more_than_the_budget(work: Path) -> None:
    tool = FakeTool()
    tool.hold = {f"{PREFIX}payload.stdout"}
    started = CLOCK.monotonic()
    result = uploader(tool, work, workers=2).upload(sorted(work.iterdir()), budget=budget(0.3))
    assert CLOCK.monotonic() - started < 1.0
    tool.release.set()
    assert sorted(path.name for path in result.stored) == ["payload.stderr", "pilotlog.txt"]
    late = result.failed[work / "payload.stdout"]
    assert late.code is ErrorCode.STAGEOUTTIMEOUT
    assert late.diag.endswith("log upload: given up after 0 s")


def test_a_budget_that_is_shortened_ends_it(work: Path) -> None:
    tool = FakeTool()
    tool.hold = {f"{PREFIX}payload.stdout"}
    time = budget(60.0)
    tool.on_put = lambda url: time.shorten(0.2) if url.endswith("stdout") else None
    started = CLOCK.monotonic()
    result = uploader(tool, work).upload(list(work.iterdir()), budget=time)
    assert CLOCK.monotonic() - started < 1.5
    tool.release.set()
    late = result.failed[work / "payload.stdout"].diag
    assert late.endswith("log upload: given up after 0 s of 60 s: the pilot had to hurry")


def test_links_of_a_payload_lead_nowhere_else(work: Path, tmp_path: Path) -> None:
    tool = FakeTool()
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "payload-log.json").write_text("{}\n")
    (tmp_path / "x509up_u0").write_text("SECRET")
    (work / "payload-log.json").symlink_to(shared / "payload-log.json")
    (work / "payload.proxy.txt").symlink_to(tmp_path / "x509up_u0")
    (work / "payload.loop.txt").symlink_to(work / "payload.loop.txt")
    (work / "payload.gone.txt").symlink_to(work / "nothing")
    (work / "payload.dev.txt").symlink_to("/dev/zero")
    (work / "payload.up.txt").symlink_to(f"../{work.name}/../x509up_u0")
    (work / "payload.dir.txt").mkdir()
    result = uploader(tool, work, shared).upload(sorted(work.glob("payload*")), budget=budget())
    stored = {path.name for path in result.stored}
    assert stored == {"payload-log.json", "payload.stdout", "payload.stderr"}
    assert tool.types[f"{PREFIX}payload-log.json"] == "application/json; charset=utf-8"
    assert len(result.failed) == 6
    assert b"SECRET" not in b"".join(tool.objects.values())


def test_a_log_that_grows_is_taken_at_its_size(work: Path) -> None:
    tool = FakeTool()
    log = work / "pilotlog.txt"
    before = log.read_bytes()

    def grow(url: str) -> None:
        with log.open("a") as out:
            out.write("more\n")

    tool.on_put = grow
    result = uploader(tool, work, workers=1).upload([log], budget=budget())
    assert result.stored[log].size == len(before) + len("more\n")
    assert uploader(tool, work).upload([log], budget=budget()).stored[log].size > result.stored[log].size


def test_two_files_of_one_name(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "pilotlog.txt").write_text("other")
    result = uploader(FakeTool(), tmp_path).upload(
        [work / "pilotlog.txt", other / "pilotlog.txt"], budget=budget()
    )
    assert list(result.stored) == [work / "pilotlog.txt"]
    assert result.failed[other / "pilotlog.txt"].code is ErrorCode.FILEEXISTS


def test_a_huge_file_keeps_head_and_tail(work: Path) -> None:
    tool = FakeTool()
    huge = work / "payload.stderr"
    huge.write_bytes(b"first\n" + b"x" * 5_000_000 + b"\nlast\n")
    result = uploader(tool, work, cap_bytes=100_000).upload([huge], budget=budget())
    data = tool.objects[f"{PREFIX}payload.stderr"]
    assert data.startswith(b"first\n")
    assert data.endswith(b"\nlast\n")
    assert b"[... 4900012 of 5000012 bytes left out by the pilot ...]" in data
    assert 100_000 < len(data) < 100_200
    assert result.stored[huge].size == len(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pilotlog.txt", "text/plain"),
        ("payload.STDERR", "text/plain"),
        ("memory_monitor_summary.json", "application/json"),
        ("log.tgz", "application/gzip"),
        ("core", "application/octet-stream"),
    ],
)
def test_content_types(name: str, expected: str) -> None:
    assert content_type(name).split(";")[0] == expected


def test_large_texts_are_packed_and_nothing_else(work: Path) -> None:
    tool = FakeTool()
    text = b"2026-01-01 INFO the same line\n" * 5000
    (work / "payload.stderr").write_bytes(text)
    (work / "core.bin").write_bytes(text)
    result = uploader(tool, work, gzip_bytes=100_000).upload(sorted(work.iterdir()), budget=budget())
    stored, url = result.stored[work / "payload.stderr"], f"{PREFIX}payload.stderr"
    assert gzip.decompress(tool.objects[url]) == text
    # What is told is what is stored.
    assert stored.size == len(tool.objects[url]) < 5000
    assert stored.adler32 == f"{zlib.adler32(tool.objects[url]):08x}"
    assert tool.types[url] == "text/plain; charset=utf-8"
    assert {url.removeprefix(PREFIX): how for url, how in tool.encodings.items()} == {
        "core.bin": "",
        "payload.stderr": "gzip",
        "payload.stdout": "",
        "pilotlog.txt": "",
    }


def test_where_no_browser_could_be_told_nothing_is_packed(work: Path) -> None:
    tool = FakeTool()
    tool.encodes = False
    uploader(tool, work, gzip_bytes=1).upload(sorted(work.iterdir()), budget=budget())
    assert set(tool.encodings.values()) == {""}


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_no_room_to_pack_it_is_no_reason_not_to_store_it(work: Path) -> None:
    tool = FakeTool()
    (work / "payload.stderr").write_bytes(os.urandom(1_000_000))
    with no_file_larger_than(100_000):
        result = uploader(tool, work, gzip_bytes=500_000).upload([work / "payload.stderr"], budget=budget())
    assert result.failed == {}
    assert tool.objects[f"{PREFIX}payload.stderr"] == (work / "payload.stderr").read_bytes()


SECRET = "S3CRET-of-the-job"


def stored_text(tool: FakeTool, name: str) -> bytes:
    return tool.objects[f"{PREFIX}{name}"]


def test_a_secret_that_a_payload_prints_is_not_stored(work: Path) -> None:
    tool = FakeTool()
    text = f"password={SECRET}\n" * 3
    (work / "payload.stdout").write_text(text)
    (work / "payload.bin").write_bytes(b"\xff\x00" + SECRET.encode() + b"\xfe")
    result = uploader(tool, work, secrets=[SECRET]).upload(sorted(work.iterdir()), budget=budget())
    assert result.failed == {}
    assert stored_text(tool, "payload.stdout") == b"password=***\n" * 3
    assert stored_text(tool, "payload.bin") == b"\xff\x00***\xfe"
    # What is told is what is stored; what holds no secret is not copied.
    told = result.stored[work / "payload.stdout"]
    clean = stored_text(tool, "payload.stdout")
    assert (told.size, told.adler32) == (len(clean), f"{zlib.adler32(clean):08x}")
    assert tool.sources[f"{PREFIX}pilotlog.txt"] == work / "pilotlog.txt"
    # The job's own file stays as it is, and nothing beside it is left.
    assert (work / "payload.stdout").read_text() == text
    assert len(list(work.iterdir())) == 4


def test_a_packed_one_is_masked_before_it_is_packed(work: Path) -> None:
    tool = FakeTool()
    (work / "payload.stdout").write_text(f"{SECRET}\n" * 1000)
    uploader(tool, work, gzip_bytes=100, secrets=[SECRET]).upload([work / "payload.stdout"], budget=budget())
    assert gzip.decompress(stored_text(tool, "payload.stdout")) == b"***\n" * 1000


@pytest.mark.parametrize("shift", range(0, len(SECRET) + 1, 4))
def test_no_half_of_a_secret_stands_at_the_cuts_of_an_excerpt(work: Path, shift: int) -> None:
    tool = FakeTool()
    head, tail = 25_000, 75_000
    text = bytearray(b"." * 300_000)
    for cut in (head, len(text) - tail):
        text[cut - shift : cut - shift + len(SECRET)] = SECRET.encode()
    (work / "payload.stdout").write_bytes(text)
    uploader(tool, work, cap_bytes=head + tail, secrets=[SECRET]).upload(
        [work / "payload.stdout"], budget=budget()
    )
    begin, _, end = stored_text(tool, "payload.stdout").split(b"\n")
    assert set(begin + end) <= set(b".*")
    assert len(begin + end) > head + tail - 2 * len(SECRET)


def test_what_cannot_be_masked_is_not_stored_and_said(work: Path) -> None:
    tool = FakeTool()
    (work / "payload.stdout").write_text(f"{SECRET}\n" + "x" * 200_000)
    files = [work / "payload.stdout", work / "pilotlog.txt"]
    with no_file_larger_than(100_000):
        result = uploader(tool, work, secrets=[SECRET]).upload(files, budget=budget())
    assert set(tool.objects) == {f"{PREFIX}pilotlog.txt"}
    err = result.failed[work / "payload.stdout"]
    assert err.code is ErrorCode.NOLOCALSPACE
    assert err.diag.startswith("payload.stdout holds a secret and is not stored: no copy without it")
    # Later there is room.
    assert uploader(tool, work, secrets=[SECRET]).upload(files, budget=budget()).failed == {}


def test_where_nothing_can_be_written_what_holds_no_secret_is_stored(work: Path, tmp_path: Path) -> None:
    """A full disk is the day on which logs matter."""
    tool = FakeTool()
    (work / "payload.stdout").write_text(SECRET)
    files = [work / "payload.stdout", work / "pilotlog.txt"]
    # The first root is where a copy would be made.
    result = uploader(tool, tmp_path / "none", work, secrets=[SECRET]).upload(files, budget=budget())
    assert set(tool.objects) == {f"{PREFIX}pilotlog.txt"}
    assert result.failed[work / "payload.stdout"].code is ErrorCode.FILEHANDLINGFAILURE


def test_who_has_no_time_to_look_stores_nothing(work: Path) -> None:
    with pytest.raises(BudgetSpent), cleaned(work / "pilotlog.txt", work, [b"x" * 9], budget=budget(0.0)):
        pass


def test_a_link_to_a_key_and_a_name_with_a_secret_are_no_logs(work: Path) -> None:
    tool = FakeTool()
    (work / "user.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (work / "panda_secrets.json").write_text("{}")
    (work / "payload.txt").symlink_to("user.pem")
    (work / "payload.all.txt").symlink_to("panda_secrets.json")
    (work / f"payload.{SECRET}").touch()
    files = sorted(work.glob("payload.*"))
    result = uploader(tool, work, secrets=[SECRET]).upload(files, budget=budget())
    assert {path.name for path in result.stored} == {"payload.stdout", "payload.stderr"}


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_what_is_masked_piece_by_piece_is_masked_as_a_whole(block: int) -> None:
    """Values that overlap each other, themselves and the ends of blocks."""
    values = sorted([b"abcdef", b"defghijk", b"aaaaaa", b"secret"], key=len, reverse=True)
    for text, clean in [
        (b"", b""),
        (b"nothing of it", b"nothing of it"),
        (b"abcdefghijk.", b"***."),
        (b".aaaaaaaaaaaaa.", b".***."),
        (b"secretsecret", b"******"),
        (b"abcdefg secre tsecret", b"***g secre t***"),
    ]:
        blocks = [text[at : at + block] for at in range(0, len(text), block)]
        assert holds(blocks, values) == (text != clean)
        assert b"".join(masked(blocks, values)) == clean
