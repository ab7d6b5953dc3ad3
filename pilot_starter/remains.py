"""What a dead pilot's job left on this node: containers, processes, logs,
folders.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from container.contract import Engine
from container.docker_engine import DockerEngine
from container.errors import EngineError
from container.kube_api import Cluster
from container.kube_engine import KubeEngine
from container.process_engine import ProcessEngine
from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.files import remove_tree
from pilot_core.base.redact import Redactor
from pilot_core.config import StorageConfig
from pilot_core.errors import PilotError
from pilot_core.experiments.files import forget_secrets, log_files
from pilot_core.ledger import HeldJob
from pilot_core.model.payload import JobPaths
from pilot_core.storage.logs import LogUploader
from pilot_core.storage.tools import COPYTOOLS

__all__ = ["Remains", "Stored"]

log = logging.getLogger(__name__)

# A daemon call while others wait for us.
_CALL_S = 2.0
# A client that was just killed may have asked the daemon for one more
# container.
_LOOKS = 3
_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Stored:
    """Which logs are stored.

    Attributes
    ----------
    url
        Of the pilot's log; empty if that is not stored.
    left
        Those that are not.
    unknown
        It is not known where they belong: nothing can be stored.
    """

    url: str = ""
    left: tuple[Path, ...] = ()
    unknown: bool = False

    @property
    def complete(self) -> bool:
        """True if nothing is left to be stored."""
        return not self.left and not self.unknown


class Remains:
    """Removes what still runs, stores the logs; within a budget, and never
    raises.

    Parameters
    ----------
    docker_url
        Where the daemon listens; None for the usual socket.
    pods
        The cluster, given the seconds for a call.
    engine
        What runs payloads, where the job's record does not say.
    storage
        For the copytools.
    redactor
        What it knows is masked in the logs: the job's secrets come to it when
        `tidy` removes them.
    """

    def __init__(
        self,
        *,
        docker_url: str | None,
        storage: StorageConfig,
        clock: Clock,
        pods: Callable[[float], Cluster],
        redactor: Redactor,
        engine: str = "",
    ) -> None:
        self._docker_url = docker_url
        self._pods = pods
        self._engine = engine
        self._storage = storage
        self._clock = clock
        self._redactor = redactor

    def tidy(self, held: HeldJob, budget: Budget) -> None:
        """Kill and remove the job's processes and containers, then its secrets.

        Those are found by our labels, and containers that a payload started
        past our labels by the job's own folder, which they mount.
        """
        if held.labels:
            self._clear_all(held, budget)
        if held.work:
            # The folder stays where its logs cannot be stored.
            self._redactor.add(*forget_secrets(_paths(held)))

    def _clear_all(self, held: HeldJob, budget: Budget) -> None:
        self._clear(ProcessEngine(clock=self._clock), held, budget)
        call_s = min(_CALL_S, max(0.1, budget.left / 2))
        if (held.engine or self._engine) == "kubernetes":
            # The pod's name is not needed: nothing is started.
            self._clear(KubeEngine(self._pods(call_s), pod="", clock=self._clock), held, budget)
            return
        docker = DockerEngine(base_url=self._docker_url, clock=self._clock, call_s=call_s)
        self._clear(docker, held, budget)

    def _clear(self, engine: Engine, held: HeldJob, budget: Budget) -> None:
        pause = threading.Event()
        try:
            for _ in range(_LOOKS):
                found = list(engine.leftovers(held.labels))
                if isinstance(engine, DockerEngine) and held.shared:
                    known = {one.id for one in found}
                    mounted = engine.find(held.labels, [held.shared])
                    found += [one for one in mounted if one.id not in known]
                if not found:
                    return
                for leftover in found:
                    if budget.spent:
                        log.error("skipped: removal of %s %s, no time", engine.name, leftover.name)
                        continue
                    engine.remove_leftover(leftover)
                    log.info("removed %s %s", engine.name, leftover.name or leftover.id)
                self._clock.wait(pause, min(_PAUSE_S, budget.left))
        except EngineError as err:
            # No Docker on this node is the rule at a batch site.
            log.info("%s: nothing can be removed: %s", engine.name, err)
        finally:
            engine.close()

    def store(self, held: HeldJob, budget: Budget, *, only: tuple[Path, ...] = ()) -> Stored:
        """Store the job's logs, or `only` some of them, where the pilot would
        have.

        What has no time left is named in the log.
        """
        paths = _paths(held)
        files = only or tuple(log_files(paths))
        if not files:
            return Stored()
        if not held.log_prefix or held.copytool not in COPYTOOLS:
            where = f"copytool {held.copytool!r}, place {held.log_prefix!r}"
            log.error("skipped: the job's logs, for nobody knows where to (%s)", where)
            return Stored(left=files, unknown=True)
        if budget.spent:
            log.error("skipped: storing %s, no time", ", ".join(path.name for path in files))
            return Stored(left=files)
        try:
            tool = COPYTOOLS[held.copytool](self._storage, self._clock)
            uploader = LogUploader(
                tool,
                held.log_prefix,
                clock=self._clock,
                roots=(paths.work, paths.shared),
                redactor=self._redactor,
                cap_bytes=self._storage.cap_bytes,
            )
            told = uploader.upload(files, budget=budget)
        except (PilotError, OSError) as err:
            log.error("the job's logs cannot be stored: %s", err)
            return Stored(left=files)
        if told.failed:
            names = ", ".join(path.name for path in told.failed)
            log.warning("not stored within %.1f s: %s", budget.seconds, names)
        pilot_log = told.stored.get(paths.log)
        url = "" if pilot_log is None else uploader.url(paths.log.name) or pilot_log.url
        return Stored(url=url, left=tuple(told.failed))

    def drop(self, held: HeldJob) -> None:
        """Delete the job's folders: all of it is stored."""
        for folder in (held.work, held.shared):
            if folder:
                remove_tree(Path(folder))


def _paths(held: HeldJob) -> JobPaths:
    work = Path(held.work)
    return JobPaths(home=work.parent, work=work, shared=Path(held.shared))
