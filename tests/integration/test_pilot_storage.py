"""The real pilot on storages that refuse: each trouble has its code, and the
end of the log reaches the server all the same.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilot_core.local.definition import make
from pilot_core.local.rows import JobRow
from pilot_core.local.server import LocalPanda
from pilot_core.model.codes import ErrorCode
from tests.fakes.gcs import gcs_emulator
from tests.fakes.gcs_server import Fault, gcs_server
from tests.fakes.google_identity import google_identity
from tests.fakes.pilot_process import start_pilot
from tests.fakes.pki import make_pki
from tests.fakes.s3 import CREDENTIALS, PROFILE, Refusal, failing_s3

PROCESS = ("--engine", "process")


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


def use(panda: LocalPanda, tool: str, endpoint: str, path: str = "/logs") -> None:
    """Let the queue LOCAL keep its logs there."""
    protocol = [{"id": 1, "endpoint": endpoint, "path": path, "flavour": tool}]
    panda.cric.add_storage("TROUBLE", arprotocols=dict.fromkeys(("pw", "write_lan"), protocol))
    panda.cric.add_queue("LOCAL", acopytools={"write_lan": [tool]}, astorages={"write_lan": ["TROUBLE"]})


def run(panda: LocalPanda, home: Path, command: str = "echo fine", **environment: str) -> JobRow:
    """One job from beginning to end."""
    job = panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=command, encode=True, maxDiskCount=1)
    )
    with start_pilot(panda, home, *PROCESS, environment=environment) as pilot:
        pilot.wait()
        row = panda.store.job(job)
        assert row.status == "failed", pilot.text()[-4000:]
    return row


def check(row: JobRow, code: ErrorCode, *words: str) -> None:
    found, diag = row.pilot_error
    assert found == int(code), diag
    for word in words:
        assert word in diag
    assert row.pilot_log.startswith("- Log from pilotlog.txt -")
    assert words[0] in row.pilot_log


@pytest.mark.gcs
def test_a_bucket_that_does_not_exist(panda: LocalPanda, tmp_path: Path) -> None:
    with gcs_emulator(tmp_path) as url:
        use(panda, "gs", "gs://no-such-bucket")
        row = run(panda, tmp_path / "home", STORAGE_EMULATOR_HOST=url)
    check(row, ErrorCode.STAGEOUTFAILED, "HTTP 404", "gs://no-such-bucket/logs/LOCAL/")


def test_credentials_without_permission(panda: LocalPanda, tmp_path: Path) -> None:
    with gcs_server() as server:
        words = "pilot@p.iam.gserviceaccount.com does not have storage.objects.create access"
        server.faults = [Fault("status", 403, words, "forbidden") for _ in range(100)]
        use(panda, "gs", "gs://bucket")
        row = run(panda, tmp_path / "home", STORAGE_EMULATOR_HOST=server.url)
    check(row, ErrorCode.STAGEOUTAUTHENTICATIONFAILURE, "HTTP 403", words)


@pytest.mark.parametrize("refused", [False, True])
def test_the_identity_of_a_pod_stores_logs_and_signs_links(
    panda: LocalPanda, tmp_path: Path, refused: bool
) -> None:
    pki = make_pki(tmp_path)
    with gcs_server() as bucket, google_identity(pki.tls) as services:
        services.answers = [403] * 100 if refused else []
        use(panda, "gs", "gs://bucket")
        environment = {**services.environment(pki.ca), "API_ENDPOINT_OVERRIDE": bucket.url}
        job = panda.store.submit(make(transformation=f"{panda.url}/trf/bash-c-enc", parameters="true"))
        options = (*PROCESS, "--log-url", "signed")
        with start_pilot(panda, tmp_path / "home", *options, environment=environment) as pilot:
            assert pilot.wait() == 0
    row = panda.store.job(job)
    assert row.log_url == f"{bucket.url}/bucket/logs/LOCAL/PandaJob_{job}/pilotlog.txt"
    assert {name.rsplit("/", 1)[1] for name in bucket.objects} >= {"pilotlog.txt", "payload.stdout"}
    assert pilot.text().count("links are not signed") == refused
    # Whoever refused once is left alone; else each log has its link.
    assert (len(services.signed) == 1) is refused


def test_a_clock_that_is_off_by_an_hour_gets_no_token(panda: LocalPanda, tmp_path: Path) -> None:
    with google_identity() as services:
        services.off_s = -3600.0
        use(panda, "gs", "gs://bucket")
        key = services.key_file(tmp_path)
        row = run(panda, tmp_path / "home", GOOGLE_APPLICATION_CREDENTIALS=str(key))
    words = ("invalid_grant", "Check your iat and exp values", "the clock of this node is 36", "s fast")
    check(row, ErrorCode.STAGEOUTAUTHENTICATIONFAILURE, *words)


@pytest.mark.s3
def test_a_clock_that_is_off_by_an_hour(panda: LocalPanda, tmp_path: Path) -> None:
    (tmp_path / "aws").write_text(CREDENTIALS)
    refusals = [Refusal(403, "RequestTimeTooSkewed", off_s=3600.0) for _ in range(100)]
    with failing_s3(*refusals) as server:
        use(panda, "s3", server.url, "/bucket/logs")
        row = run(
            panda,
            tmp_path / "home",
            AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "aws"),
            PANDA_PILOT_AWS_PROFILE=PROFILE,
        )
    check(row, ErrorCode.STAGEOUTAUTHENTICATIONFAILURE, "RequestTimeTooSkewed", "s slow")


@pytest.mark.s3
def test_no_credentials_at_all(panda: LocalPanda, tmp_path: Path) -> None:
    use(panda, "s3", "http://127.0.0.1:9", "/bucket/logs")
    row = run(
        panda,
        tmp_path / "home",
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
        AWS_EC2_METADATA_DISABLED="true",
    )
    check(row, ErrorCode.MISSINGCREDENTIALS, "NoCredentialsError")


@contextmanager
def small_disk(folder: Path, mb: int) -> Iterator[Path]:
    """A file system of its own; skips where it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system of our own: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=10, check=True)


def test_a_storage_that_is_full(panda: LocalPanda, tmp_path: Path) -> None:
    with small_disk(tmp_path / "storage", 1) as disk:
        use(panda, "mv", f"file://{disk}")
        row = run(panda, tmp_path / "home", "seq 1 1000000")
        stored = {path.name for path in disk.rglob("*") if path.is_file()}
    check(row, ErrorCode.NOREMOTESPACE, "No space left on device", "payload.stdout")
    # What is there is whole, and what did not fit left nothing behind.
    assert "pilotlog.txt" in stored
    assert "payload.stdout" not in stored
    assert not [name for name in stored if name.endswith(".part")]


def test_a_node_whose_disk_the_payload_filled(panda: LocalPanda, tmp_path: Path) -> None:
    with small_disk(tmp_path / "node", 24) as disk:
        row = run(panda, disk / "home", "head -c 100M /dev/zero > junk; true")
    code, diag = row.pilot_error
    assert code == int(ErrorCode.NOLOCALSPACE), diag
    assert "No space left on device" in diag
    assert row.pilot_log.startswith("- Log from pilotlog.txt -")
