"""The container engines of this node, and our mark on what they start."""

import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from container.companions import CompanionEngine
from container.contract import Engine
from container.docker_engine import DockerEngine
from container.errors import EngineError
from container.process_engine import ProcessEngine
from container.reaper import Owner, Reaper
from pilot_core.base.clock import Clock
from pilot_core.compile import FAMILY
from pilot_core.config import KubernetesConfig, PayloadConfig
from pilot_core.errors import NodeError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.payload import PayloadKind

if TYPE_CHECKING:
    from container.kube_engine import KubeEngine

__all__ = ["Engines"]

log = logging.getLogger(__name__)

#: At its end the pilot waits so long for a Docker daemon that is being
#: restarted.
LEAVE_S = 20.0


class Engines:
    """The engines of this node; Docker is looked for when the first job needs
    to know.

    Parameters
    ----------
    config
        Which engine; where the folder is that all pilots of a node share.
    kubernetes
        The cluster, for payloads that run as pods.
    """

    def __init__(self, config: PayloadConfig, clock: Clock, kubernetes: KubernetesConfig) -> None:
        self._config = config
        self._clock = clock
        self._process = ProcessEngine(clock=clock)
        self._docker: DockerEngine | None = None
        self._pods: KubeEngine | None = None
        if config.engine == "kubernetes":
            self._pods = _pods(kubernetes, config.environment, clock)
        elif config.engine != "process":
            self._docker = DockerEngine(base_url=config.environment.get("DOCKER_HOST") or None, clock=clock)
        self._why_not = f"--engine {config.engine} was asked for"
        self._beside: Engine = CompanionEngine(self._process, self._docker, clock=clock)
        self._stack = contextlib.ExitStack()
        self._reapers: list[Reaper] = []
        self._owner: Owner | None = None
        self.labels: Mapping[str, str] = {}

    def __enter__(self) -> "Engines":
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of connections and of our mark."""
        self._beside.close()
        if self._pods is not None:
            self._pods.close()
        self._stack.close()

    def open(self) -> None:
        """Claim our mark, remove what dead pilots left, and insist on Docker
        or Kubernetes if that was asked for.

        Raises
        ------
        NodeError
            `--engine docker` and no engine answers; `--engine kubernetes` and
            the cluster would take no pod of ours.
        """
        try:
            self._owner = owner = self._stack.enter_context(Owner(self._config.shared_root))
            self.labels = owner.labels
        except OSError as err:
            owner = None
            log.warning("%s: %s: a later pilot could not tell our leftovers", self._config.shared_root, err)
        self._look()
        if owner is not None:
            # Until `leave` has seen that there is nothing: it may never come
            # to that.
            owner.leaves_something = True
            self._reap(owner)
            if self._docker is not None and self._config.image_store_gb > 0:
                self._docker.limit_images(owner, int(self._config.image_store_gb * 1e9))

    def _reap(self, owner: Owner) -> None:
        engines: list[tuple[Engine, bool]] = [(self._process, True)]
        if self._docker is not None:
            engines.append((self._docker, self._docker.local))
        self._reapers = [Reaper(engine, owner, FAMILY, local=local) for engine, local in engines]
        names = [engine.name for engine, _ in engines]
        if self._pods is not None:
            ours = {**FAMILY, **self._pods.here}
            self._reapers.append(
                Reaper(self._pods, owner, ours, local=False, owner_gone=self._pods.owner_gone)
            )
            names.append(self._pods.name)
        for name, reaper in zip(names, self._reapers, strict=True):
            told = reaper.reap()
            if told.failed:
                log.warning("leftovers of engine %s: %s", name, "; ".join(told.failed))

    def leave(self, stop: threading.Event) -> None:
        """Remove what is our own; wait for a daemon that was there and is
        away, but not for long.
        """
        end = self._clock.monotonic() + LEAVE_S
        left: list[str] = []
        for reaper in self._reapers:
            while (told := reaper.leave()).failed:
                if self._clock.monotonic() >= end or self._clock.wait(stop, 0.5):
                    log.error("left behind, for the next pilot to remove: %s", "; ".join(told.failed))
                    left += told.failed
                    break
        if self._owner is not None:
            self._owner.leaves_something = bool(left)

    def engine_for(self, kind: PayloadKind) -> Engine:
        """The engine for a kind of payload; NodeError if there is none."""
        if kind is PayloadKind.TRANSFORMATION:
            return self._beside
        if self._pods is not None:
            return self._pods
        if self._docker is None:
            raise NodeError(
                f"the job names a container image and this node has no container engine: {self._why_not}",
                ErrorCode.QUEUENOTSETUPFORCONTAINERS,
            )
        return self._docker

    def _look(self) -> None:
        if self._pods is not None:
            self._look_at_cluster(self._pods)
        if self._docker is None:
            return
        try:
            log.info("container engine: %s", self._docker.check())
        except EngineError as err:
            if self._config.engine == "docker":
                raise NodeError(f"--engine docker: {err}", ErrorCode.RESOURCEUNAVAILABLE) from err
            log.info("payloads run as plain processes: %s", err)
            self._why_not = str(err)
            self._docker.close()
            self._docker = None
            self._beside = CompanionEngine(self._process, None, clock=self._clock)

    def _look_at_cluster(self, pods: "KubeEngine") -> None:
        """What would fail at the first job fails now, before one is taken."""
        try:
            log.info("container engine: %s", pods.check())
            pods.try_folder(str(self._config.shared_root))
        except EngineError as err:
            raise NodeError(f"--engine kubernetes: {err}", ErrorCode.RESOURCEUNAVAILABLE) from err


def _pods(config: KubernetesConfig, environment: Mapping[str, str], clock: Clock) -> "KubeEngine":
    # Imported here: all other pilots do without these 0.4 MB.
    from container.kube_api import Cluster
    from container.kube_engine import KubeEngine

    cluster = Cluster(namespace=config.namespace, account=config.account, environment=environment)
    return KubeEngine(
        cluster, pod=config.pod, clock=clock, cgroup_root=config.cgroup_root, place_s=config.place_s
    )
