"""The server is away for ten minutes, in the middle of a job and at its end.

    python benchmarks/outage.py [--scale 100] [--outage 600] [--at end] [--kind
    reset]

For each kind of outage and each of the two moments a real pilot process runs
one job against the embedded PanDA server, over real HTTP, with all its
retries.
Only its clock is another: each second is `scale` times shorter, so that ten
minutes last six seconds. (Read timeouts are real and divided likewise.)

Prints per case the job's final state and how many requests were sent while the
server was away, beside the most that the retry policies allow. A case has
failed if the job is not finished, if there was not exactly one accepted final
report, if a log is missing, or if the pilot still owes something.

How many requests are allowed:

=========  ===================================================================
middle     a heartbeat that fails is repeated once, some 10 s later; then the
           next one is due: `most_updates`, which in 600 s is 2 requests with
           the default period of 1800 s, and 4 with the 300 s of this benchmark
end        the final report is repeated without end, after about 10, 300, 600,
           1200 s: never more than `most_finals`, which in 600 s is 5
=========  ===================================================================
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pilot_core import cli
from pilot_core.app import Pilot
from pilot_core.base.logs import setup_logging
from pilot_core.base.redact import Redactor
from pilot_core.base.retry import AWAY_RETRY
from pilot_core.heartbeat import EARLIEST
from pilot_core.local.definition import make
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from pilot_core.model.codes import exit_code
from tests.fakes.pilot_process import PilotProcess, start_pilot

#: Kinds of outage; None: nobody listens at the server's port.
KINDS: Mapping[str, Fault | None] = {
    "down": None,
    "500": Fault("*", FaultKind.STATUS, count=None, status=500),
    "503-retry-after": Fault("*", FaultKind.STATUS, count=None, status=503, retry_after="1"),
    "hang": Fault("*", FaultKind.HANG, count=None, seconds=3.0),
    "reset": Fault("*", FaultKind.RESET, count=None),
    "html-with-200": Fault("*", FaultKind.HTML, count=None),
    "half-an-answer": Fault("*", FaultKind.HALF, count=None),
    "statuscode-30": Fault("*", FaultKind.STATUS_CODE, count=None, status_code=30),
    # Each request is carried out, and its answer lost.
    "answer-lost": Fault("*", FaultKind.RESET, count=None, commit=True),
}
#: Between updates: several are due during the outage.
HEARTBEAT_S = 300


class ScaledClock:
    """A clock that runs `scale` times faster than the machine's."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._epoch, self._steady = time.time(), time.monotonic()

    def time(self) -> float:
        return self._epoch + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._steady) * self._scale

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds) / self._scale)

    def join(self, thread: threading.Thread, seconds: float) -> None:
        # Threads work in the machine's time.
        thread.join(max(0.0, seconds))


def be_a_pilot(scale: float, argv: Sequence[str]) -> int:
    """What `pilot.py` does, on another clock."""
    config = cli.parse(argv).config
    redactor = Redactor()
    setup_logging(debug=False, redactor=redactor)
    with Pilot(config, redactor=redactor, clock=ScaledClock(scale)) as pilot:
        return exit_code(pilot.agent.run())


@dataclass(frozen=True, slots=True)
class Case:
    """What became of one job."""

    kind: str
    at: str
    state: str
    finals: int
    requests: int
    allowed: int
    faults: Sequence[str]

    def __str__(self) -> str:
        verdict = "; ".join(self.faults) or "nothing lost"
        return (
            f"{self.kind:16} {self.at:7} {self.state:10} {self.finals:6} "
            f"{self.requests:9} {self.allowed:8}  {verdict}"
        )


class Outage:
    """One case.

    Parameters
    ----------
    folder
        Of this case alone.
    """

    def __init__(self, folder: Path, kind: str, at: str, *, scale: float, outage_s: float) -> None:
        self._folder = folder
        self._kind, self._at = kind, at
        self._scale, self._outage_s = scale, outage_s
        self._panda = LocalPanda(folder / "panda")
        self._sent = 0

    def run(self) -> Case:
        self._panda.start()
        try:
            # In the middle: half an outage before and after it. At the end:
            # the payload ends a quarter of the outage after the server went
            # away.
            length_s = self._outage_s * (2.5 if self._at == "middle" else 0.75) / self._scale
            script = f"{self._panda.url}/trf/bash-c-enc"
            job = self._panda.store.submit(
                make(transformation=script, parameters=f"echo hello; sleep {length_s:.2f}", encode=True)
            )
            command = (sys.executable, str(Path(__file__).resolve()), "--be-a-pilot", str(self._scale))
            home = self._folder / "home"
            ini = self._folder / "scaled.cfg"
            ini.write_text(f"[Pilot]\nheartbeat: {HEARTBEAT_S}\nhttp_maxtime: {max(0.5, 60 / self._scale)}\n")
            with start_pilot(
                self._panda, home, "--engine", "process",
                environment={"HARVESTER_PILOT_CONFIG": str(ini)}, command=command,
            ) as pilot:  # fmt: skip
                self._panda.store.wait_status(job, "running", 120)
                time.sleep(self._outage_s * 0.5 / self._scale)
                self._be_away(pilot)
                code = pilot.wait(60 + 3 * 1800 / self._scale)
            return self._judge(job, home, code)
        finally:
            self._panda.stop()

    def _be_away(self, pilot: PilotProcess) -> None:
        seconds = self._outage_s / self._scale
        fault = KINDS[self._kind]
        if fault is None:
            before = _failures(pilot)
            port = int(self._panda.url.rsplit(":", 1)[1])
            self._panda.stop()
            time.sleep(seconds)
            self._panda = LocalPanda(self._folder / "panda", port=port)
            self._panda.start()
            self._sent = _failures(pilot) - before
            return
        before = len(self._panda.calls("update_job"))
        self._panda.faults.add(fault)
        time.sleep(seconds)
        self._panda.faults.clear()
        self._sent = len(self._panda.calls("update_job")) - before

    def _judge(self, job: int, home: Path, code: int) -> Case:
        row = self._panda.store.job(job)
        updates = self._panda.store.updates(job)
        finals = [u for u in updates if u.status in ("finished", "failed")]
        # A final report that the server knows already is answered, not stored
        # again.
        accepted = {u.status for u in finals if u.code == 0}
        logs = self._panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}"
        allowed = most_updates(self._outage_s)
        if self._at == "end":
            allowed += most_finals(self._outage_s)
        checks = (
            (row.status == "finished", f"the job is {row.status}: {row.pilot_error}"),
            (accepted == {"finished"}, f"final states {sorted(accepted)}"),
            (code == 0, f"exit code {code}"),
            ((logs / "payload.stdout").is_file(), "payload.stdout is lost"),
            ((logs / "pilotlog.txt").is_file(), "pilotlog.txt is lost"),
            (not (home / "pilot_job_state.json").exists(), "a report is owed"),
            (self._sent <= allowed, "too many requests"),
        )
        faults = [why for well, why in checks if not well]
        return Case(self._kind, self._at, row.status, len(finals), self._sent, allowed, faults)


def _failures(pilot: PilotProcess) -> int:
    """Requests without an answer so far; nobody else can count them."""
    text = pilot.text()
    return sum("attempt " in line and " follows in " in line for line in text.splitlines()) + text.count(
        "not delivered: "
    )


def most_updates(outage_s: float) -> int:
    """Requests for updates during an outage, if every wait is as short as it
    can be; one of them is the repeat of the first.
    """
    return 2 + int(outage_s / (EARLIEST * HEARTBEAT_S))


def most_finals(outage_s: float) -> int:
    """The same for the final report."""
    low, _ = AWAY_RETRY.spread
    attempts, at_s, wait_s = 1, 0.0, AWAY_RETRY.soon_s
    while (at_s := at_s + low * wait_s) < outage_s:
        wait_s = min(AWAY_RETRY.cap_s, AWAY_RETRY.first_s * AWAY_RETRY.factor ** (attempts - 1))
        attempts += 1
    return attempts


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["--be-a-pilot"]:
        return be_a_pilot(float(argv[1]), argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", type=float, default=100.0)
    parser.add_argument("--outage", type=float, default=600.0, help="seconds of the pilot's time")
    parser.add_argument("--at", nargs="*", default=["middle", "end"], choices=["middle", "end"])
    parser.add_argument("--kind", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--parallel", type=int, default=3)
    options = parser.parse_args(argv)
    random.seed(1)
    print(f"{'outage':16} {'at':7} {'state':10} {'finals':>6} {'requests':>9} {'allowed':>8}")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.parallel) as pool:
        outages = [
            Outage(Path(folder) / f"{kind}-{at}", kind, at, scale=options.scale, outage_s=options.outage)
            for kind in options.kind
            for at in options.at
        ]
        for case in pool.map(Outage.run, outages):
            print(case, flush=True)
            wrong += bool(case.faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
