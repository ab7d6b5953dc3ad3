"""A worker that was killed with its pilot: the next one says what it owes."""

import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import ServerUnreachable
from pilot_core.ledger import FILE_NAME, Ledger
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import JobReport, JobState, Node
from pilot_starter.kept import occupied
from pilot_starter.lastwill import Heirs
from pilot_starter.orphans import settle
from pilot_starter.remains import Stored


class Server:
    """Takes reports, if it is there."""

    def __init__(self) -> None:
        self.there = True
        self.reports: list[JobReport] = []
        self.heirs = Heirs(
            send=self.send,
            tidy=lambda _held, _budget: None,
            store=lambda _held, _budget, _only: Stored(url="gs://b/pilotlog.txt"),
            drop=lambda _held: None,
        )

    def send(self, report: JobReport, _budget: Budget, _stop: threading.Event) -> None:
        if not self.there:
            raise ServerUnreachable("down")
        self.reports.append(report)


def left(tmp_path: Path, name: str = "panda_dead", *, host: str = "", dead: bool = True) -> Path:
    """The folder of a worker that ran job 4711."""
    home = tmp_path / name
    (home / ".credentials").mkdir(parents=True)
    with occupied(home):
        report = JobReport(4711, 1, JobState.RUNNING, "SITE", Node("n"), pilot_id="PR|1.0")
        Ledger(home).take(report, work=home / "PanDA_Pilot-4711", shared=home / "shared", labels={})
    path = home / FILE_NAME
    document = json.loads(path.read_text())
    document["held"]["host"] = host or socket.gethostname()
    document["held"]["pid_ticks"] = 1 if dead else document["held"]["pid_ticks"]
    path.write_text(json.dumps(document))
    return home


def run(tmp_path: Path, server: Server, *, stop: bool = False) -> None:
    stopping = threading.Event()
    if stop:
        stopping.set()
    settle(tmp_path, server.heirs, clock=SystemClock(), stop=stopping)


def test_what_dead_workers_owe_is_said(tmp_path: Path) -> None:
    homes, server = [left(tmp_path, f"panda_{n}") for n in range(2)], Server()
    run(tmp_path, server)
    for report in server.reports:
        assert (report.panda_id, report.state, report.code) == (4711, JobState.FAILED, ErrorCode.KILLSIGNAL)
        assert report.pilot_id == "gs://b/pilotlog.txt|PR|1.0"
    assert len(server.reports) == 2
    assert not [home for home in homes if home.exists()]
    run(tmp_path, server)
    assert len(server.reports) == 2


def test_what_cannot_be_said_stays_owed(tmp_path: Path) -> None:
    home, server = left(tmp_path), Server()
    run(tmp_path, server, stop=True)
    server.there = False
    run(tmp_path, server)
    assert Ledger(home).look() is not None
    assert not (home / ".credentials").exists()
    server.there = True
    run(tmp_path, server)
    assert len(server.reports) == 1


@pytest.mark.parametrize("lives", ["the starter", "the pilot", "its process", "another host", "no mark"])
def test_the_living_speak_for_themselves(tmp_path: Path, lives: str) -> None:
    host = "elsewhere" if lives == "another host" else ""
    home, server = left(tmp_path, host=host, dead=lives != "its process"), Server()
    if lives == "no mark":
        (home / "starter.lock").unlink()
    with contextlib.ExitStack() as stack:
        if lives == "the starter":
            stack.enter_context(occupied(home))
        if lives == "the pilot":
            stack.enter_context(Ledger(home).claimed())
        run(tmp_path, server)
    assert not server.reports
    assert (home / FILE_NAME).exists()
    assert (home / ".credentials").exists()
