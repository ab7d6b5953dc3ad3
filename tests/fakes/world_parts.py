"""What a pilot in a `World` touches: fakes that tell the world each moment."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container.spec import ContainerSpec
from pilot_core.base.budget import Budget
from pilot_core.local.store import Store
from pilot_core.logship.contract import Entry, Outcome
from pilot_core.model.queue import Protocol, Queue, Storage
from pilot_core.model.report import JobReport, Reply, WorkerState
from pilot_core.server.contract import JobRequest
from pilot_core.storage.contract import Progress, Stored
from tests.fakes.engine import FakeContainer, FakeEngine
from tests.fakes.info import FakeInformation
from tests.fakes.server import FakeServer
from tests.fakes.sink import AGAIN, YES, MemorySink
from tests.fakes.storage import FakeTool

if TYPE_CHECKING:
    from tests.fakes.world import World

__all__ = [
    "IMAGE",
    "INPUT",
    "SinkDown",
    "WorldEngine",
    "WorldInformation",
    "WorldServer",
    "WorldSink",
    "WorldTool",
]

#: What every input file holds.
INPUT = b"stars"
IMAGE = "registry.invalid/stack:w_2026"


class SinkDown(Exception):
    """Never leaves the fake: a sink's failure is an outcome."""


class WorldServer(FakeServer):
    """The server."""

    def __init__(self, world: "World") -> None:
        store = Store(Path(":memory:"), clock=world.clock)
        super().__init__(store=store, harvester_id="harvester", worker_id=7)
        self._world = world

    def acquire_job(
        self, request: JobRequest, *, budget: Budget, stop: threading.Event
    ) -> Mapping[str, object] | None:
        self._world.happen("Server.acquire_job")
        return super().acquire_job(request, budget=budget, stop=stop)

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        self._world.happen("Server.update_job", report.state.value)
        return super().update_job(report, budget=budget, stop=stop)

    def update_worker(
        self, state: WorkerState, *, site: str, node: str, budget: Budget, stop: threading.Event
    ) -> None:
        self._world.happen("Server.update_worker", state.value)
        super().update_worker(state, site=site, node=node, budget=budget, stop=stop)

    def upload_worker_log(self, path: Path, *, budget: Budget, stop: threading.Event) -> None:
        self._world.happen("Server.upload_worker_log", path.name)
        super().upload_worker_log(path, budget=budget, stop=stop)

    def close(self) -> None:
        self._world.happen("Server.close")
        super().close()


class WorldEngine(FakeEngine):
    """The engine; what a payload does is looked up by the job's id."""

    #: As the Docker engine has it: its daemon is on this node.
    local = True

    def __init__(self, world: "World") -> None:
        super().__init__(clock=world.clock, on_call=self._hook, images=("",), registry=(IMAGE,))
        self._world = world

    def _hook(self, name: str, _: ContainerSpec | None) -> None:
        of_container = ("wait", "stop", "remove", "processes", "backtrace")
        contract = "Container" if name in of_container else "Engine"
        self._world.happen(f"{contract}.{name}")

    def start(self, spec: ContainerSpec) -> FakeContainer:
        payload = self._world.payloads.get(int(spec.environment["PANDAID"]), {})
        return super().start(replace(spec, environment={**spec.environment, **payload}))


class WorldInformation(FakeInformation):
    """One queue, one storage."""

    def __init__(self, world: "World", queue: Queue) -> None:
        place = Protocol(endpoint="gs://world-logs", path="/logs")
        storage = Storage("WORLD_LOGS", type="OS_LOGS", protocols={"pl": (place,), "pr": (place,)})
        super().__init__(queues=[queue], storages=[storage])
        self._world = world

    def queue(self, name: str, *, budget: Budget) -> Queue:
        self._world.happen("Information.queue", name)
        return super().queue(name, budget=budget)

    def change(self, fields: Mapping[str, Any]) -> None:
        """From now on the queue is another one."""
        self.queues = {name: replace(queue, **fields) for name, queue in self.queues.items()}

    def storage(self, name: str, *, budget: Budget) -> Storage:
        self._world.happen("Information.storage", name)
        return super().storage(name, budget=budget)


class WorldTool(FakeTool):
    """The copy tool."""

    name = "gs"

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        self._world.happen("CopyTool.put", source.name)
        return super().put(source, target, budget=budget, content_type=content_type, progress=progress)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        self._world.happen("CopyTool.get", source.rsplit("/", 1)[1])
        self.objects.setdefault(source, INPUT)
        return super().get(source, target, budget=budget, progress=progress)


class WorldSink(MemorySink):
    """The log service. A sink never raises: its failure is an outcome."""

    def __init__(self, world: "World") -> None:
        super().__init__(self._mood)
        self._world = world

    def _mood(self, _: Sequence[Entry]) -> Outcome:
        try:
            self._world.happen("Sink.write")
        except SinkDown:
            return AGAIN
        return YES

    def close(self) -> None:
        self._world.happen("Sink.close")
        super().close()
