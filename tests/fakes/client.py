"""The client of a PanDA server, in few words."""

import contextlib
import threading
from collections.abc import Iterator

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock, SystemClock
from pilot_core.config import ServerConfig
from pilot_core.model.report import CommandKind, JobReport, JobState, Node
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from tests.fakes.server import SkippingClock

__all__ = ["JOB", "NODE", "QUEUE", "REQUEST", "acquire", "budget", "client", "report", "update"]

QUEUE = "DOMA_LSST_GOOGLE_TEST"
JOB = {"computingSite": QUEUE, "transformation": "https://example.org/x", "jobPars": "x"}
REQUEST = JobRequest(QUEUE, QUEUE, "managed", "node7", disk_mb=20_000, memory_mb=16_000)
NODE = Node("node7", "Kubernetes", "grid-job-17")


@contextlib.contextmanager
def client(url: str, clock: Clock | None = None, **more: object) -> Iterator[PandaServer]:
    config = ServerConfig(url, **more)  # type: ignore[arg-type]
    server = PandaServer(config, clock=clock or SkippingClock(), harvester_id="Rubin", worker_id=17)
    yield server
    server.close()


def budget(seconds: float = 14_400.0, clock: Clock | None = None) -> Budget:
    return Budget(clock or SystemClock(), seconds, "test")


def acquire(server: PandaServer, request: JobRequest = REQUEST) -> object:
    return server.acquire_job(request, budget=budget(), stop=threading.Event())


def report(panda_id: int, state: JobState = JobState.RUNNING, **more: object) -> JobReport:
    return JobReport(panda_id, 1, state, QUEUE, NODE, **more)  # type: ignore[arg-type]


def update(server: PandaServer, what: JobReport, seconds: float = 14_400.0) -> tuple[CommandKind, ...]:
    reply = server.update_job(what, budget=budget(seconds), stop=threading.Event())
    return tuple(command.kind for command in reply.commands)
