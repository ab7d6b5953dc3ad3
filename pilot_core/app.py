"""Builds every object of a pilot: the only module that names adapters.

Tables map the words of queues and options (copytool `gs`, engine `docker`,
`--pilot-user rubin`) to what implements them; adding one is a line here and a
file there.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from container.contract import Container
from pilot_core.agent import Agent
from pilot_core.asking import Asking, life_left_s
from pilot_core.attend import AgentEvent
from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.redact import Redactor
from pilot_core.config import Config
from pilot_core.debugging import debug_output
from pilot_core.engines import Engines
from pilot_core.errors import PilotError, SetupError, StorageError
from pilot_core.experiments.contract import Experiment
from pilot_core.experiments.generic import GenericExperiment
from pilot_core.experiments.rubin import RubinExperiment
from pilot_core.info.contract import Information
from pilot_core.info.cric import CricInformation
from pilot_core.info.fetch import HttpFetch
from pilot_core.jobfiles import JobFiles
from pilot_core.jobs.contract import JobSource
from pilot_core.jobs.pull import PullSource
from pilot_core.jobs.pushed import PushedSource
from pilot_core.jobtools import Drain, JobTools, Signal
from pilot_core.ledger import Ledger
from pilot_core.limits import Judge, limits_for
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue
from pilot_core.monitor.container import ContainerMonitor
from pilot_core.monitor.disk import DiskMonitor, TreeMonitor
from pilot_core.monitor.node import describe_node
from pilot_core.monitor.output import OutputMonitor
from pilot_core.monitor.prmon import PrmonMonitor
from pilot_core.monitor.prmon_writer import PrmonWriter
from pilot_core.monitor.sampler import Sampler
from pilot_core.pulse import Pulse
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import Server
from pilot_core.server.harvester import HARVESTER_NAMES, PILOT3_NAMES, HarvesterServer
from pilot_core.server.renewing import RenewingServer
from pilot_core.server.silent import SilentServer
from pilot_core.signals import Signals
from pilot_core.storage.tools import COPYTOOLS, installed
from pilot_core.vitals import CountedServer, Vitals
from pilot_core.watch import Watch
from pilot_core.wrapup import Wrapper

if TYPE_CHECKING:
    from pilot_core.logship.contract import Sink
    from pilot_core.logship.resource import PodFacts
    from pilot_core.logship.shipper import LogShipper
    from pilot_core.logship.target import Target

__all__ = ["Pilot"]

log = logging.getLogger(__name__)

EXPERIMENTS: Mapping[str, Callable[[Sequence[str]], Experiment]] = {
    "rubin": lambda names: RubinExperiment(pass_environment=names),
    "generic": lambda names: GenericExperiment(pass_environment=names),
}

#: Where a job's logs go: storage data from all sources.
STORAGE_DATA_S = 60.0


class Pilot:
    """All objects of one pilot.

    Within the `with` block its directory is claimed and signals are heard; the
    end of the block lets go of connections and of our mark on this node.

    Parameters
    ----------
    listen
        Has signals told to the function that it is given; those of this
        process if None. They stay heard to the end of the process: a drain
        that comes last must not kill it.
    """

    def __init__(
        self,
        config: Config,
        *,
        redactor: Redactor,
        clock: Clock,
        listen: Callable[[Callable[[Signal | Drain], None]], None] | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.redactor = redactor
        self.inbox: Inbox[AgentEvent] = Inbox()
        self.experiment = _experiment(config.worker.pilot_user, config.payload.pass_environment)
        self.engines = Engines(config.payload, clock, config.kubernetes)
        worker = config.worker
        self.node = describe_node(
            worker.hostname,
            batch_type=worker.batch_type,
            batch_id=worker.batch_id,
            scheduler_id=worker.scheduler_id,
        )
        self.vitals = Vitals()
        self.server: Server = CountedServer(self._connect(), self.vitals, clock=clock)
        fetch = HttpFetch(clock=clock, ca_file=config.info.ca_file, ca_path=config.info.ca_path)
        self.information: Information = CricInformation(config.info, clock=clock, fetch=fetch)
        self.files = JobFiles(
            lambda name, budget: self.information.storage(name, budget=budget),
            tools=COPYTOOLS,
            installed=installed,
            config=config.storage,
            monitor=config.monitor,
            clock=clock,
            redactor=redactor,
            uploaded=self.vitals.uploaded,
        )
        self._log_target = self._find_log_target()
        self._signals = Signals(config, clock=clock)
        self._listen = listen or self._signals.listen
        self._born = clock.monotonic()
        self._asking: Asking | None = None
        self._ledger = Ledger(config.worker.home)
        self._stack = contextlib.ExitStack()
        self.agent = Agent(
            config=config,
            tools=self._tools(),
            information=self.information,
            make_source=self._source,
            open_engines=self.engines.open,
            leave_engines=self.engines.leave,
            inbox=self.inbox,
            clock=clock,
        )

    def _connect(self) -> Server:
        """The server, with Harvester's files beside it where there is a shared
        folder.
        """
        harvester = self.config.harvester
        if harvester.folder is None:
            return self._panda()
        return HarvesterServer(
            self._panda(),
            harvester.folder,
            clock=self.clock,
            names=PILOT3_NAMES if harvester.names == "pilot3" else HARVESTER_NAMES,
            attributes=harvester.attributes,
            files=harvester.files,
        )

    def _panda(self) -> Server:
        worker = self.config.worker
        if not self.config.server.talk:
            return SilentServer(worker.home / "heartbeat.json")
        server = PandaServer(
            self.config.server, clock=self.clock, harvester_id=worker.harvester_id, worker_id=worker.worker_id
        )
        renewing = RenewingServer(server, clock=self.clock)
        # Said now: what would fail at the first request, or soon.
        renewing.look()
        return renewing

    def __enter__(self) -> "Pilot":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._ledger.claimed())
            stack.callback(self.server.close)
            stack.enter_context(self.engines)
            self._stack = stack.pop_all()
        self._listen(self.inbox.put)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _tools(self) -> JobTools:
        return JobTools(
            server=self.server,
            experiment=self.experiment,
            ledger=self._ledger,
            redactor=self.redactor,
            clock=self.clock,
            node=self.node,
            owner=lambda: self.engines.labels,
            engine_for=self.engines.engine_for,
            stage_in=self.files.stage_in,
            shipper_for=self._shipper,
            watch_for=self._watch,
            wrapper_for=self._wrapper,
            log_prefix_for=self.files.log_place,
            uploader_for=self.files.uploader,
            debug_output=debug_output,
            alive=Pulse(self.config.worker.home, self.clock, vitals=self.vitals.document).beat,
            why=self._signals.why,
        )

    # --- jobs ---------------------------------------------------------------

    def _source(self, queue: Queue) -> JobSource:
        if self.config.jobs.submit_mode == "PUSH":
            return PushedSource(self.config.jobs, home=self.config.worker.home, clock=self.clock)

        if self._asking is None:
            self._asking = Asking(self.server, queue, config=self.config, node=self.node, age_s=self._age_s)
        self._asking.queue = queue
        return PullSource(self._asking.acquire, config=self.config.jobs, clock=self.clock)

    def _age_s(self) -> float:
        return self.clock.monotonic() - self._born

    # --- logs and watching --------------------------------------------------

    def _find_log_target(self) -> "Target | None":
        """Where the payload's log goes; said at the start, before any job."""
        realtime = self.config.realtime
        if not realtime.enabled:
            return None
        from pilot_core.logship.target import parse_target

        if not realtime.files:
            log.error("real-time logging is off: REALTIME_LOGFILES names no file")
            return None
        try:
            return parse_target(realtime.server, realtime.loki_url, realtime.loki_labels)
        except ValueError as err:
            log.error("real-time logging is off: --realtime-logging-server %s", err)
            return None

    def _shipper(self, job: Job, paths: JobPaths) -> "tuple[LogShipper, Sink] | None":
        realtime = self.config.realtime
        if self._log_target is None:
            return None
        # Imported here: a pilot without real-time log does without this 1 MB.
        from pilot_core.logship.disk import ConfinedDisk, folders_outside
        from pilot_core.logship.record import JobContext, PayloadRecords
        from pilot_core.logship.shipper import LogShipper, ShipSettings
        from pilot_core.logship.sinks.make import make_sink

        worker = self.config.worker
        context = JobContext(
            task_id=str(job.task_id or ""),
            panda_job_id=str(job.panda_id),
            harvester_worker_id=str(worker.worker_id or ""),
            harvester_id=worker.harvester_id,
            request_id=job.request_id,
        )
        try:
            sink = make_sink(self._log_target, realtime.logname, self._facts(), job.pilot_secrets)
        except ValueError as err:
            log.error("real-time logging is off: %s", err)
            return None
        files = [paths.work / name for name in realtime.files]
        shipper = LogShipper(
            files,
            lambda source: PayloadRecords(
                context,
                source,
                entry_bytes=sink.limits.entry_bytes,
                redactor=self.redactor,
                now=self.clock.time,
            ),
            sink,
            checkpoint=paths.work / ".realtime_position.json",
            clock=self.clock,
            settings=ShipSettings(interval_s=realtime.interval_s, memory_bytes=realtime.memory_bytes),
            disk=ConfinedDisk([paths.work, paths.shared, *folders_outside(paths.work, files)]),
        )
        self.vitals.watch_log(shipper.counts)
        return shipper, sink

    def _facts(self) -> "PodFacts":
        from pilot_core.logship.resource import PodFacts

        worker = self.config.worker
        environment = self.config.payload.environment
        in_pod = worker.batch_type == "Kubernetes"
        return PodFacts(
            namespace=environment.get("POD_NAMESPACE", "default") if in_pod else "",
            pod=worker.pod_name if in_pod else "",
            container=environment.get("CONTAINER_NAME", "") if in_pod else "",
            job=worker.queue,
            task=str(worker.worker_id or ""),
        )

    def _watch(
        self, job: Job, queue: Queue, paths: JobPaths, container: Container, started_s: float
    ) -> Watch:
        self.vitals.put("payload/started", started_s)
        folders = [paths.work, paths.shared]
        sampler = Sampler(
            [
                ContainerMonitor(container.stats),
                PrmonMonitor(folders),
                DiskMonitor(*folders),
                TreeMonitor(folders),
                OutputMonitor(paths.stdout, paths.stderr),
            ],
            started=started_s,
            clock=self.clock,
        )
        # What the wrap-up needs of the pilot's life is not the payload's.
        left = life_left_s(self.config, queue, self._age_s())
        remaining_s = max(0.0, left - self.config.wrapup.drain_s - self.config.wrapup.upload_s)
        limits = limits_for(job, queue, self.config.monitor, remaining_s=remaining_s)
        return Watch(
            sampler,
            Judge(limits),
            writer=PrmonWriter(paths.work),
            period_s=self.config.monitor.sample_s,
            clock=self.clock,
        )

    # --- after the payload --------------------------------------------------

    def _wrapper(
        self, job: Job, queue: Queue, paths: JobPaths, shipper: "LogShipper | None", budget: Budget
    ) -> Wrapper:
        uploader, problem, place = None, None, None
        try:
            place = self.files.log_destination(job, queue, budget)
            if not place.tarball:
                uploader = self.files.uploader(place.copytool, place.prefix, paths)
        except PilotError as err:
            problem = StorageError(err.diag, err.code)
        return Wrapper(
            job,
            paths,
            experiment=self.experiment,
            shipper=shipper,
            uploader=uploader,
            no_storage=problem,
            bundle=lambda part: None if place is None else self.files.bundle(job, queue, paths, place, part),
            stage_out=lambda part: self.files.stage_out(job, queue, paths, part),
            config=self.config.wrapup,
        )


def _experiment(name: str, pass_environment: Sequence[str]) -> Experiment:
    if name not in EXPERIMENTS:
        raise SetupError(f"--pilot-user={name!r}: expected one of {', '.join(sorted(EXPERIMENTS))}")
    return EXPERIMENTS[name](pass_environment)
