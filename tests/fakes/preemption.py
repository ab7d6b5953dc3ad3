"""Workers that are preempted: each phase of a pilot's life, with real
processes.
"""

import contextlib
import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.local.definition import make
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from pilot_core.local.store import Store
from pilot_core.local.worker import Worker, WorkerPlan
from tests.fakes.images import busybox_image
from tests.fakes.patience import stated

__all__ = ["SCENARIOS", "Measured", "Scenario", "Site", "metadata", "new_site", "silence"]

#: A payload that hears no SIGTERM and has a child.
STUBBORN = "trap '' TERM; sleep 300 & while :; do sleep 0.5; done"
#: Longer than any of this may take.
LIMIT_S = 40.0


@contextlib.contextmanager
def silence() -> Iterator[tuple[str, threading.Event]]:
    """A server that accepts and never says a word: address, and whether one
    came.
    """
    came = threading.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.settimeout(0.1)
        over = threading.Event()
        open_: list[socket.socket] = []

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    open_.append(listener.accept()[0])
                    came.set()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", came
        finally:
            over.set()
            thread.join(5)
            for connection in open_:
                connection.close()


@contextlib.contextmanager
def metadata(body: bytes) -> Iterator[str]:
    """URL of a metadata server that says whether the node is being preempted."""
    answer = b"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        listener.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(2)
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/computeMetadata/v1/instance/preempted"
        finally:
            over.set()
            thread.join(5)


@dataclass(slots=True)
class Site:
    """A server and one worker below one folder, and what of them is left."""

    folder: Path
    panda: LocalPanda
    environment: dict[str, str] = field(default_factory=dict)
    queue: str = "LOCAL"
    engine: str = "process"
    job: int = 0
    quiet: str = ""
    called: threading.Event = field(default_factory=threading.Event)
    worker: Worker | None = None

    def submit(self, command: str, *, image: str = "", **more: object) -> None:
        """A job as Rubin's come: a script in base64, or a command for an
        image.
        """
        trf = "" if image else f"{self.panda.url}/trf/bash-c-enc"
        self.job = self.panda.store.submit(
            make(
                queue=self.queue,
                transformation=trf,
                parameters=command,
                image=image,
                encode=not image,
                **more,  # type: ignore[arg-type]
            )
        )

    def fault(self, call: str, kind: FaultKind, **more: object) -> None:
        """Make the server misbehave."""
        self.panda.faults.add(Fault(call=call, kind=kind, **more))  # type: ignore[arg-type]

    def start(self) -> None:
        """Start the worker."""
        plan = WorkerPlan(
            url=self.panda.url,
            folder=self.folder / "worker",
            queue=self.queue,
            engine=self.engine,
            shared=self.folder / "shared",
            environment=os.environ,
        )
        plan.folder.mkdir(parents=True)
        (plan.folder / "termination-log").touch()
        self.worker = _Worker(plan, self.environment)
        self.worker.start()

    @property
    def pid(self) -> int:
        """The starter."""
        assert isinstance(self.worker, _Worker)
        return self.worker.pid

    def text(self) -> str:
        """The worker's log so far."""
        path = self.folder / "worker" / "wrapper-wid.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, condition: Callable[[], object], what: str, seconds: float = LIMIT_S) -> None:
        """Wait until it is true."""
        end = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen:\n{self.text()[-6000:]}"
            assert self.worker is None or self.worker.poll() is None, f"ended before {what}:\n{self.text()}"
            pause.wait(0.02)

    def until_status(self, *status: str) -> None:
        """Wait until the server knows the job in this state."""
        self.until(lambda: self.panda.store.job(self.job).status in status, f"state {status}")

    def struck(self) -> bool:
        """True if the server has misbehaved."""
        return bool(self.panda.faults.done)

    def pilot(self) -> int:
        """The pilot's pid."""
        return next(pid for pid, words in self.processes() if "pilot_core" in words)

    def processes(self) -> list[tuple[int, str]]:
        """What runs below the folder, by working directory or arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    inside = str((entry / "cwd").readlink()).startswith(str(self.folder))
                    if words and (inside or str(self.folder) in words):
                        found.append((int(entry.name), words.strip()))
        return found

    def containers(self) -> list[str]:
        """What the daemon knows of this site's jobs, running or not."""
        if self.engine == "process":
            return []
        mounted = f"volume={self.folder / 'shared'}/{self.job}"
        found: set[str] = set()
        for condition in (mounted, f"volume={self.folder / 'shared'}"):
            done = subprocess.run(
                ["docker", "ps", "-aq", "--no-trunc", "--filter", condition],
                capture_output=True,
                check=True,
                timeout=30,
                text=True,
            )
            found |= set(done.stdout.split())
        return sorted(found)

    def left(self) -> list[str]:
        """All that still runs."""
        return [f"{pid} {words}" for pid, words in self.processes()] + self.containers()


class _Worker(Worker):
    """With more in its environment."""

    def __init__(self, plan: WorkerPlan, more: dict[str, str]) -> None:
        words = [f"{name}={value}" for name, value in {"CRIC_URL": "", **more}.items()]
        super().__init__(plan, command=["env", *words, sys.executable, "-m", "pilot_starter"])

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid


@contextlib.contextmanager
def new_site(folder: Path) -> Iterator[Site]:
    """A site of its own; nothing of it is left at the end."""
    with silence() as (quiet, called), LocalPanda(folder / "panda") as panda:
        site = Site(folder, panda, quiet=quiet, called=called)
        try:
            yield site
        finally:
            if site.worker is not None:
                site.worker.stop(0.0)
            for pid, _ in site.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for container in site.containers():
                subprocess.run(["docker", "rm", "-f", container], capture_output=True, timeout=30)


# --- phases -------------------------------------------------------------------


def _idle(site: Site) -> None:
    site.start()
    site.until(lambda: "no job for us" in site.text(), "the first answer without a job")


def _asking(site: Site) -> None:
    site.fault("acquire_jobs", FaultKind.HANG, count=None)
    site.start()
    site.until(site.struck, "a request for a job")


def _handed_out(site: Site) -> None:
    site.submit("true")
    site.fault("acquire_jobs", FaultKind.SLOW, seconds=1.0)
    site.start()
    site.until(site.struck, "a request for a job")


def _handed_out_late(site: Site) -> None:
    site.submit("true")
    site.fault("acquire_jobs", FaultKind.SLOW, seconds=4.0)
    site.start()
    site.until(site.struck, "a request for a job")


def _queue_data(site: Site) -> None:
    site.fault("cric", FaultKind.HANG, count=None)
    site.fault("cache", FaultKind.HANG, count=None)
    site.start()
    site.until(site.struck, "a request for queue data")


def _transformation(site: Site) -> None:
    site.submit("true")
    site.fault("transformation", FaultKind.HANG, count=None)
    site.start()
    site.until(site.struck, "a request for the transformation")


def _pulling(site: Site) -> None:
    site.engine = "docker"
    site.submit("true", image=f"{site.quiet}/nothing:1")
    site.start()
    site.until(site.called.is_set, "the daemon's call to the registry")


def _starting(site: Site) -> None:
    site.engine = "docker"
    site.submit(STUBBORN, image=busybox_image())
    site.start()
    site.until_status("starting", "running")


def _running(site: Site) -> None:
    site.submit("echo started; sleep 300")
    site.start()
    site.until_status("running")


def _stubborn(site: Site) -> None:
    site.submit(STUBBORN)
    site.start()
    site.until_status("running")


def _image(site: Site) -> None:
    site.engine = "docker"
    site.submit(STUBBORN, image=busybox_image())
    site.start()
    site.until_status("running")
    site.until(site.containers, "its container")


def _inner(site: Site) -> None:
    site.engine = "docker"
    place = site.folder / "shared"
    inner = f'docker run --rm -v $D:$D --network host {busybox_image()} /bin/sh -c "{STUBBORN}"'
    site.submit(f"D={place}/$PANDAID; mkdir -p $D; {inner}")
    site.start()
    site.until_status("running")
    site.until(site.containers, "the container that it starts")


def _uploading(site: Site) -> None:
    site.queue = "DOMA_LSST_DEV"
    site.environment["STORAGE_EMULATOR_HOST"] = f"http://{site.quiet}"
    site.submit("echo done")
    site.start()
    site.until(site.called.is_set, "the upload")


def _reporting(site: Site) -> None:
    site.submit("echo done")
    site.fault("update_job", FaultKind.SLOW, seconds=1.0, where={"job_status": "finished"})
    site.start()
    site.until(site.struck, "the final report")


def _down(site: Site) -> None:
    _stubborn(site)
    site.panda.stop()


def _hanging(site: Site) -> None:
    _stubborn(site)
    site.fault("*", FaultKind.HANG, count=None)


def _stopped(site: Site) -> None:
    _running(site)
    os.kill(site.pilot(), signal.SIGSTOP)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One phase in which the signal comes.

    Attributes
    ----------
    reach
        Brings a site into that phase.
    state
        The job's final state at the server; empty if there is no job, or no
        server.
    report_s
        Seconds from the signal to the final report, at most.
    says
        Words of the log about what was left out.
    """

    name: str
    reach: Callable[[Site], None]
    state: str = "failed"
    docker: bool = False
    report_s: float = 2.0
    says: tuple[str, ...] = ()


_UNTOLD = ("was not delivered", "is kept for pilot_job_state.json")

SCENARIOS = (
    Scenario("idle", _idle, state=""),
    Scenario("fetching queue data (hangs)", _queue_data, state=""),
    Scenario("asking (server hangs)", _asking, state=""),
    Scenario("asking, a job comes after 1 s", _handed_out),
    Scenario("asking, a job comes after 4 s", _handed_out_late, report_s=6.0),
    Scenario("fetching the transformation (hangs)", _transformation),
    Scenario("pulling an image (registry hangs)", _pulling, docker=True),
    Scenario("starting", _starting, docker=True),
    Scenario("running, process", _running),
    Scenario("running, process ignores SIGTERM", _stubborn),
    Scenario("running, image", _image, docker=True),
    Scenario("running, docker run in a script", _inner, docker=True),
    Scenario(
        "uploading (storage hangs)",
        _uploading,
        says=("pilotlog.txt could not be stored", "is kept for PanDA_Pilot-"),
    ),
    Scenario("final report in flight", _reporting, state="finished"),
    Scenario("running, server down", _down, state="", says=_UNTOLD),
    Scenario("running, server hangs", _hanging, state="", says=_UNTOLD),
    Scenario(
        "running, the pilot itself hangs",
        _stopped,
        report_s=12.0,
        says=("did not end within its time", "its last will follows"),
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen after SIGTERM; seconds from it.

    Attributes
    ----------
    report_s
        The final report was at the server; None if none came.
    gone_s
        The starter had ended and nothing was left.
    left
        What still ran then.
    finals, code, diag
        What the server has of the job's end.
    log, shipped, uploaded
        The worker's log: the file, what its sink got, what Harvester's readers
        find.
    """

    scenario: Scenario
    report_s: float | None
    exit_s: float
    gone_s: float
    exit_code: int | None
    left: tuple[str, ...]
    finals: tuple[str, ...]
    code: int | None
    diag: str
    log: str
    shipped: str
    uploaded: str

    @classmethod
    def take(cls, scenario: Scenario, site: Site, *, again_s: float | None = None) -> "Measured":
        """Reach the phase, send SIGTERM (once more after `again_s`), and look."""
        scenario.reach(site)
        assert site.worker is not None
        sent, began = time.time(), time.monotonic()
        os.kill(site.pid, signal.SIGTERM)
        pause = threading.Event()
        if again_s is not None:
            pause.wait(again_s)
            os.kill(site.pid, signal.SIGTERM)
        while site.worker.poll() is None and time.monotonic() - began < LIMIT_S:
            pause.wait(0.02)
        exit_s = time.monotonic() - began
        left = site.left()
        while left and time.monotonic() - began < max(exit_s, stated(12.0)):
            pause.wait(0.2)
            left = site.left()
        gone_s = time.monotonic() - began
        finals, code, diag = _finals(site)
        records = site.folder / "worker" / "worker-records.jsonl"
        uploaded = site.panda.folder / "cache" / "local_1_gz.out"
        return cls(
            scenario=scenario,
            report_s=finals[0][1] - sent if finals else None,
            exit_s=exit_s,
            gone_s=gone_s if left or gone_s - exit_s > 0.3 else exit_s,
            exit_code=site.worker.poll(),
            left=tuple(left),
            finals=tuple(status for status, _ in finals),
            code=code,
            diag=diag,
            log=site.text(),
            shipped=records.read_text() if records.exists() else "",
            uploaded=gzip.decompress(uploaded.read_bytes()).decode() if uploaded.exists() else "",
        )


def _finals(site: Site) -> tuple[list[tuple[str, float]], int | None, str]:
    if not site.job:
        return [], None, ""
    # A server that was stopped has closed its store; another one reads the
    # file.
    store = Store(site.panda.folder / "panda.sqlite", clock=site.panda.clock)
    try:
        rows = [u for u in store.updates(site.job) if u.status in ("finished", "failed")]
        code, diag = store.job(site.job).pilot_error
        return [(row.status, row.time_s) for row in rows], code, diag
    finally:
        store.close()
