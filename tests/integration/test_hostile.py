"""Payloads and job definitions made to stop, blind or mislead the pilot: each
job gets its end, and the pilot takes the next one.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from pilot_core.model.codes import ErrorCode
from tests.fakes.pilot_process import start_pilot

PROCESS = ("--engine", "process")


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


def submit(panda: LocalPanda, command: str, **more: object) -> int:
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=command, encode=True, **more)
    )


def stored(panda: LocalPanda, job: int, name: str) -> Path:
    return panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / name


@pytest.mark.docker
def test_what_a_payload_leaves_in_the_folder_of_container_ids(panda: LocalPanda, tmp_path: Path) -> None:
    steps = (
        "cd $CONTAINER_CIDDIR",
        "mkfifo 1",
        "ln -s /dev/zero 2",
        "truncate -s 1T 3",
        "mkdir 4",
        "touch ²",
        "echo ../../info > 5",
        "sleep 1",
    )
    job = submit(panda, "; ".join(steps))
    with start_pilot(panda, tmp_path / "home") as pilot:
        assert pilot.wait(30) == 0
    assert panda.store.job(job).status == "finished", pilot.text()


def test_a_folder_deeper_than_the_stack_costs_the_pilot_nothing(panda: LocalPanda, tmp_path: Path) -> None:
    """Removing it raised RecursionError, which was the end of the pilot."""
    panda.cric.add_queue("LOCAL", timefloor=600)
    script = "import os\nfor i in range(3000):\n    os.mkdir('d')\n    os.chdir('d')"
    deep, next_one = submit(panda, f'{sys.executable} -c "{script}"'), submit(panda, "true")
    home = tmp_path / "home"
    with start_pilot(panda, home, *PROCESS, "--cleanup", "yes") as pilot:
        assert pilot.wait(60) == 0, pilot.text()[-3000:]
    assert [panda.store.job(job).status for job in (deep, next_one)] == ["finished", "finished"]
    assert not list(home.glob("PanDA_Pilot-*"))


def test_a_payload_that_prints_nearly_tokens_stops_nobody(panda: LocalPanda, tmp_path: Path) -> None:
    """The search for tokens took the square of the length, with every thread
    waiting.
    """
    script = "open('jobReport.json', 'w').write('eyJ' * 1_000_000)"
    job = submit(panda, f'{sys.executable} -c "{script}"')
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait(60) == 0
    assert panda.store.job(job).status == "finished"


def test_thousands_of_missing_outputs_are_told_in_few_words(panda: LocalPanda, tmp_path: Path) -> None:
    names = [f"out{number}" for number in range(3000)]
    job = submit(panda, "true", outFiles=",".join((*names, "log.tgz")), realDatasets="d/," * 3000 + "d/")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait(60) == 0
        said = next(line for line in pilot.text().splitlines() if "pilotErrorDiags" in line)
    assert panda.store.job(job).status == "failed"
    assert "and 2990 more" in said
    assert len(said) < 5000


def test_a_file_name_does_not_pass_for_a_line_of_the_log(panda: LocalPanda, tmp_path: Path) -> None:
    forged = "2026-11-21 08:51:00,123 | INFO     | job definition = {}"
    job = submit(panda, f"mkdir $'payload.\\n{forged}'")
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait(60) == 0
    kept = stored(panda, job, "pilotlog.txt").read_text().splitlines()
    assert any(forged in line for line in kept)
    assert not any(line.startswith(forged) for line in kept)


# As many as a pilot refuses in a row.
NAMES = [
    ({"outFiles": "../../up,log.tgz"}, ErrorCode.BADOUTPUTFILENAME, "outFiles='../../up'"),
    ({"outFiles": f"a,{'n' * 256}"}, ErrorCode.LFNTOOLONG, "longer than 255 bytes"),
    ({"inFiles": "../pilot.cfg"}, ErrorCode.BADOUTPUTFILENAME, "inFiles='../pilot.cfg'"),
]


def test_names_that_leave_their_folder_end_the_job_before_anything_is_touched(
    panda: LocalPanda, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    lists = {"outFiles": "a,log.tgz", "realDatasets": "d/,PandaJob_1/", "ddmEndPointOut": ","}
    inputs = {"GUID": "g", "fsize": "1", "ddmEndPointIn": "LOCAL_LOGS", "realDatasetsIn": "d"}
    jobs = [submit(panda, "touch ran", **{**lists, **inputs, **fields}) for fields, _, _ in NAMES]
    with start_pilot(panda, home, *PROCESS) as pilot:
        pilot.wait(60)
    for job, (_, code, words) in zip(jobs, NAMES, strict=True):
        row = panda.store.job(job)
        found, diag = row.pilot_error
        assert (row.status, found) == ("failed", int(code)), (diag, pilot.text()[-3000:])
        assert words in diag
    assert not list(home.glob("PanDA_Pilot-*"))
    assert not (panda.folder / "logs" / "LOCAL").exists()


def test_the_longest_names_there_are(panda: LocalPanda, tmp_path: Path) -> None:
    out, log = "o" * 255, "l" * 251 + ".tgz"
    names = {
        "outFiles": f"{out},{log}",
        "logFile": log,
        "realDatasets": "d/,PandaJob_1/",
        "ddmEndPointOut": ",",
    }
    job = submit(panda, f"echo content > {out}", **{**names, "scopeOut": "s"})
    with start_pilot(panda, tmp_path / "home", *PROCESS, "--upload-bundle", "yes") as pilot:
        assert pilot.wait(60) == 0
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, pilot.text()[-3000:])
    assert {path.name for path in (panda.folder / "logs").rglob("?" * 255)} == {out, log}


@pytest.mark.parametrize(
    ("command", "status", "code", "words"),
    [
        ("mv $PWD $PWD.away; echo here", "finished", 0, ""),
        ("w=$PWD; mv $w $w.away; ln -s /etc $w; echo here", "finished", 0, ""),
        ("rm -rf *; echo lost", "finished", 0, ""),
        ("rm -rf $PWD", "failed", 1305, "lost: it removed its work directory"),
        ("w=$PWD; rm -rf $w; ln -s /etc $w", "failed", 1305, "lost: it removed its work directory"),
        ("w=$PWD; rm -rf $w; mkdir $w; cd $w; echo new > payload.new", "finished", 0, ""),
    ],
)
def test_what_a_payload_does_to_its_work_directory(
    panda: LocalPanda, tmp_path: Path, command: str, status: str, code: int, words: str
) -> None:
    """Each job's log is stored, and nothing of /etc with it."""
    panda.cric.add_queue("LOCAL", timefloor=600)
    job, next_one = submit(panda, command), submit(panda, "true")
    home = tmp_path / "home"
    with start_pilot(panda, home, *PROCESS, "--cleanup", "yes") as pilot:
        assert pilot.wait(60) == 0, pilot.text()[-3000:]
        text = pilot.text()
    row = panda.store.job(job)
    assert (row.status, row.pilot_error[0]) == (status, code), text
    assert words in row.pilot_error[1]
    kept = stored(panda, job, "pilotlog.txt").read_text()
    assert "received job" in kept
    assert "the server has the final report" in kept
    assert not stored(panda, job, "passwd").exists()
    if "echo here" in command:
        assert stored(panda, job, "payload.stdout").read_text() == "here\n"
    assert panda.store.job(next_one).status == "finished"
    assert not list(home.glob("PanDA_Pilot-*"))
