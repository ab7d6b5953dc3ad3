"""The container engines of this node, and our mark on what they start."""

import contextlib
import logging
import threading
from collections.abc import Mapping

from container.companions import CompanionEngine
from container.contract import Engine
from container.docker_engine import DockerEngine
from container.errors import EngineError
from container.process_engine import ProcessEngine
from container.reaper import Owner, Reaper
from pilot_core.base.clock import Clock
from pilot_core.compile import FAMILY
from pilot_core.config import PayloadConfig
from pilot_core.errors import NodeError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.payload import PayloadKind

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
    """

    def __init__(self, config: PayloadConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._process = ProcessEngine(clock=clock)
        self._docker: DockerEngine | None = None
        if config.engine != "process":
            self._docker = DockerEngine(base_url=config.environment.get("DOCKER_HOST") or None, clock=clock)
        self._why_not = "--engine process was asked for"
        self._beside: Engine = CompanionEngine(self._process, self._docker, clock=clock)
        self._stack = contextlib.ExitStack()
        self._reapers: list[Reaper] = []
        self.labels: Mapping[str, str] = {}

    def __enter__(self) -> "Engines":
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of connections and of our mark."""
        self._beside.close()
        self._stack.close()

    def open(self) -> None:
        """Claim our mark, remove what dead pilots left, and insist on Docker
        if it was asked for.

        Raises
        ------
        NodeError
            `--engine docker` and no engine answers.
        """
        owner: Owner | None = None
        try:
            owner = self._stack.enter_context(Owner(self._config.shared_root))
            self.labels = owner.labels
        except OSError as err:
            log.warning("%s: %s: a later pilot could not tell our leftovers", self._config.shared_root, err)
        self._look()
        if owner is not None:
            self._reap(owner)

    def _reap(self, owner: Owner) -> None:
        engines: list[tuple[Engine, bool]] = [(self._process, True)]
        if self._docker is not None:
            engines.append((self._docker, self._docker.local))
        self._reapers = [Reaper(engine, owner, FAMILY, local=local) for engine, local in engines]
        for (engine, _), reaper in zip(engines, self._reapers, strict=True):
            told = reaper.reap()
            if told.failed:
                log.warning("leftovers of engine %s: %s", engine.name, "; ".join(told.failed))

    def leave(self, stop: threading.Event) -> None:
        """Remove what is our own; wait for a daemon that was there and is
        away, but not for long.
        """
        end = self._clock.monotonic() + LEAVE_S
        for reaper in self._reapers:
            while (told := reaper.leave()).failed:
                if self._clock.monotonic() >= end or self._clock.wait(stop, 0.5):
                    log.error("left behind, for the next pilot to remove: %s", "; ".join(told.failed))
                    break

    def engine_for(self, kind: PayloadKind) -> Engine:
        """The engine for a kind of payload; NodeError if there is none."""
        if kind is PayloadKind.TRANSFORMATION:
            return self._beside
        if self._docker is None:
            raise NodeError(
                f"the job names a container image and this node has no container engine: {self._why_not}",
                ErrorCode.QUEUENOTSETUPFORCONTAINERS,
            )
        return self._docker

    def _look(self) -> None:
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
