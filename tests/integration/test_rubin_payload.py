"""A real `pipetask` in an inner container: from job definition to logs in the
bucket.

The payload is called as Rubin's runner command calls it (see
`tests/fakes/rubin.py`);
the pilot is a process of its own, with the options a Rubin worker gives it.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pilot_core.local.rows import JobRow
from pilot_core.local.server import LocalPanda
from tests.fakes import rubin
from tests.fakes.cloud_logging import CloudLogging
from tests.fakes.gcs import gcs_emulator

pytestmark = [
    pytest.mark.docker,
    pytest.mark.gcs,
    pytest.mark.rubin,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

QUEUE = "DOMA_LSST_GOOGLE_TEST"
LOGNAME = "Panda-RubinLog"
RECIPE = os.environ.get("PILOT_RUBIN_TOY", "")

#: Of a record of lsst.daf.butler; whatever is added on the way has other
#: names.
FIELDS = (
    *("name", "asctime", "message", "levelno", "levelname", "filename", "pathname"),
    *("lineno", "funcName", "process", "processName", "exc_info", "MDC"),
)

#: Cloud Logging's severity by the level of a record of lsst.daf.butler.
SEVERITIES = {"VERBOSE": "DEBUG", "INFO": "INFO", "WARNING": "WARNING", "ERROR": "ERROR"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rubin.RubinData]:
    """A repository with one raw and its graph: a quantum for each test, in
    order.
    """
    if not RECIPE:
        pytest.skip("PILOT_RUBIN_TOY does not name the recipe of a Rubin payload's image")
    rubin.build_image(Path(RECIPE))
    made = rubin.make_data(tmp_path_factory.mktemp("rubin") / "data")
    yield made
    rubin.remove_data(made)


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    with gcs_emulator(tmp_path) as url:
        yield url


@pytest.fixture
def panda_id() -> Iterator[int]:
    """An id nobody had: the job's shared folder is a fixed place on the node."""
    number = time.time_ns() // 1_000_000
    yield number
    rubin.clear_shared(number)


def run_pilot(panda: LocalPanda, folder: Path, *, sink: str, bucket: str) -> None:
    """One job through a real pilot, with a Rubin worker's options."""
    options = ["-q", QUEUE, "-j", "managed", "--pilot-user", "rubin", f"--url={panda.url}", "-a", str(folder)]
    options += ["-d", "--harvester-submit-mode", "PULL", "--allow-same-user=False", "-t"]
    options += ["--use-realtime-logging", "--realtime-logging-server", sink, "--realtime-logname", LOGNAME]
    options += ["-x", "1", "-v", "1", "--max-jobs", "1", "--cleanup", "False"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PANDA", "GOOGLE_"))},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "REALTIME_LOGFILES": "payload-log.json",
        "PANDA_BASE_URLS": f"{panda.url}/trf",
        "PILOT_CRIC_URL": panda.url,
        "STORAGE_EMULATOR_HOST": bucket,
        "S3_ENDPOINT_URL": "https://storage.googleapis.com",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pilot_core", *options],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def run_job(
    panda: LocalPanda,
    folder: Path,
    definition: Mapping[str, object],
    *,
    sink: str,
    bucket: str,
) -> JobRow:
    """Submit a job, run a pilot for it; the job as the server sees it
    afterwards.
    """
    number = panda.store.submit({**definition, "computingSite": QUEUE})
    folder.mkdir()
    run_pilot(panda, folder, sink=sink, bucket=bucket)
    assert rubin.left_behind(number) == []
    return panda.store.job(number)


def lines_of(panda_id: int) -> list[str]:
    """What `pipetask` wrote, from the folder on the node. Only `\\n` ends a
    line.
    """
    text = Path("/tmp/panda", str(panda_id), "payload-log.json").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return text.split("\n")[:-1]


def identity(record: Mapping[str, object]) -> str:
    """A record as `pipetask` wrote it, in one form whatever was added on the
    way.
    """
    return json.dumps({name: record[name] for name in FIELDS if name in record}, sort_keys=True)


def assert_shipped_once(written: list[str], shipped: list[dict[str, object]], panda_id: int) -> None:
    """Every record arrived, once, whole, with the job's ids beside it."""
    assert len(written) >= 10
    assert Counter(identity(json.loads(line)) for line in written) == Counter(map(identity, shipped))
    assert {str(record["PandaJobID"]) for record in shipped} == {str(panda_id)}
    assert {str(record["TaskID"]) for record in shipped} == {"45012"}


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return bytes(reply.read())


def test_records_at_the_file_sink_and_logs_in_the_bucket(
    data: rubin.RubinData, panda: LocalPanda, bucket: str, panda_id: int, tmp_path: Path
) -> None:
    definition = rubin.job_definition(data, "isr", panda_id=panda_id, transformations=f"{panda.url}/trf")
    shipped = tmp_path / "shipped.jsonl"

    job = run_job(panda, tmp_path / "pilot", definition, sink=f"file;{shipped}", bucket=bucket)

    assert (job.status, job.exit_code, job.pilot_error) == ("finished", 0, (0, ""))
    written = lines_of(panda_id)
    entries = [json.loads(line) for line in shipped.read_text(encoding="utf-8").split("\n")[:-1]]
    assert_shipped_once(written, [entry.get("jsonPayload", entry) for entry in entries], panda_id)
    assert any('"levelname":"VERBOSE"' in line for line in written)
    # The monitor's link leads to the pilot's log; the others lie beside it.
    assert job.log_url.startswith(bucket)
    assert f"/{QUEUE}/PandaJob_{panda_id}/" in job.log_url
    assert b"payload" in get(job.log_url)
    beside = job.log_url.rpartition("/")[0]
    assert get(f"{beside}/payload-log.json").decode().split("\n")[:-1] == written
    assert b"executable command line" in get(f"{beside}/payload.stderr")
    assert get(f"{beside}/memory_monitor_output.txt").startswith(b"Time\t")
    assert json.loads(get(f"{beside}/memory_monitor_summary.json"))["Max"]["rss"] > 0


def test_records_at_cloud_logging_with_the_severity_of_their_level(
    data: rubin.RubinData, panda: LocalPanda, bucket: str, panda_id: int, tmp_path: Path
) -> None:
    definition = rubin.job_definition(
        data, "characterizeImage", panda_id=panda_id, transformations=f"{panda.url}/trf"
    )
    with CloudLogging() as service:
        job = run_job(
            panda, tmp_path / "pilot", definition, sink=f"google-cloud-logging;{service.url}", bucket=bucket
        )
        entries = service.entries(LOGNAME)

    assert (job.status, job.exit_code) == ("finished", 0)
    assert_shipped_once(lines_of(panda_id), [entry["jsonPayload"] for entry in entries], panda_id)
    levels = {(entry["jsonPayload"]["levelname"], entry["severity"]) for entry in entries}
    assert levels == {(level, SEVERITIES[level]) for level, _ in levels}
    assert {level for level, _ in levels} == set(SEVERITIES)
    assert len({entry["insertId"] for entry in entries}) == len(entries)


def test_a_quantum_that_fails_fails_the_job_and_loses_no_record(
    data: rubin.RubinData, panda: LocalPanda, bucket: str, panda_id: int, tmp_path: Path
) -> None:
    definition = rubin.job_definition(
        data,
        "calibrate",
        panda_id=panda_id,
        transformations=f"{panda.url}/trf",
        environment={"TOY_FAIL": "calibrate"},
    )
    shipped = tmp_path / "shipped.jsonl"

    job = run_job(panda, tmp_path / "pilot", definition, sink=f"file;{shipped}", bucket=bucket)

    # pipetask's own, through decoder, prmon, bash, docker run and
    # transformation.
    assert (job.status, job.exit_code) == ("failed", 1)
    assert job.pilot_error[0] != 0
    written = lines_of(panda_id)
    entries = [json.loads(line) for line in shipped.read_text(encoding="utf-8").split("\n")[:-1]]
    assert_shipped_once(written, [entry.get("jsonPayload", entry) for entry in entries], panda_id)
    assert any("exc_info" in json.loads(line) for line in written)
