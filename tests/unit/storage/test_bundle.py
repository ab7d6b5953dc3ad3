"""The bundle of a job directory."""

import os
import tarfile
import zlib
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.files import remove_tree
from pilot_core.base.redact import Redactor
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.bundle import Bundle, make_bundle

CLOCK = SystemClock()
TOP = "tarball_PandaJob_1_Q"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    (folder / "pilotlog.txt").write_text("log\n" * 100)
    (folder / "payload.stdout").write_text("out\n")
    (folder / "a.dat").write_bytes(b"a" * 1000)
    (folder / "sub" / "b.dat").write_bytes(b"b" * 1000)
    return folder


def pack(work: Path, *, name: str = "log.tgz", seconds: float = 20.0, **kwargs: object) -> Bundle:
    time = Budget(CLOCK, seconds, "bundle")
    kwargs.setdefault("redactor", Redactor())
    return make_bundle(work, work / name, top=TOP, budget=time, **kwargs)  # type: ignore[arg-type]


def content(bundle: Bundle, name: str) -> bytes:
    with tarfile.open(bundle.path) as tar:
        member = tar.extractfile(f"{TOP}/{name}")
        assert member is not None
        return member.read()


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return [member.name.removeprefix(f"{TOP}/") for member in tar]


def test_everything_is_in_it_logs_first(work: Path) -> None:
    bundle = pack(work)
    raw = (work / "log.tgz").read_bytes()
    assert names(bundle.path) == ["pilotlog.txt", "payload.stdout", "a.dat", "sub/b.dat"]
    assert (bundle.size, bundle.adler32) == (len(raw), f"{zlib.adler32(raw):08x}")
    with tarfile.open(bundle.path) as tar:
        member = tar.extractfile(f"{TOP}/sub/b.dat")
        assert member is not None
        assert member.read() == b"b" * 1000


def test_the_same_content_gives_the_same_bytes(work: Path) -> None:
    first = pack(work)
    content = first.path.read_bytes()
    first.path.unlink()
    assert pack(work).path.read_bytes() == content


def test_no_secrets_and_no_links_out(work: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "payload-log.json").write_text("{}")
    (tmp_path / "outside").write_text("SECRET")
    for name in ("panda_secrets.json", "x509up_u0", "my.Proxy", "key.pem", "sub/token.key"):
        (work / name).write_text("SECRET")
    (work / "secrets").mkdir()
    (work / "secrets" / "inner").write_text("SECRET")
    (work / "payload-log.json").symlink_to(shared / "payload-log.json")
    (work / "payload.bad").symlink_to(tmp_path / "outside")
    (work / "all").symlink_to("/etc")
    os.mkfifo(work / "pipe")
    bundle = pack(work, roots=[shared])
    assert set(bundle.members) == {"pilotlog.txt", "payload.stdout", "payload-log.json", "a.dat", "sub/b.dat"}
    with tarfile.open(bundle.path) as tar:
        assert all(member.isreg() for member in tar)
        listed = tar.extractfile(f"{TOP}/LEFT_OUT.txt")
        assert listed is not None
        text = listed.read().decode()
    assert {line.split(":")[0] for line in text.splitlines()} == {
        *("panda_secrets.json", "x509up_u0", "my.Proxy", "key.pem", "sub/token.key", "secrets"),
        *("payload.bad", "all", "pipe"),
    }


def test_what_has_no_room_is_left_out_and_listed(work: Path) -> None:
    bundle = pack(work, cap_bytes=1600)
    assert bundle.members == ("pilotlog.txt", "payload.stdout", "a.dat")
    assert bundle.left_out == (("sub/b.dat", "1000 bytes, no room"),)


def test_odd_names(work: Path) -> None:
    odd = os.fsdecode(b"odd\xff\nname")
    (work / odd).write_text("x")
    (work / f"{'n' * 250}.txt").write_text("y")
    bundle = pack(work)
    assert len(names(bundle.path)) == 6
    assert all("\n" not in name for name in bundle.members)


def test_no_time_and_no_folder(work: Path) -> None:
    with pytest.raises(StorageError) as caught:
        pack(work, seconds=0.0)
    assert caught.value.code is ErrorCode.LOGCREATIONTIMEOUT
    with pytest.raises(StorageError) as caught:
        pack(work, name="none/log.tgz")
    assert caught.value.code is ErrorCode.LOGFILECREATIONFAILURE
    assert sorted(path.name for path in work.iterdir()) == ["a.dat", "payload.stdout", "pilotlog.txt", "sub"]


def test_of_very_many_files_the_logs_are_in_it(work: Path) -> None:
    (work / "many").mkdir()
    for number in range(200):
        (work / "many" / f"f{number}").touch()
        (work / f"payload{number}.d").mkdir()
    bundle = pack(work, most_files=300)
    assert names(bundle.path)[:3] == ["pilotlog.txt", "payload.stdout", "a.dat"]
    assert len(names(bundle.path)) < 300
    assert bundle.left_out == (("...", "more than 300 files and folders"),)


def test_a_folder_that_cannot_be_entered_costs_itself_alone(work: Path) -> None:
    fd = os.open(work / "sub", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    bundle = pack(work)
    assert "sub/b.dat" in bundle.members
    ((name, why),) = bundle.left_out
    assert (name.count("d" * 250) > 10, why) == (True, "File name too long")
    remove_tree(work)


def test_a_known_secret_is_masked_in_any_file(work: Path) -> None:
    secret = "S3CRET-of-the-job"
    large = b"x" * (3 * 1024 * 1024 - 5) + secret.encode() + b"y" * 1000
    (work / "payload.stdout").write_text(f"password={secret}\n")
    (work / "sub" / "large.dat").write_bytes(large)
    (work / f"a{secret}").write_text("-")
    bundle = pack(work, redactor=Redactor([secret]))
    assert content(bundle, "payload.stdout") == b"password=***\n"
    assert content(bundle, "sub/large.dat") == large.replace(secret.encode(), b"***")
    assert content(bundle, "sub/b.dat") == b"b" * 1000
    assert content(bundle, "LEFT_OUT.txt") == b"a***: may hold a secret\n"
    raw = bundle.path.read_bytes()
    assert (bundle.size, bundle.adler32) == (len(raw), f"{zlib.adler32(raw):08x}")
    assert (work / "sub" / "large.dat").read_bytes() == large


def test_a_link_is_judged_by_what_it_leads_to(work: Path) -> None:
    (work / "user.pem").write_text("KEY")
    (work / "secrets" / "deep").mkdir(parents=True)
    (work / "secrets" / "deep" / "inner").write_text("KEY")
    (work / "notes.txt").symlink_to("user.pem")
    (work / "more.txt").symlink_to("secrets/deep/inner")
    (work / "fine.txt").symlink_to("a.dat")
    bundle = pack(work)
    assert set(bundle.members) == {"pilotlog.txt", "payload.stdout", "a.dat", "fine.txt", "sub/b.dat"}
    assert {name for name, why in bundle.left_out if why == "may hold a secret"} == {
        *("user.pem", "secrets", "notes.txt", "more.txt")
    }
