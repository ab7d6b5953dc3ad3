"""Concrete classes behind the starter's functions: server, job's remains, log
sinks.
"""

import threading
from dataclasses import dataclass, replace
from pathlib import Path

from container.kube_api import ACCOUNT, Cluster
from pilot_core.base import text
from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.ownsecrets import own_secrets
from pilot_core.base.redact import Redactor
from pilot_core.config import ServerConfig
from pilot_core.errors import PilotError
from pilot_core.finalreport import deliver
from pilot_core.logship.contract import Sink
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.sinks.make import make_sink
from pilot_core.logship.target import parse_target
from pilot_core.model.report import JobReport
from pilot_core.server.auth import Auth
from pilot_core.server.client import PandaServer
from pilot_core.server.url import base_url
from pilot_starter.config import StarterConfig
from pilot_starter.credentials import Credentials
from pilot_starter.lastwill import Heirs
from pilot_starter.remains import Remains

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """What the starter asks of others once the pilot is gone."""

    config: StarterConfig
    credentials: Credentials
    clock: Clock

    @property
    def heirs(self) -> Heirs:
        """For the last will."""
        docker_url = self.config.child_environment.get("DOCKER_HOST") or None
        # The proxy that the pilot had: our copy, where there is one.
        proxy = self.credentials.proxy_file or self.config.storage.proxy_file
        storage = replace(self.config.storage, proxy_file=proxy)
        remains = Remains(
            docker_url=docker_url,
            storage=storage,
            clock=self.clock,
            pods=self._cluster,
            redactor=self._redactor(),
            engine=self.config.child_environment.get("PILOT_ENGINE", ""),
        )
        return Heirs(
            send=self.send,
            tidy=remains.tidy,
            store=lambda held, budget, only: remains.store(held, budget, only=only),
            drop=remains.drop,
        )

    def _redactor(self) -> Redactor:
        """Knows what the pilot knew, but for its job's secrets."""
        given = self.credentials
        files = (given.proxy_file, given.token_file, given.token_key_file)
        return Redactor(own_secrets(files, self.config.child_environment))

    def _cluster(self, call_s: float) -> Cluster:
        """The cluster that we run in."""
        environment = self.config.child_environment
        return Cluster(
            namespace=environment.get("POD_NAMESPACE", ""),
            account=Path(environment.get("PILOT_SERVICE_ACCOUNT") or ACCOUNT),
            environment=environment,
            call_s=call_s,
        )

    def send(self, report: JobReport, budget: Budget, stop: threading.Event) -> None:
        """Deliver a final report, as the pilot would have."""
        server = self._server(self._base)
        try:
            deliver(server, report, budget=budget, stop=stop)
        finally:
            server.close()

    def upload(self, path: Path, budget: Budget, stop: threading.Event) -> None:
        """Store the worker's log where Harvester said its readers will look."""
        server = self._server(base_url(self.config.log_upload_url, setting="logs_frontend_w"))
        try:
            server.upload_worker_log(path, budget=budget, stop=stop)
        finally:
            server.close()

    def credential_ends(self) -> dict[str, float]:
        """Epoch seconds at which proxy and token end, as far as that is known."""
        try:
            ends = Auth(self._who(self._base)).expires()
        except PilotError:
            return {}
        return {credential.name.lower(): end for credential, end in ends.items()}

    @property
    def _base(self) -> str:
        return base_url(self.config.server_url, setting="PANDA_SERVER_URL")

    def _server(self, base: str) -> PandaServer:
        return PandaServer(
            self._who(base),
            clock=self.clock,
            harvester_id=self.config.harvester_id,
            worker_id=self.config.worker_id,
        )

    def _who(self, base: str) -> ServerConfig:
        return ServerConfig(
            url=base,
            api=self.config.server_api,
            proxy_file=self.credentials.proxy_file,
            token_file=self.credentials.token_file,
            token_origin=self.config.credentials.token_origin,
            ca_file=self.config.ca_file,
            ca_path=self.config.ca_path,
            read_s=20.0,
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
        given = config.child_environment
        labels = text.listed(given.get("LOKI_LABELKEYS", ""))
        target = parse_target(config.logging.server, given.get("LOKI_URL", ""), labels)
        return make_sink(target, config.logging.logname, facts)
