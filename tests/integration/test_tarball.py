"""`pilot3.tar.gz`: made, fetched over HTTP, started as wrappers in the field
do.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests

from pilot_core import __version__
from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from pilot_core.local.store import Store
from tests.fakes.cloud_logging import CloudLogging

ROOT = Path(__file__).resolve().parents[2]
QUEUE = "RUBIN_FIELD"
#: What a plain checkout needs to be a source of the tarball.
SOURCES = ("scripts", "pilot_core", "pilot_starter", "container", "LICENSE")
#: Free space is not what these tests are about.
INI = "[Pilot]\nfree_space_limit: 10 MB\nfree_space_limit_running: 10 MB\n"


def build(target: Path, *, root: Path = ROOT, umask: int = 0o022) -> bytes:
    """Run the script that `make tarball` runs."""
    subprocess.run(
        [root / "scripts/tarball.sh", target], umask=umask, timeout=60, check=True, capture_output=True
    )
    return target.read_bytes()


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist") / "pilot3.tar.gz"
    build(target)
    return target


@pytest.fixture
def panda(tmp_path: Path, tarball: Path) -> Iterator[LocalPanda]:
    """A server that has the tarball, and a queue whose pilots take one job."""
    with LocalPanda(tmp_path / "panda") as server:
        server.cric.add_queue(QUEUE, timefloor=0)
        shutil.copy(tarball, server.folder / "cache")
        yield server


@pytest.fixture
def unpacked(tmp_path: Path, panda: LocalPanda) -> Path:
    """A worker's folder with `pilot3/`, fetched and unpacked as wrappers do
    it.
    """
    folder = tmp_path / "worker"
    folder.mkdir()
    with urllib.request.urlopen(f"{panda.url}/cache/pilot3.tar.gz", timeout=20) as answer:
        subprocess.run(["tar", "-xzf", "-"], input=answer.read(), cwd=folder, check=True, timeout=20)
    (folder / "pilot.cfg").write_text(INI)
    return folder


def submit(panda: LocalPanda, command: str = "echo hello") -> int:
    trf = f"{panda.url}/trf/bash-c-enc"
    return panda.store.submit(make(queue=QUEUE, transformation=trf, parameters=command, encode=True))


def environment(panda: LocalPanda, **more: str) -> dict[str, str]:
    """What a worker has; nothing of it leads to the checkout."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "HARVESTER_ID": "test-harvester",
        "HARVESTER_WORKER_ID": "7",
        "PANDA_BASE_URLS": f"{panda.url}/trf",
        "PILOT_CRIC_URL": panda.url,
        "PILOT_ENGINE": "process",
        **more,
    }


def rubins_options(url: str, *, realtime: str = "", mode: str = "PULL", datadir: str = "") -> list[str]:
    """As Rubin's starter and wrapper of 2022 pass them: their order, their
    repeats.
    """
    words = f"-q {QUEUE} -i PR -j managed --pilot-user=rubin -x 3 -v 5 --resource-type SCORE".split()
    if realtime:
        words += ["--use-realtime-logging", "--realtime-logging-server", realtime]
        words += ["--realtime-logname", "Panda-RubinLog"]
    if datadir:
        words += ["--harvester-datadir", datadir]
    words += ["-w", "generic", "--pilot-user", "rubin", f"--url={url}", "-d"]
    return [*words, "--harvester-submit-mode", mode, "--allow-same-user=False", "-t"]


def pilot(folder: Path, *options: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`python3 pilot3/pilot.py OPTIONS` in the worker's folder, to its end."""
    command = ["python3", "pilot3/pilot.py", *options]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=90, check=False
    )


def final_states(store: Store, job: int) -> list[str]:
    return [u.status for u in store.updates(job) if u.status in ("finished", "failed")]


# --- what is in it ---


def test_only_what_a_worker_runs_and_the_folder_first(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        members = archive.getmembers()
        version = archive.extractfile("pilot3/PILOTVERSION")
        assert version is not None
        assert version.read().decode() == f"{__version__}\n"
    names = [member.name for member in members]
    # Rubin's wrapper asks `tar -t | head -1` for the name of the folder.
    assert names[0] == "pilot3"
    assert {"pilot3/pilot.py", "pilot3/LICENSE", "pilot3/container/shim/docker"} < set(names)
    assert {name.split("/")[1] for name in names[1:]} == {
        *("pilot.py", "PILOTVERSION", "LICENSE"),
        *("pilot_core", "pilot_starter", "container"),
    }
    unwanted = ("tests", "test_", "__pycache__", ".pyc", "egg-info", "/.", "pilot_core/local")
    assert not [name for name in names for part in unwanted if part in name]
    assert {(m.uid, m.gid, m.mode & 0o022) for m in members} == {(0, 0, 0)}
    programs = {m.name for m in members if m.isfile() and m.mode & 0o111}
    assert {"pilot3/container/shim/docker", "pilot3/pilot_starter/wrapper.sh"} <= programs


def test_same_sources_same_bytes(tarball: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "another checkout"
    for name in SOURCES:
        source, target = ROOT / name, checkout / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    for path in checkout.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1, 1))
    (checkout / "pilot_core/base/notes.py.orig").write_text("an editor's leftover")
    (checkout / "container/__pycache__").mkdir(exist_ok=True)
    (checkout / "container/__pycache__/x.cpython-311.pyc").write_bytes(b"a cache")
    assert build(tmp_path / "dist" / "again.tar.gz", root=checkout, umask=0o077) == tarball.read_bytes()


# --- started by hand ---


def test_help_and_version(unpacked: Path, panda: LocalPanda) -> None:
    env = environment(panda)
    said = pilot(unpacked, "--help", env=env)
    assert said.returncode == 0
    assert "--harvester-submit-mode" in said.stdout
    assert pilot(unpacked, "--version", env=env).stdout == f"{__version__}\n"
    assert not (unpacked / "pilotlog.txt").exists(), "asking for help begins no life"


def test_an_older_python_is_told_so_in_one_line(unpacked: Path, panda: LocalPanda) -> None:
    program = unpacked / "pilot3/pilot.py"
    # Whatever stands in that file, the Python of CentOS 7 must be able to read
    # it.
    ast.parse(program.read_text(), feature_version=(3, 6))
    script = (
        "import runpy, sys; sys.version_info = (3, 9, 18); "
        "runpy.run_path('pilot3/pilot.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=unpacked,
        env=environment(panda),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 65
    assert done.stderr == f"pilot.py: Python 3.11 or newer is needed, {sys.executable} is 3.9.18\n"


def test_a_python_without_our_packages_is_told_so_in_one_line(unpacked: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", unpacked / "pilot3" / "pilot.py", "-q", QUEUE],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 65
    said = r"pilot\.py: \S+ has no Python package 'requests': .*PILOT_PYTHON.*\n"
    assert re.fullmatch(said, done.stderr), done.stderr


def test_from_a_checkout_in_place() -> None:
    done = subprocess.run(
        # Without what installs this checkout into the tests' Python.
        [sys.executable, "-S", "pilot_core/pilot.py", "--version"],
        cwd=ROOT,
        env={"PYTHONPATH": str(Path(requests.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_rubins_own_command_line_finishes_a_job(unpacked: Path, panda: LocalPanda) -> None:
    line = '{"name": "lsst.isr", "levelname": "WARNING", "message": "few stars"}'
    job = submit(panda, f"echo '{line}' > payload-log.json")
    with CloudLogging() as google:
        env = environment(panda, REALTIME_LOGFILES="payload-log.json")
        server = f"google-cloud-logging;{google.url}"
        done = pilot(unpacked, *rubins_options(panda.url, realtime=server), env=env)
        (record,) = google.entries("Panda-RubinLog")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert panda.store.job(job).status == "finished", done.stdout[-6000:]
    assert record["severity"] == "WARNING"
    # Beside pilot.py, where the wrapper reads it.
    assert (unpacked / "pilot3/pandaIDs.out").read_text() == f"{job}\n"
    assert f"PanDA Pilot version {__version__}" in done.stdout


def test_another_place_for_panda_ids_may_be_relative(unpacked: Path, panda: LocalPanda) -> None:
    # rubin-wrapper.sh: PANDA_PILOT_SOURCE=pilot3/; -a makes the pilot live
    # elsewhere.
    job = submit(panda)
    env = environment(panda, PANDA_PILOT_SOURCE="pilot3/", HARVESTER_PILOT_CONFIG="pilot.cfg")
    done = pilot(unpacked, *rubins_options(panda.url), "-a", str(unpacked / "below"), env=env)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert (unpacked / "pilot3/pandaIDs.out").read_text() == f"{job}\n"


def test_empty_files_of_a_wrapper_whose_cric_did_not_answer(unpacked: Path, panda: LocalPanda) -> None:
    # runpilot3-wrapper.sh leaves these behind when curl fails.
    for name in ("cric_pandaqueues.json", "queuedata.json", "cric_ddmendpoints.json"):
        (unpacked / name).touch()
    job = submit(panda)
    done = pilot(unpacked, *rubins_options(panda.url), env=environment(panda))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert panda.store.job(job).status == "finished"


# --- a job pushed by Harvester ---


def test_pushed_job_runs_once_however_often_harvester_starts_it(unpacked: Path, panda: LocalPanda) -> None:
    panda.store.submit(
        make(
            queue=QUEUE,
            transformation=f"{panda.url}/trf/bash-c-enc",
            parameters="echo run >> ../runs",
            encode=True,
        )
    )
    url = f"{panda.url}/api/v1/pilot/acquire_jobs"
    body = urlencode({"site_name": QUEUE, "prod_source_label": "managed"}).encode()
    with urllib.request.urlopen(url, data=body, timeout=20) as answer:
        assert answer.status == 200
    (row,) = panda.store.jobs()
    # SharedFileMessenger with jobSpecFileFormat "cgi": one urlencoded line.
    definition = urlencode({**row.definition, "PandaID": row.panda_id})
    spool = unpacked / "harvester"
    spool.mkdir()
    options = rubins_options(panda.url, mode="PUSH", datadir=str(spool))
    asked = len(panda.calls("acquire_jobs"))

    (spool / "pandaJobData.out").write_text(definition)
    done = pilot(unpacked, *options, env=environment(panda))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert panda.store.job(row.panda_id).status == "finished"
    assert not (spool / "pandaJobData.out").exists()

    (spool / "pandaJobData.out").write_text(definition)
    again = pilot(unpacked, *options, env=environment(panda))
    assert again.returncode != 0
    assert "is not run a second time" in again.stdout
    assert (unpacked / "runs").read_text() == "run\n"
    assert final_states(panda.store, row.panda_id) == ["finished"]
    assert len(panda.calls("acquire_jobs")) == asked, "a pilot in PUSH mode never asks for jobs"


# --- started by our own starter and wrapper ---


def test_starter_and_wrapper_fetch_it_and_a_job_finishes(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "echo $PANDAID")
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "pilot.cfg").write_text(INI)
    env = environment(
        panda,
        PYTHONPATH=str(ROOT),
        HARVESTER_PILOT_CONFIG=str(tmp_path / "pilot.cfg"),
        pandaQueueName=QUEUE,
        computingSite=QUEUE,
        proxyContent="$proxyContent",
        submit_mode="PULL",
        TMPDIR=str(tmp_path),
        PANDA_SERVER_URL=panda.url,
        CRIC_URL=panda.url,
        PILOT_SOURCE=f"{panda.url}/cache/pilot3.tar.gz",
        PILOT_NO_FALLBACK="1",
        PILOT_WORK_DIR=str(home),
        PILOT_WORKER_LOG=str(tmp_path / "wrapper-wid.log"),
        PILOT_TERMINATION_LOG=str(tmp_path / "termination-log"),
    )
    done = subprocess.run(
        [sys.executable, "-m", "pilot_starter"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert panda.store.job(job).status == "finished", done.stdout[-6000:]
    assert f"PanDA Pilot version {__version__}" in done.stdout
    assert " pilot3/pilot.py " in done.stdout, "the pilot of the tarball is what ran"
    assert (home / "pilot3/PILOTVERSION").read_text() == f"{__version__}\n"
