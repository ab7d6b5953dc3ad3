"""Cells of the kill matrix: one way to die, one kind of payload, and what was
left.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilot_core.local.definition import make
from pilot_core.local.rows import ARCHIVED_STATES
from pilot_core.local.server import LocalPanda
from pilot_core.local.worker import WorkerPlan, config_text, worker_environment
from tests.fakes.dockerd import OwnDaemon
from tests.fakes.patience import stated
from tests.fakes.pilot_process import start_pilot
from tests.fakes.traces import Traces

__all__ = [
    "CAUSES",
    "KINDS",
    "RESTART",
    "Cause",
    "Cell",
    "Kind",
    "Outcome",
    "Victim",
    "finish",
    "run_cell",
    "run_restart",
    "table",
]

#: Seconds a payload may run in the cells where its walltime ends it.
WALLTIME_S = 3

_LOOP = "echo started; while :; do sleep 1; done"
_STUBBORN = f"trap '' TERM; {_LOOP}"
# Its own session, no parent, no terminal, deaf: what daemon(3) and a trap
# make.
_FORKED = f'(setsid sh -c "{_STUBBORN}" >/dev/null 2>&1 &); {_LOOP}'


@dataclass(frozen=True, slots=True)
class Kind:
    """A payload: where it runs (`image`, `inner` or `process`) and what it
    does.
    """

    name: str
    where: str
    script: str


KINDS = (
    Kind("image", "image", _LOOP),
    Kind("inner docker run", "inner", _LOOP),
    Kind("process", "process", _LOOP),
    Kind("image that ignores TERM", "image", _STUBBORN),
    Kind("inner that ignores TERM", "inner", _STUBBORN),
    Kind("process that ignores TERM", "process", _STUBBORN),
    Kind("process that forked away", "process", _FORKED),
)


@dataclass(slots=True)
class Outcome:
    """What a cell ended with.

    Attributes
    ----------
    seconds
        From the cause until nothing of the job was left on the node.
    left
        What was still there when the time was over.
    finals
        Final states that the server was sent, in their order.
    stored
        Log files at the job's storage.
    text
        What pilot, or starter, printed.
    """

    seconds: float | None = None
    left: list[str] = field(default_factory=list)
    finals: list[str] = field(default_factory=list)
    code: int = 0
    diag: str = ""
    stored: frozenset[str] = frozenset()
    exit_code: int | None = None
    text: str = ""
    problem: str = ""
    skipped: str = ""


class Victim:
    """A running payload with the pilot that is to be killed.

    Attributes
    ----------
    process
        The pilot, or the starter around it.
    more
        What the strike has started and must be ended, too.
    """

    def __init__(self, panda: LocalPanda, kind: Kind, folder: Path, *, base_url: str | None) -> None:
        self.panda = panda
        self.kind = kind
        self.folder = folder
        self.base_url = base_url
        self.queue = f"QUEUE_{uuid.uuid4().hex[:12]}"
        self.shared = folder / "shared"
        panda.cric.add_queue(self.queue)
        self.job = 0
        self.traces = Traces("", self.shared)
        self.process: subprocess.Popen[bytes] | None = None
        self.more = contextlib.ExitStack()
        self.text: Callable[[], str] = str

    def submit(self, image: str, **more: object) -> None:
        """Submit the job; it is not taken before its pilot starts."""
        token = f"victim{uuid.uuid4().hex}"
        # The number is needed for the shared folder's name, and given by us.
        self.job = int(self.queue[6:], 16) % 10**9 + 10**9
        self.traces = Traces(token, self.shared / str(self.job), base_url=self.base_url)
        script = self.traces.mark() + self.kind.script
        common: dict[str, Any] = {"queue": self.queue, "PandaID": self.job, **more}
        if self.kind.where == "image":
            self.panda.store.submit(make(image=image, parameters=script, **common))
            return
        if self.kind.where == "inner":
            folder = self.shared / str(self.job)
            script = (
                f"mkdir -p {folder}; docker run --rm -v {folder}:{folder} --network host {image} "
                f'/bin/sh -c "cd /tmp; {script}"'
            )
        url = f"{self.panda.url}/trf/bash-c-enc"
        self.panda.store.submit(make(transformation=url, parameters=script, encode=True, **common))

    def remains(self) -> list[str]:
        """What there is of the job on this node now."""
        return self.traces.processes() or self.traces.containers(self.job)

    def wait_running(self) -> None:
        """Until the server knows, and the payload has set its traps."""
        self.panda.store.wait_status(self.job, "running", stated(60))
        wait(lambda: b"started" in self._output(), stated(30), "the payload does not start")

    def _output(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.folder.rglob("payload.stdout"))

    def wait_final(self, timeout_s: float) -> None:
        """Until the server has the job's end."""
        self.panda.store.wait_status(self.job, sorted(ARCHIVED_STATES), timeout_s)


def wait(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait for a condition; TimeoutError with `what` if it does not come true."""
    end, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} ({timeout_s:g} s)")
        pause.wait(0.1)


def _environment(victim: Victim) -> dict[str, str]:
    return {"DOCKER_HOST": victim.base_url} if victim.base_url else {}


@contextlib.contextmanager
def pilot(victim: Victim) -> Iterator[None]:
    """The pilot alone."""
    options = ("--payload-grace", "2", "--sample-interval", "1", "--shared-root", str(victim.shared))
    home = victim.folder / "home"
    with start_pilot(
        victim.panda, home, *options, queue=victim.queue, environment=_environment(victim)
    ) as started:
        victim.process, victim.text = started.process, started.text
        yield


@contextlib.contextmanager
def starter(victim: Victim) -> Iterator[None]:
    """Starter, wrapper and pilot, as on a pod."""
    plan = WorkerPlan(
        url=victim.panda.url,
        folder=victim.folder,
        queue=victim.queue,
        heartbeat_s=1,
        jobs=1,
        shared=victim.shared,
        environment={"PATH": os.environ["PATH"], "HOME": str(victim.folder), **_environment(victim)},
    )
    (plan.folder / "tmp").mkdir(parents=True)
    (plan.folder / "pilot.cfg").write_text(config_text(plan))
    with plan.output.open("ab") as output:
        victim.process = subprocess.Popen(
            [sys.executable, "-m", "pilot_starter"],
            cwd=plan.folder,
            env=worker_environment(plan),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    victim.text = lambda: plan.output.read_text(errors="replace")
    try:
        yield
    finally:
        victim.process.kill()
        victim.process.wait(10)
        # A pilot that outlived its starter must not outlive the test.
        for pid in in_folder(plan.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def in_folder(folder: Path) -> list[int]:
    """Processes whose working directory lies below a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(folder):
                found.append(int(link.parent.name))
    return found


def _signal(number: signal.Signals) -> Callable[[Victim], float]:
    def cause(victim: Victim) -> float:
        assert victim.process is not None
        began = time.monotonic()
        victim.process.send_signal(number)
        return began

    return cause


def _next_pilot(victim: Victim) -> float:
    """SIGKILL, and then what counts: the start of the next pilot in the same
    place.
    """
    assert victim.process is not None
    victim.process.kill()
    victim.process.wait(10)
    if not victim.remains():
        raise AssertionError("the test must leave something behind")
    began = time.monotonic()
    victim.more.enter_context(pilot(victim))
    return began


def _to_be_killed(victim: Victim) -> float:
    began = time.monotonic()
    victim.panda.store.kill(victim.job)
    return began


def _limit(victim: Victim) -> float:
    row = victim.panda.store.job(victim.job)
    assert row.started_s is not None
    return time.monotonic() - (time.time() - row.started_s) + WALLTIME_S


@dataclass(frozen=True, slots=True)
class Cause:
    """A way to die.

    Attributes
    ----------
    strike
        Does it; returns the monotonic second from which the time counts.
    within_s
        The stated time in which nothing may be left.
    code, words
        What the server must hear: code, and a part of the diagnostics.
    logs
        The pilot lives long enough to store the logs.
    """

    name: str
    strike: Callable[[Victim], float]
    within_s: float
    code: int
    words: str
    around: Callable[[Victim], contextlib.AbstractContextManager[None]] = pilot
    logs: bool = True


CAUSES = (
    Cause("SIGTERM to the pilot", _signal(signal.SIGTERM), 10.0, 1201, "SIGTERM"),
    Cause("SIGINT to the pilot", _signal(signal.SIGINT), 10.0, 1208, "SIGINT"),
    Cause("SIGKILL to the pilot, next pilot's start", _next_pilot, 15.0, 1200, "died", logs=False),
    Cause("tobekilled", _to_be_killed, 12.0, 1144, "tobekilled"),
    Cause("limit crossed", _limit, 12.0, 1213, f"limit {WALLTIME_S} s"),
    Cause("SIGTERM to the starter", _signal(signal.SIGTERM), 12.0, 1201, "SIGTERM", starter),
    Cause("SIGKILL to the starter", _signal(signal.SIGKILL), 12.0, 1201, "starter", starter),
)


#: The daemon goes and comes back, from when on the time counts; what runs
#: without it must not notice.
RESTART = Cause("dockerd restarted", _to_be_killed, 12.0, 1324, "Docker at unix://", logs=True)


@dataclass(frozen=True, slots=True)
class Cell:
    """One square of the table."""

    cause: Cause
    kind: Kind

    @property
    def name(self) -> str:
        """For test ids."""
        return f"{self.cause.name}-{self.kind.name}".replace(" ", "_")

    @property
    def expected(self) -> tuple[int, str]:
        """The code that the server must hear, and words."""
        if self.cause is RESTART and self.kind.where == "process":
            return 1144, "tobekilled"
        return self.cause.code, self.cause.words


def run_cell(panda: LocalPanda, cell: Cell, folder: Path, image: str) -> Outcome:
    """Start the payload, strike, and watch; never raises: a problem is part of
    the outcome.
    """
    victim = Victim(panda, cell.kind, folder, base_url=None)
    outcome = Outcome()
    try:
        victim.submit(image, **({"maxWalltime": WALLTIME_S} if cell.cause.strike is _limit else {}))
        folder.mkdir(parents=True)
        with cell.cause.around(victim), victim.more:
            victim.wait_running()
            finish(victim, outcome, began=cell.cause.strike(victim), within_s=cell.cause.within_s)
    except Exception as err:  # noqa: BLE001 - the test of this cell shall tell, not that of another
        outcome.problem = f"{type(err).__name__}: {err}"
    outcome.text = victim.text()
    return outcome


def run_restart(panda: LocalPanda, daemon: OwnDaemon, folder: Path, image: str) -> dict[Cell, Outcome]:
    """One restart of one daemon under payloads of all kinds.

    Those that need no daemon must still run afterwards, and are then killed
    by the server. What goes wrong with one is no problem of the others.
    """
    daemon.load(image)
    cells = {Cell(RESTART, kind): Outcome() for kind in KINDS}
    victims = {cell: Victim(panda, cell.kind, folder / cell.name, base_url=daemon.url) for cell in cells}

    def careful(what: Callable[[Cell, Victim], None], cell: Cell) -> None:
        try:
            what(cell, victims[cell])
        except Exception as err:  # noqa: BLE001 - as in `run_cell`
            cells[cell].problem = cells[cell].problem or f"{type(err).__name__}: {err}"

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(cells)) as workers:

        def together(what: Callable[[Cell, Victim], None]) -> None:
            for done in [workers.submit(careful, what, cell) for cell in cells]:
                done.result()

        def start(_: Cell, victim: Victim) -> None:
            victim.submit(image)
            victim.folder.mkdir(parents=True)
            stack.enter_context(pilot(victim))
            victim.wait_running()

        together(start)
        daemon.stop()
        daemon.start()
        back = time.monotonic()

        def end(cell: Cell, victim: Victim) -> None:
            began = back
            if cell.kind.where == "process":
                assert victim.traces.processes(), "the restart ended a payload that needs no daemon"
                began = _to_be_killed(victim)
            finish(victim, cells[cell], began=began, within_s=RESTART.within_s)

        together(end)
    for cell, victim in victims.items():
        cells[cell].text = victim.text()
    return cells


def finish(victim: Victim, outcome: Outcome, *, began: float, within_s: float) -> None:
    """Watch until nothing is left and the server knows the end; fills in the
    outcome.
    """
    pause = threading.Event()
    # One second more than allowed, so that the table shows by how much.
    while (left := victim.remains()) and time.monotonic() < began + stated(within_s) + 1.0:
        pause.wait(0.1)
    outcome.left = left
    outcome.seconds = None if left else time.monotonic() - began
    victim.wait_final(stated(20))
    if victim.process is not None:
        outcome.exit_code = victim.process.wait(stated(30))
    # The starter may be dead while the pilot lives on: it must end as well.
    wait(lambda: not in_folder(victim.folder), stated(15), "the pilot still runs")
    outcome.stored = stored(victim)
    updates = victim.panda.store.updates(victim.job)
    outcome.finals = [update.status for update in updates if update.status in ("finished", "failed")]
    outcome.code, outcome.diag = victim.panda.store.job(victim.job).pilot_error


def stored(victim: Victim) -> frozenset[str]:
    """Names of the log files at the job's storage."""
    folder = victim.panda.folder / "logs" / victim.queue / f"PandaJob_{victim.job}"
    if not folder.is_dir():
        return frozenset()
    return frozenset(path.name for path in folder.iterdir() if not path.name.startswith("."))


def table(outcomes: dict[Cell, Outcome]) -> str:
    """The matrix in Markdown: seconds until nothing was left."""
    kinds = [kind for kind in KINDS if any(cell.kind is kind for cell in outcomes)]
    causes = list(dict.fromkeys(cell.cause.name for cell in outcomes))
    by_name = {(cell.cause.name, cell.kind.name): outcome for cell, outcome in outcomes.items()}
    stated = {cell.cause.name: cell.cause.within_s for cell in outcomes}
    rows = [["", "stated", *(kind.name for kind in kinds)], ["---"] * (len(kinds) + 2)]
    for cause in causes:
        cells = [by_name.get((cause, kind.name)) for kind in kinds]
        seconds = ["" if c is None else "left" if c.seconds is None else f"{c.seconds:.1f}" for c in cells]
        rows.append([cause, f"{stated[cause]:.0f}", *seconds])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
