"""The real pilot as a child process against a local PanDA: what integration
tests start.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pilot_core.local.server import LocalPanda

ROOT = Path(__file__).resolve().parents[2]


class PilotProcess:
    """A running pilot; `log` is its stdout, which is the worker log of the
    field.
    """

    def __init__(self, process: subprocess.Popen[bytes], home: Path, log: Path) -> None:
        self.process = process
        self.home = home
        self.log = log

    def wait(self, timeout_s: float = 60.0) -> int:
        """Exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the pilot still runs after {timeout_s} s:\n{self.text()[-6000:]}"
            ) from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the pilot alone."""
        self.process.send_signal(number)

    def text(self) -> str:
        """What the pilot has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_text(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait until the pilot has printed this."""
        end = time.monotonic() + timeout_s
        while words not in self.text():
            assert time.monotonic() < end, f"{words!r} was not printed:\n{self.text()[-6000:]}"
            assert self.process.poll() is None, f"the pilot ended without {words!r}:\n{self.text()[-6000:]}"
            time.sleep(0.02)


@contextmanager
def start_pilot(
    panda: LocalPanda | str,
    home: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "pilot_core"),
    queue: str = "LOCAL",
) -> Iterator[PilotProcess]:
    """Start a pilot in `home`; killed at the end of the block if it still
    runs.
    """
    home.mkdir(parents=True, exist_ok=True)
    url = panda if isinstance(panda, str) else panda.url
    (home / "pilot.cfg").write_text(
        "[Pilot]\nheartbeat: 1\nfree_space_limit: 10 MB\nfree_space_limit_running: 10 MB\n"
    )
    log = home / "stdout.log"
    argv = [
        *command,
        *(
            "-q",
            queue,
            "-j",
            "managed",
            "-i",
            "PR",
            "--pilot-user",
            "rubin",
            "-d",
            "-t",
            "-v",
            "1",
            "-x",
            "2",
        ),
        *("--url", url, "--harvester-submit-mode", "PULL", "--cleanup", "no"),
        *("--shared-root", str(home / "shared")),
        *options,
    ]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PANDA_BASE_URLS": f"{url}/trf",
        "PILOT_CRIC_URL": url,
        "HARVESTER_ID": "test-harvester",
        "HARVESTER_WORKER_ID": "1",
        "PANDA_JSID": "harvester-test",
        **(environment or {}),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    pilot = PilotProcess(process, home, log)
    try:
        yield pilot
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
