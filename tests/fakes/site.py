"""A server and a worker of real processes, none of which is left at the end."""

import contextlib
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
from pilot_core.local.worker import Worker, WorkerPlan

__all__ = ["LIMIT_S", "Site", "metadata", "new_site", "silence"]

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
