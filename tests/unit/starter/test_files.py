"""Credentials, health file and packed log: files of the starter."""

import gzip
import os
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.procs import start_ticks
from pilot_core.base.redact import Redactor
from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode
from pilot_starter import upload
from pilot_starter.config import CredentialSources, StarterConfig
from pilot_starter.credentials import Credentials
from pilot_starter.health import WorkerStatus, examine, heartbeat_fresh, read_status, write_status
from pilot_starter.place import leave_home, make_home
from tests.fakes.descriptors import no_descriptor_free


def credentials(tmp_path: Path, sources: CredentialSources) -> Credentials:
    made = Credentials(sources, folder=tmp_path / "own", redactor=Redactor())
    made.prepare()
    return made


def test_secret_is_copied_closed_and_renewed(tmp_path: Path) -> None:
    secret = tmp_path / "x509"
    secret.write_text("one\n")
    secret.chmod(0o644)
    ours = credentials(tmp_path, CredentialSources(proxy_path=str(secret)))
    copy = Path(ours.environment()["X509_USER_PROXY"])
    assert copy.stat().st_mode & 0o777 == 0o400
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    secret.write_text("two\n")
    ours.refresh()
    assert copy.read_text() == "two\n"
    assert copy.stat().st_mode & 0o777 == 0o400
    secret.unlink()
    ours.refresh()
    assert copy.read_text() == "two\n"


def test_content_has_commas_for_newlines(tmp_path: Path) -> None:
    ours = credentials(tmp_path, CredentialSources(proxy_content="a,b,c"))
    assert Path(ours.environment()["X509_USER_PROXY"]).read_text() == "a\nb\nc"


def test_token_and_key_are_found_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "tok").write_text("abcdefgh")
    (tmp_path / "key").write_text("k")
    sources = CredentialSources(
        token_dir=str(tmp_path), token_name="tok", token_key_name="key", token_origin="vo.pilot"
    )
    env = credentials(tmp_path, sources).environment()
    assert Path(env["PANDA_AUTH_TOKEN"]).read_text() == "abcdefgh"
    assert os.path.dirname(env["PANDA_AUTH_DIR"]) == os.path.dirname(env["PANDA_AUTH_TOKEN"])
    assert env["PANDA_AUTH_ORIGIN"] == "vo.pilot"
    assert Path(env["PANDA_AUTH_TOKEN_KEY"]).read_text() == "k"


def test_token_never_shows_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "tok").write_text("abcdefgh-token")
    redactor = Redactor()
    sources = CredentialSources(token_name=str(tmp_path / "tok"), token_origin="o")
    Credentials(sources, folder=tmp_path / "own", redactor=redactor).prepare()
    assert redactor.text("it is abcdefgh-token") == "it is ***"


@pytest.mark.parametrize("content", [None, b"", b" \n"])
def test_missing_or_empty_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x509"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=str(path)) as caught:
        credentials(tmp_path, CredentialSources(proxy_path=str(path)))
    assert caught.value.code is ErrorCode.NOPROXY


def test_nothing_given_is_no_error(tmp_path: Path) -> None:
    assert credentials(tmp_path, CredentialSources()).environment() == {}


def status(tmp_path: Path, *, pid: int | None = None, phase: str = "running") -> Path:
    path = tmp_path / "wrapper-wid.json"
    pid = os.getpid() if pid is None else pid
    ticks = start_ticks(pid) or 0
    found = WorkerStatus(phase, pid, ticks, "Q", str(tmp_path / "log"), str(tmp_path), 0.0)
    write_status(path, found)
    assert read_status(path) == found
    return path


def verdict(tmp_path: Path, path: Path) -> bool:
    return examine(status_file=path, worker_log=tmp_path / "log", silent_s=600.0, now=10_000.0).well


def test_well_while_log_or_heartbeat_move(tmp_path: Path) -> None:
    path = status(tmp_path)
    assert not verdict(tmp_path, path)
    for name, moved, well in (
        *(("log", 9_000, False), ("log", 9_900, True), ("log", 9_000, False)),
        *(("pilot_heartbeat.json", 9_000, False), ("pilot_heartbeat.json", 9_999, True)),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (moved, moved))
        assert verdict(tmp_path, path) == well


def test_unwell_once_the_starter_is_gone(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    os.utime(tmp_path / "log", (9_999, 9_999))
    assert not verdict(tmp_path, status(tmp_path, pid=2**22 + 5))
    assert verdict(tmp_path, status(tmp_path, pid=2**22 + 5, phase="ended"))


def test_old_heartbeat_stops_the_touching_of_the_log(tmp_path: Path) -> None:
    assert heartbeat_fresh(tmp_path, silent_s=600.0, now=10_000.0)
    (tmp_path / "pilot_heartbeat.json").touch()
    os.utime(tmp_path / "pilot_heartbeat.json", (9_000, 9_000))
    assert not heartbeat_fresh(tmp_path, silent_s=600.0, now=10_000.0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": 1}'])
def test_damaged_status_is_no_status(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    assert read_status(tmp_path / "s.json") is None


def budget(seconds: float = 60.0) -> Budget:
    return Budget(SystemClock(), seconds, "packing it")


def test_packed_log_is_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(os.urandom(3_000_000))
    upload.pack(log, tmp_path / "h_7_gz.out", budget=budget())
    assert gzip.decompress((tmp_path / "h_7_gz.out").read_bytes()) == log.read_bytes()


def test_a_log_under_an_older_name_is_the_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"line\n" * 100_000)
    upload.pack(log, tmp_path / "h_7.out", budget=budget())
    assert (tmp_path / "h_7.out").read_bytes() == log.read_bytes()
    upload.pack(log, tmp_path / "h_7.out", budget=budget(), most_bytes=100_000)
    assert (tmp_path / "h_7.out").stat().st_size < 100_000
    assert b"the middle is left out" in (tmp_path / "h_7.out").read_bytes()


def test_log_that_stays_too_large_loses_its_middle(tmp_path: Path) -> None:
    log = tmp_path / "log"
    data = os.urandom(1_000_000)
    log.write_bytes(data)
    upload.pack(log, tmp_path / "h_7_gz.out", budget=budget(), most_bytes=200_000)
    assert (tmp_path / "h_7_gz.out").stat().st_size < 200_000
    text = gzip.decompress((tmp_path / "h_7_gz.out").read_bytes())
    assert text.startswith(data[:20_000] + b"\n[... the middle is left out ...]\n")
    assert text.endswith(data[-160_000:])


def test_a_log_that_takes_too_long_to_pack_keeps_its_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    data = os.urandom(9_000_000)
    log.write_bytes(data)
    upload.pack(log, tmp_path / "h_7_gz.out", budget=budget(0.0))
    text = gzip.decompress((tmp_path / "h_7_gz.out").read_bytes())
    assert text.startswith(data[:500_000] + b"\n[... the middle is left out ...]\n")
    assert text.endswith(data[-4_000_000:])
    assert "packing it: 0.0 s are over: little of it is uploaded" in caplog.text
    log.write_bytes(data[:4_000_000])
    upload.pack(log, tmp_path / "h_7_gz.out", budget=budget(0.0))
    assert gzip.decompress((tmp_path / "h_7_gz.out").read_bytes()) == data[:4_000_000]


@pytest.mark.parametrize("keepsake", ["PanDA_Pilot-17", "pilot_job_state.json", ""])
def test_what_is_kept_holds_no_credential(tmp_path: Path, keepsake: str) -> None:
    home = tmp_path / "home"
    (home / ".credentials").mkdir(parents=True)
    (home / "x509up_renewed").write_text("proxy")
    if keepsake:
        (home / keepsake).mkdir()
    leave_home(home)
    assert ([path.name for path in home.iterdir()] if home.exists() else [""]) == [keepsake]


def test_a_given_folder_whose_job_state_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    config = StarterConfig(
        queue="Q", site="Q", tmp_dir=tmp_path, worker_log=tmp_path / "log", work_dir=tmp_path
    )
    words = "pilot_job_state.json cannot be read: Too many open files"
    with no_descriptor_free(), pytest.raises(SetupError, match=words):
        make_home(config)
    assert make_home(config) == tmp_path.resolve()
