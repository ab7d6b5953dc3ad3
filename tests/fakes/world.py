"""The whole pilot in memory: real wiring and threads, fakes where it touches
the world.

A `World` holds what outlives a pilot (server, engine, queue and storage data,
stored files, log records) and the clock; `run` lets one pilot live in it to
its end. Whatever is asked of the world is a *moment*, named after its contract
(`Server.update_job:finished`, `Engine.start`, `CopyTool.put:payload.stdout`);
a `Twist` says what happens at one.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from container.errors import EngineUnavailable, ImageError, StartError
from container.labels import NAME_LABEL
from container.reaper import BOOT_LABEL, OWNER_LABEL
from container.spec import ContainerSpec
from pilot_core.agent import Agent
from pilot_core.app import Pilot
from pilot_core.attend import AgentEvent
from pilot_core.base.redact import Redactor
from pilot_core.compile import FAMILY
from pilot_core.config import (
    Config,
    HeartbeatConfig,
    InfoConfig,
    JobsConfig,
    MonitorConfig,
    PayloadConfig,
    RealtimeConfig,
    ServerConfig,
    WorkerConfig,
)
from pilot_core.engines import Engines
from pilot_core.errors import ServerRefused, ServerUnreachable, SetupError, StorageError
from pilot_core.jobfiles import JobFiles
from pilot_core.jobtools import Drain, Signal
from pilot_core.ledger import FILE_NAME, HeldJob, Ledger
from pilot_core.local.definition import make
from pilot_core.logship.contract import Sink
from pilot_core.logship.record import JobContext, PayloadRecords
from pilot_core.logship.shipper import LogShipper, ShipSettings
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue
from tests.fakes.engine import FakeContainer, FakeEngine
from tests.fakes.virtual_clock import ClockInbox, VirtualClock
from tests.fakes.world_parts import (
    IMAGE,
    SinkDown,
    WorldEngine,
    WorldInformation,
    WorldServer,
    WorldSink,
    WorldTool,
)

__all__ = ["Twist", "World"]

QUEUE = "WORLD"


@dataclass(frozen=True, slots=True)
class Twist:
    """Something happens at a moment.

    Attributes
    ----------
    at
        `Contract.method`, or `Contract.method:detail`.
    do
        A key of `World.deeds`: fail, refuse, kill, command, signal, drain,
        queue, file, wait, break.
    value
        Text of a command, number of a signal, fields of the queue that change,
        name of a file that appears, seconds of a wait.
    after, times
        Lets so many moments pass first, then happens so often; 0 for always.
    """

    at: str
    do: str
    value: Any = None
    after: int = 0
    times: int = 1


def failure(call: str) -> Exception:
    """What a call raises, by its contract, when it cannot be carried out."""
    words = f"{call} was made to fail"
    special: dict[str, Exception] = {
        "Engine.ensure_image": ImageError(words),
        "Engine.start": StartError(words),
        "Information.queue": SetupError(words, ErrorCode.QUEUEDATA),
        "Information.storage": SetupError(words, ErrorCode.NOSTORAGE),
    }
    general: dict[str, Exception] = {
        "Server": ServerUnreachable(words),
        "Engine": EngineUnavailable(words),
        "Container": EngineUnavailable(words),
        "CopyTool": StorageError(words),
        "Sink": SinkDown(words),
    }
    return special.get(call) or general[call.partition(".")[0]]


class World:
    """See above.

    Parameters
    ----------
    folder
        The pilot's home and the shared folder are made below it.
    jobs
        What the server has: keys of a definition, and `payload`: what the
        engine's payload does (`FAKE_EXIT` and so on).
    queue
        Fields of `model.queue.Queue` that differ.
    settings
        Fields of the settings that differ, by part: `{"heartbeat":
        {"period_s": 5}}`.
    twists
        What happens.
    base_urls
        Where transformations may come from.
    """

    def __init__(
        self,
        folder: Path,
        *,
        jobs: Sequence[Mapping[str, Any]] = ({},),
        queue: Mapping[str, Any] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        twists: Sequence[Twist] = (),
        base_urls: Sequence[str] = (),
    ) -> None:
        self.clock = VirtualClock()
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.config = _config(folder, settings or {}, tuple(base_urls))
        self.server = WorldServer(self)
        self.engine = WorldEngine(self)
        self.information = WorldInformation(self, _queue(queue or {}))
        self.tool = WorldTool(self)
        self.sink = WorldSink(self)
        self.payloads: dict[int, Mapping[str, str]] = {}
        self.ids = [self._submit(job) for job in jobs]
        self.moments: Counter[str] = Counter()
        self.codes: list[ErrorCode] = []
        self._inbox: ClockInbox[AgentEvent] = ClockInbox(self.clock)
        self._twists = [_Armed(twist) for twist in twists]
        self._lock = threading.Lock()
        self.deeds: dict[str, Callable[[str, Twist], object]] = {
            "fail": lambda call, _: _throw(failure(call)),
            "refuse": lambda call, _: _throw(ServerRefused(f"{call} was refused")),
            "break": lambda call, _: _throw(ZeroDivisionError(f"a defect in {call}")),
            "kill": lambda _, __: [self.server.store.kill(panda_id) for panda_id in self.ids],
            "command": lambda _, t: [self.server.store.set_command(i, t.value) for i in self.ids],
            "signal": lambda _, t: self._inbox.put(Signal(int(t.value))),
            "drain": lambda _, __: self._inbox.put(Drain()),
            "queue": lambda _, t: self.information.change(t.value),
            "file": lambda _, t: (self.home / t.value).touch(),
            "wait": lambda _, t: self.clock.wait(threading.Event(), float(t.value)),
        }

    def run(self) -> ErrorCode:
        """One pilot, from its start to its end."""
        with PilotInWorld(self, self._inbox) as pilot:
            self.codes.append(pilot.agent.run())
        return self.codes[-1]

    def happen(self, call: str, detail: str = "") -> None:
        """A call has come in; called first by each fake, in the caller's
        thread.
        """
        with self._lock:
            self.moments[call] += 1
            names = (call, f"{call}:{detail}")
            due = [armed.twist for armed in self._twists if armed.twist.at in names and armed.due()]
        for twist in due:
            self.deeds[twist.do](call, twist)

    def held(self) -> HeldJob | None:
        """What the ledger says is still owed to the server."""
        return Ledger(self.home).held()

    def bury(self) -> None:
        """Make the ledger's writer a dead process: the next pilot is another
        one.
        """
        path = self.home / FILE_NAME
        document = json.loads(path.read_text())
        document["held"]["pid_ticks"] = 1
        path.write_text(json.dumps(document))

    def stored(self, panda_id: int) -> list[str]:
        """Names of a job's stored files."""
        folder = f"/PandaJob_{panda_id}/"
        return sorted(url.rsplit("/", 1)[1] for url in self.tool.objects if folder in url)

    def leave_container(self) -> None:
        """A container of a pilot that died with an earlier boot of this node."""
        labels = {**FAMILY, OWNER_LABEL: "0" * 32, BOOT_LABEL: "another-boot", NAME_LABEL: "panda-1"}
        spec = ContainerSpec(
            name="panda-1", argv=("true",), workdir="/", image="",
            stdout=self.home / "old.out", stderr=self.home / "old.err", labels=labels,
        )  # fmt: skip
        self.engine.containers[spec.name] = FakeContainer(self.engine, spec, 0)

    def _submit(self, job: Mapping[str, Any]) -> int:
        given = {"container_name": IMAGE, "jobPars": "run it", **job}
        # Not at once over: the updates before its end have been sent then.
        payload = {"FAKE_SLEEP": "1", **given.pop("payload", {})}
        panda_id = self.server.store.submit(make(queue=QUEUE, **given))
        self.payloads[panda_id] = payload
        return panda_id


@dataclass(slots=True)
class _Armed:
    twist: Twist
    seen: int = 0

    def due(self) -> bool:
        self.seen += 1
        turn = self.seen - self.twist.after
        return turn >= 1 and (self.twist.times == 0 or turn <= self.twist.times)


def _throw(error: Exception) -> None:
    raise error


def _queue(changes: Mapping[str, Any]) -> Queue:
    tools, names = ("gs",), ("WORLD_LOGS",)
    queue = Queue(
        name=QUEUE,
        resource=QUEUE,
        copytools={"pl": tools, "pr": tools},
        storages={"pl": names, "pr": names},
    )
    return replace(queue, **changes)


def _config(folder: Path, settings: Mapping[str, Mapping[str, Any]], base_urls: tuple[str, ...]) -> Config:
    home = folder / "home"
    config = Config(
        worker=WorkerConfig(
            queue=QUEUE, home=home, harvester_id="harvester", worker_id=7, hostname="node", cleanup=False
        ),
        server=ServerConfig(url="http://panda.invalid"),
        info=InfoConfig(folder=home),
        jobs=JobsConfig(requests=1, failures=2, min_free_mb=1),
        heartbeat=HeartbeatConfig(),
        payload=PayloadConfig(engine="process", shared_root=folder / "shared", base_urls=base_urls),
        realtime=RealtimeConfig(files=("payload.stdout",), interval_s=60.0),
        monitor=MonitorConfig(sample_s=60.0, free_mb=1),
    )
    parts = {name: replace(getattr(config, name), **values) for name, values in settings.items()}
    for name in {"push_file", "drain_file"} & set(settings.get("jobs", {})):
        parts["jobs"] = replace(parts["jobs"], **{name: home / settings["jobs"][name]})
    return replace(config, **parts)


class PilotInWorld(Pilot):
    """`app.Pilot` with everything that reaches outside taken from a world."""

    def __init__(self, world: World, inbox: ClockInbox[AgentEvent]) -> None:
        self._world = world
        # Signals of the process are none of the world's.
        super().__init__(world.config, redactor=Redactor(), clock=world.clock, listen=lambda _: None)
        self.inbox = inbox
        self.engines = _engines(world)
        self.information = world.information
        self.files = JobFiles(
            lambda name, budget: world.information.storage(name, budget=budget),
            tools={"gs": lambda _config, _clock: world.tool},
            config=world.config.storage,
            monitor=world.config.monitor,
            clock=world.clock,
            redactor=self.redactor,
        )
        self.agent = Agent(
            config=world.config,
            tools=self._tools(),
            information=world.information,
            make_source=self._source,
            open_engines=self.engines.open,
            leave_engines=self.engines.leave,
            inbox=inbox,
            clock=world.clock,
        )

    def _connect(self) -> "WorldServer":
        return self._world.server

    def _shipper(self, job: Job, paths: JobPaths) -> tuple[LogShipper, Sink] | None:
        if not self.config.realtime.enabled:
            return None
        sink = self._world.sink
        context = JobContext(
            task_id=str(job.task_id), panda_job_id=str(job.panda_id),
            harvester_worker_id="7", harvester_id="harvester", request_id=job.request_id,
        )  # fmt: skip
        shipper = LogShipper(
            [paths.work / name for name in self.config.realtime.files],
            lambda source: PayloadRecords(
                context, source, entry_bytes=0, redactor=self.redactor, now=self.clock.time
            ),
            sink,
            checkpoint=paths.work / ".realtime_position.json",
            clock=self.clock,
            settings=ShipSettings(interval_s=self.config.realtime.interval_s),
        )
        return shipper, sink


def _engines(world: World) -> Engines:
    """The real choice of engines, with the world's for Docker and for scripts."""
    engines = Engines(world.config.payload, world.clock, world.config.kubernetes)
    engines._process = FakeEngine(clock=world.clock)  # type: ignore[assignment]
    engines._docker = world.engine  # type: ignore[assignment]
    engines._beside = world.engine
    return engines
