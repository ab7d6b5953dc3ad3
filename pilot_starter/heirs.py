"""Concrete classes behind the starter's functions: server, engines, log sinks."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from container.contract import Engine
from container.docker_engine import DockerEngine
from container.errors import EngineError
from container.process_engine import ProcessEngine
from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.config import ServerConfig
from pilot_core.ledger import HeldJob
from pilot_core.logship.contract import Sink
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.sinks.make import make_sink
from pilot_core.logship.target import parse_target
from pilot_core.model.report import JobReport
from pilot_core.server.client import PandaServer
from pilot_starter.config import StarterConfig
from pilot_starter.credentials import Credentials
from pilot_starter.lastwill import Heirs

__all__ = ["Services", "with_port"]

log = logging.getLogger(__name__)

# pilot3 `--port`: what a server URL without a port means.
_PORT = 25443


def with_port(url: str) -> str:
    """Base URL of a PanDA server with its port and without a path."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or _PORT}"


@dataclass(frozen=True, slots=True)
class Services:
    """What the starter asks of others once the pilot is gone."""

    config: StarterConfig
    credentials: Credentials
    clock: Clock

    @property
    def heirs(self) -> Heirs:
        """For the last will."""
        return Heirs(send=self.send, tidy=self.tidy)

    def send(self, report: JobReport, budget: Budget, stop: threading.Event) -> None:
        """Deliver a report."""
        server = self._server(self.config.server_url)
        try:
            server.update_job(report, budget=budget, stop=stop)
        finally:
            server.close()

    def upload(self, path: Path, budget: Budget, stop: threading.Event) -> None:
        """Store the worker's log where Harvester said its readers will look."""
        server = self._server(self.config.log_upload_url or self.config.server_url)
        try:
            server.upload_worker_log(path, budget=budget, stop=stop)
        finally:
            server.close()

    def tidy(self, held: HeldJob) -> None:
        """Remove the job's containers and processes, by label."""
        if not held.labels:
            return
        engines: tuple[Engine, ...] = (ProcessEngine(clock=self.clock), DockerEngine(clock=self.clock))
        for engine in engines:
            try:
                for leftover in engine.leftovers(held.labels):
                    engine.remove_leftover(leftover)
                    log.info("removed %s %s", engine.name, leftover.name or leftover.id)
            except EngineError as err:
                # No Docker on this node is the rule at a batch site.
                log.info("%s: nothing can be removed: %s", engine.name, err)
            finally:
                engine.close()

    def _server(self, url: str) -> PandaServer:
        credentials = self.credentials
        origin = self.config.credentials.token_origin
        return PandaServer(
            ServerConfig(
                url=with_port(url),
                api=self.config.server_api,
                proxy_file=credentials.proxy_file,
                token_file=credentials.token_file,
                token_origin=origin,
                ca_file=self.config.ca_file,
                ca_path=self.config.ca_path,
                read_s=20.0,
            ),
            clock=self.clock,
            harvester_id=self.config.harvester_id,
            worker_id=self.config.worker_id,
        )

    def open_sink(self) -> Sink:
        """Where the worker's log is shipped to."""
        config = self.config
        facts = PodFacts(
            namespace=config.pod.namespace,
            pod=config.pod.pod,
            container=config.pod.container,
            job=config.queue,
            task=str(config.worker_id or ""),
        )
        return make_sink(parse_target(config.logging.server), config.logging.logname, facts)
