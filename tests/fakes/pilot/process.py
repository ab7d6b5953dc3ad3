"""The starter as a process in a folder of its own, with a fake pilot."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.pilot.tarball import make_tarball

ROOT = Path(__file__).resolve().parents[3]


class Starter:
    """A starter that can be started, watched and asked about its pilot."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.log = tmp / "wrapper-wid.log"
        self.notes_file = tmp / "notes"
        self.home = tmp / "home"
        self.process: subprocess.Popen[bytes] | None = None
        self.out = b""
        sha = make_tarball(tmp / "pilot3.tar.gz")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp),
            "TMPDIR": str(tmp),
            "PYTHONPATH": str(ROOT),
            "pandaQueueName": "TEST_QUEUE",
            "computingSite": "TEST_SITE",
            "PILOT_SOURCE": f"file://{tmp}/pilot3.tar.gz",
            "PILOT_SHA256": sha,
            "PILOT_NO_FALLBACK": "1",
            "PILOT_WORK_DIR": str(self.home),
            "PILOT_WORKER_LOG": str(self.log),
            "PILOT_TERMINATION_LOG": str(tmp / "termination-log"),
            "CRIC_URL": "",
            "FAKE_NOTES": str(self.notes_file),
            "PANDA_SERVER_URL": "http://127.0.0.1:9",
        }
        (tmp / "termination-log").touch()

    def start(self, **env: str) -> "Starter":
        self.env.update(env)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pilot_starter"],
            env=self.env,
            cwd=self.tmp,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return self

    def end(self, timeout: float = 20.0) -> int:
        assert self.process is not None
        self.out += self.process.communicate(timeout=timeout)[0]
        return self.process.returncode

    def run(self, **env: str) -> int:
        return self.start(**env).end()

    def notes(self, key: str) -> list[object]:
        if not self.notes_file.exists():
            return []
        lines = [json.loads(line) for line in self.notes_file.read_text().splitlines()]
        return [line[key] for line in lines if key in line]

    def note(self) -> dict[str, object]:
        return next(json.loads(line) for line in self.notes_file.read_text().splitlines() if '"argv"' in line)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "condition did not come true in time"
        pause.wait(0.02)
