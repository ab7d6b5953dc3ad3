"""The whole pilot on a real Docker engine: both ways a Rubin payload comes,
and every way it ends.
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.compile import LABEL
from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes.images import busybox_image
from tests.fakes.patience import stated
from tests.fakes.pilot_process import start_pilot

pytestmark = pytest.mark.docker


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@pytest.fixture
def image() -> str:
    return busybox_image()


def containers(job: int, shared: Path) -> list[str]:
    """Everything of a job that the daemon still knows, by our label or by the
    folder it mounts.
    """
    found: set[str] = set()
    for condition in (f"label={LABEL}job={job}", f"volume={shared / str(job)}"):
        done = subprocess.run(
            ["docker", "ps", "-aq", "--filter", condition],
            capture_output=True,
            check=True,
            timeout=30,
            text=True,
        )
        found |= set(done.stdout.split())
    return sorted(found)


def runner(image: str, script: str) -> str:
    """The way Rubin's runner command starts its inner container, from a script
    beside the pilot.

    Without its `--privileged`, which asks for more than a test machine's root
    may have.
    """
    return (
        "logDir=$SHARED/${PANDAID}; mkdir -p $logDir; logFile=$logDir/${REALTIME_LOGFILES}; touch $logFile; "
        "chmod ugo+w $logFile $logDir; ln -fs $logFile ${REALTIME_LOGFILES}; "
        "docker run --rm -v $logDir:$logDir -v $logFile:/tmp/${REALTIME_LOGFILES} --network host "
        f'{image} /bin/sh -c "cd /tmp; {script}" >&2; retStat=$?; exit $retStat'
    )


def submit_runner(panda: LocalPanda, home: Path, image: str, script: str) -> int:
    text = f"export SHARED={home / 'shared'}; " + runner(image, script)
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=text, encode=True)
    )


def stored(panda: LocalPanda, job: int, name: str) -> Path:
    return panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / name


def test_image_job(panda: LocalPanda, tmp_path: Path, image: str) -> None:
    home = tmp_path / "home"
    target = tmp_path / "records.jsonl"
    line = r"""echo "{\"message\": \"n$i\"}" >> payload-log.json"""
    lines = f"i=0; while [ $i -lt 100 ]; do {line}; i=$((i+1)); done"
    job = panda.store.submit(
        make(image=image, parameters=f"{lines}; echo out; echo err >&2; pwd; env > env.txt; exit 3")
    )
    options = ("--use-realtime-logging", "--realtime-logging-server", f"file;{target}")
    environment = {"REALTIME_LOGFILES": "payload-log.json", "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}
    with start_pilot(panda, home, *options, environment=environment) as pilot:
        assert pilot.wait() == 0, pilot.text()
    row = panda.store.job(job)
    assert (row.status, row.exit_code, row.pilot_error[0]) == ("failed", 3, 1305), (
        row.pilot_error,
        pilot.text(),
    )
    assert stored(panda, job, "payload.stdout").read_text() == f"out\n{home}/shared/{job}\n"
    assert stored(panda, job, "payload.stderr").read_text() == "err\n"
    assert len(target.read_text().splitlines()) == 100
    assert len(stored(panda, job, "payload-log.json").read_text().splitlines()) == 100
    given = (home / "shared" / str(job) / "env.txt").read_text()
    assert f"PANDAID={job}" in given
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in given
    assert containers(job, home / "shared") == []


def test_transformation_with_an_inner_container(panda: LocalPanda, tmp_path: Path, image: str) -> None:
    home = tmp_path / "home"
    script = 'echo \'{\\"message\\": \\"from inside\\"}\' >> payload-log.json; echo text'
    job = submit_runner(panda, home, image, script)
    target = tmp_path / "records.jsonl"
    options = ("--use-realtime-logging", "--realtime-logging-server", f"file;{target}")
    with start_pilot(panda, home, *options, environment={"REALTIME_LOGFILES": "payload-log.json"}) as pilot:
        assert pilot.wait() == 0, pilot.text()
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, pilot.text())
    assert stored(panda, job, "payload.stderr").read_text() == "text\n"
    (record,) = (json.loads(line) for line in target.read_text().splitlines())
    assert record["jsonPayload"]["message"] == "from inside"
    assert record["jsonPayload"]["PandaJobID"] == str(job)
    assert containers(job, home / "shared") == []


STUBBORN = "trap '' TERM; echo started; while :; do sleep 1; done"


@pytest.mark.parametrize("kind", ["image", "inner"])
@pytest.mark.parametrize("ending", ["tobekilled", "SIGTERM", "SIGINT"])
def test_nothing_is_left_after_a_kill(
    panda: LocalPanda, tmp_path: Path, image: str, kind: str, ending: str
) -> None:
    home = tmp_path / "home"
    if kind == "image":
        job = panda.store.submit(make(image=image, parameters=STUBBORN))
    else:
        job = submit_runner(panda, home, image, STUBBORN)
    environment = {"REALTIME_LOGFILES": "payload-log.json"}
    with start_pilot(panda, home, "--payload-grace", "2", environment=environment) as pilot:
        panda.store.wait_status(job, "running", 30)
        assert panda.store.wait_for(lambda: bool(containers(job, home / "shared")), 20)
        began = time.monotonic()
        if ending == "tobekilled":
            panda.store.kill(job)
            panda.store.wait_status(job, "cancelled", 30)
            assert pilot.wait(30) == 0
        else:
            number = signal.Signals[ending]
            pilot.signal(number)
            assert pilot.wait(12) == 128 + number
        assert time.monotonic() - began < stated(15)
    assert containers(job, home / "shared") == []
    assert [u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")] == ["failed"]
    expected = {"tobekilled": 1144, "SIGTERM": 1201, "SIGINT": 1208}[ending]
    assert panda.store.job(job).pilot_error[0] == expected


@pytest.mark.parametrize("kind", ["image", "inner"])
def test_what_a_killed_pilot_left_goes_with_the_next_one(
    panda: LocalPanda, tmp_path: Path, image: str, kind: str
) -> None:
    home = tmp_path / "home"
    if kind == "image":
        job = panda.store.submit(make(image=image, parameters=STUBBORN))
    else:
        job = submit_runner(panda, home, image, STUBBORN)
    environment = {"REALTIME_LOGFILES": "payload-log.json"}
    with start_pilot(panda, home, environment=environment) as pilot:
        panda.store.wait_status(job, "running", 30)
        assert panda.store.wait_for(lambda: bool(containers(job, home / "shared")), 20)
        pilot.signal(signal.SIGKILL)
        pilot.wait()
    assert containers(job, home / "shared"), "the test must leave something behind"
    with start_pilot(panda, home, environment=environment) as pilot:
        assert pilot.wait() == 0, pilot.text()
    assert containers(job, home / "shared") == []
    assert [u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")] == ["failed"]


def test_two_pilots_on_one_node(panda: LocalPanda, tmp_path: Path, image: str) -> None:
    """Killing one, and starting a third that cleans up, leaves the other's
    container alone.
    """
    shared = ("--shared-root", str(tmp_path / "shared"))
    first = panda.store.submit(make(image=image, parameters=STUBBORN))
    with start_pilot(panda, tmp_path / "one", *shared) as one:
        panda.store.wait_status(first, "running", 30)
        second = panda.store.submit(make(image=image, parameters="sleep 6; echo survived"))
        with start_pilot(panda, tmp_path / "two", *shared) as two:
            panda.store.wait_status(second, "running", 30)
            one.signal(signal.SIGKILL)
            one.wait()
            with start_pilot(panda, tmp_path / "three", *shared) as three:
                assert three.wait() == 0
            assert containers(first, tmp_path / "shared") == []
            assert two.wait(60) == 0
    assert panda.store.job(second).status == "finished"
    assert stored(panda, second, "payload.stdout").read_text() == "survived\n"


def test_missing_image_is_named(panda: LocalPanda, tmp_path: Path) -> None:
    job = panda.store.submit(make(image="127.0.0.1:9/no-such/image:1", parameters="true"))
    with start_pilot(panda, tmp_path / "home") as pilot:
        assert pilot.wait(60) == 0
    code, diag = panda.store.job(job).pilot_error
    assert code in (1360, 1324)
    assert "no-such/image" in diag


HOLD_200_MB = (
    'BEGIN {s = sprintf("%1000000s", ""); for (i = 0; i < 200; i++) a[i] = s i; while (1) system("sleep 1")}'
)


def test_payload_that_exceeds_memory_fails_with_its_code(
    panda: LocalPanda, tmp_path: Path, image: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    queue = panda.cric.queue("LOCAL")
    assert isinstance(queue, dict)
    settings = dict(queue.get("LOCAL", queue))
    settings.update(maxrss=64, params={})
    (home / "cric_pandaqueues.json").write_text(json.dumps({"LOCAL": settings}))
    job = panda.store.submit(make(image=image, parameters=f"awk '{HOLD_200_MB}'", minRamCount=10))
    options = ("--payload-grace", "1", "--sample-interval", "1", "--memory-grace", "2")
    with start_pilot(panda, home, *options) as pilot:
        assert pilot.wait(120) == 0, pilot.text()
    code, diag = panda.store.job(job).pilot_error
    assert code == 1235, diag
    assert "64 MB" in diag
