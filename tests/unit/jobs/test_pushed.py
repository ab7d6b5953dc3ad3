"""Pushed jobs: every format, waiting, and never twice."""

import json
import os
import resource
import threading
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.config import JobsConfig
from pilot_core.errors import BadJob, NodeError, SetupError
from pilot_core.jobs.pushed import PushedSource
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from tests.fakes.server import SkippingClock

JOB = {
    "PandaID": 17,
    "attemptNr": 1,
    "transformation": "x",
    "jobPars": "a b%20c",
    "taskID": "NULL",
    "jobName": "",
}


def put(path: Path, text: str | bytes, age_s: float = 10.0) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    now = path.stat().st_mtime
    os.utime(path, (now - age_s, now - age_s))
    return path


def take(place: Path | None, home: Path, *, wait_s: float = 5.0, stop: bool = False) -> Job | None:
    clock = SkippingClock()
    source = PushedSource(JobsConfig(push_file=place, push_wait_s=wait_s), home=home, clock=clock)
    event = threading.Event()
    if stop:
        event.set()
    return source.next(budget=Budget(clock, 1_000.0, "test"), stop=event)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(JOB),
        json.dumps({"17": JOB}),
        json.dumps({"17": JOB, "18": {**JOB, "PandaID": 18}}),
        urlencode(JOB),
        urlencode(JOB) + "\n",
    ],
    ids=["flat", "keyed", "two jobs", "cgi", "cgi with a line end"],
)
def test_formats(text: str, tmp_path: Path, home: Path) -> None:
    path = put(tmp_path / "pandaJobData.out", text)
    job = take(path, home)
    assert job is not None
    assert (job.panda_id, job.parameters, job.task_id) == (17, "a b%20c", None)
    # It may have held secrets.
    assert not path.exists()


def test_what_is_encoded_twice_is_decoded_once(tmp_path: Path, home: Path) -> None:
    pars = quote("a b")
    job = take(put(tmp_path / "f", urlencode({**JOB, "jobPars": pars})), home)
    assert job is not None
    assert job.parameters == "a%20b"


@pytest.mark.parametrize("name", ["pandaJobData.out", "HPCJobs.json"])
def test_a_folder_is_searched(name: str, tmp_path: Path, home: Path) -> None:
    put(tmp_path / name, json.dumps({"17": JOB}))
    assert take(tmp_path, home) is not None


def test_the_home_is_searched_by_default(home: Path) -> None:
    put(home / "pandaJobData.out", json.dumps(JOB))
    assert take(None, home) is not None


def test_a_config_map_is_left_alone(tmp_path: Path, home: Path) -> None:
    """Kubernetes mounts it as links into a folder of its own, read-only."""
    data = tmp_path / "..2026_11_21"
    data.mkdir()
    put(data / "pandaJobData.out", json.dumps(JOB))
    (tmp_path / "..data").symlink_to(data)
    link = tmp_path / "pandaJobData.out"
    link.symlink_to("..data/pandaJobData.out")
    assert take(tmp_path, home) is not None
    assert link.exists()


def test_a_job_is_never_begun_twice(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "pandaJobData.out"
    assert take(put(path, json.dumps(JOB)), home) is not None
    with pytest.raises(SetupError, match="begun here before") as caught:
        take(put(path, json.dumps(JOB)), home)
    assert caught.value.code is ErrorCode.JOBALREADYRUNNING
    assert take(put(path, json.dumps({**JOB, "PandaID": 18})), home) is not None


def test_one_job_and_no_more(tmp_path: Path, home: Path) -> None:
    path = put(tmp_path / "f", json.dumps(JOB))
    clock = SystemClock()
    source = PushedSource(JobsConfig(push_file=path), home=home, clock=clock)
    assert not source.renewable
    budget = Budget(clock, 10.0, "test")
    assert source.next(budget=budget, stop=threading.Event()) is not None
    assert source.next(budget=budget, stop=threading.Event()) is None


@pytest.mark.parametrize("content", [None, ""])
def test_a_file_that_does_not_come(content: str | None, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "pandaJobData.out"
    if content is not None:
        put(path, content)
    with pytest.raises(SetupError, match=r"no pushed job within 5 s in .*pandaJobData\.out") as caught:
        take(path, home)
    assert caught.value.code is ErrorCode.JSONRETRIEVALTIMEOUT


class WritingClock(SkippingClock):
    """At each wait, Harvester writes the next piece."""

    def __init__(self, path: Path, pieces: list[str]) -> None:
        super().__init__()
        self._path, self._pieces = path, pieces

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self._pieces:
            with self._path.open("a") as out:
                out.write(self._pieces.pop(0))
            later = self.time() + seconds
            os.utime(self._path, (later, later))
        return super().wait(event, seconds)


def test_half_a_file_is_waited_for(tmp_path: Path, home: Path) -> None:
    text = json.dumps(JOB)
    path = tmp_path / "pandaJobData.out"
    clock = WritingClock(path, [text[:10], text[10:30], text[30:]])
    source = PushedSource(JobsConfig(push_file=path), home=home, clock=clock)
    assert source.next(budget=Budget(clock, 100.0, "test"), stop=threading.Event()) is not None
    assert len(clock.waits) in (4, 5)


def test_a_clock_that_is_wrong_delays_a_job_by_one_look(tmp_path: Path, home: Path) -> None:
    assert take(put(tmp_path / "f", json.dumps(JOB), age_s=-3_600), home) is not None


def test_stop(tmp_path: Path, home: Path) -> None:
    assert take(tmp_path / "f", home, stop=True) is None


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"{", b"[]", b"{}", b'{"17": 3}', b"nothing", b"[" * 100_000]
)
def test_a_file_that_holds_no_job(content: bytes, tmp_path: Path, home: Path) -> None:
    with pytest.raises(BadJob):
        take(put(tmp_path / "f", content), home)


def test_a_job_that_is_malformed_names_itself(tmp_path: Path, home: Path) -> None:
    with pytest.raises(BadJob) as caught:
        take(put(tmp_path / "f", json.dumps({"17": {**JOB, "coreCount": "x"}})), home)
    assert caught.value.panda_id == 17


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="pushed-17") as caught:
        take(put(tmp_path / "f", json.dumps(JOB)), tmp_path / "missing")
    assert caught.value.panda_id == 17, "the server has to hear of it"


def test_a_claim_that_could_not_be_written_is_none(tmp_path: Path, home: Path) -> None:
    """As on a full disk: the file can be made and not be written."""
    pushed = put(tmp_path / "f", json.dumps(JOB))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(NodeError, match="too large"):
            take(pushed, home)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [*tmp_path.rglob("*.claim"), *home.rglob("*.claim")]


def test_a_claim_beside_the_file_stops_a_pilot_with_another_home(tmp_path: Path) -> None:
    """Wrappers make a fresh home for each pilot; Harvester's folder stays."""
    shared = tmp_path / "harvester"
    shared.mkdir()
    for number, refused in ((1, False), (2, True)):
        home = tmp_path / f"home{number}"
        home.mkdir()
        (shared / "pandaJobData.out").write_text("PandaID=77&attemptNr=1&transformation=x&jobPars=y")
        clock = SkippingClock()
        source = PushedSource(JobsConfig(push_file=shared), home=home, clock=clock)
        budget = Budget(clock, 60.0, "test")
        if refused:
            with pytest.raises(SetupError, match="begun here before"):
                source.next(budget=budget, stop=threading.Event())
        else:
            assert source.next(budget=budget, stop=threading.Event()) is not None
