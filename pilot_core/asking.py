"""What the pilot asks the server for: a job that fits this node, this queue
and the time that is left.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping

from pilot_core.base.budget import Budget
from pilot_core.config import Config
from pilot_core.model.queue import Queue
from pilot_core.model.report import Node
from pilot_core.server.contract import JobRequest, Server

__all__ = ["Asking", "life_left_s"]

log = logging.getLogger(__name__)


def life_left_s(config: Config, queue: Queue, age_s: float) -> float:
    """Seconds a pilot of this age may still live: its own limit (-l) or the
    queue's, whichever ends first.
    """
    limits = [config.worker.lifetime_s, queue.maxtime_s] if queue.maxtime_s else [config.worker.lifetime_s]
    return min(limits) - age_s


class Asking:
    """Asks for jobs of one queue; called from one thread at a time.

    Parameters
    ----------
    age_s
        How old the pilot is.
    load
        Load of the node, as `os.getloadavg` has it for the last minute.
    """

    def __init__(
        self,
        server: Server,
        queue: Queue,
        *,
        config: Config,
        node: Node,
        age_s: Callable[[], float],
        load: Callable[[], float] = lambda: os.getloadavg()[0],
    ) -> None:
        self._server = server
        self._config = config
        self._node = node
        self._age_s = age_s
        self._load = load
        self._task_id: int | None = None
        self.queue = queue

    def acquire(self, *, budget: Budget, stop: threading.Event) -> Mapping[str, object] | None:
        """One request; see `contract.Server.acquire_job`."""
        load, most = self._load(), self._node.cores * self._config.jobs.load_factor
        if self._config.jobs.wait_for_load and load > most:
            log.info("not asking for a job: load %.1f is above %.1f", load, most)
            return None
        raw = self._server.acquire_job(self.request(), budget=budget, stop=stop)
        if raw is not None and self._config.jobs.allow_same_user:
            # As in pilot3: who gets one job of a task takes the next ones from
            # it, too.
            task = str(raw.get("taskID"))
            self._task_id = int(task) if task.isdecimal() and len(task) < 19 else None
        return raw

    def request(self) -> JobRequest:
        """What fits here and now."""
        worker, jobs, queue = self._config.worker, self._config.jobs, self.queue
        free_mb = shutil.disk_usage(worker.home).free // 2**20
        label = "test" if queue.status.lower() == "test" and jobs.label != "ptest" else jobs.label
        wrapup = self._config.wrapup
        left_s = life_left_s(self._config, queue, self._age_s()) - wrapup.drain_s - wrapup.upload_s
        return JobRequest(
            site=queue.resource,
            computing_element=worker.queue,
            label=label,
            node=self._node.name,
            disk_mb=min(free_mb, queue.maxwdir_mb) if queue.maxwdir_mb else free_mb,
            memory_mb=self._node.memory_mb,
            cpu_mhz=self._node.cpu_mhz,
            resource_type=jobs.resource_type,
            job_type=jobs.job_type,
            working_group=jobs.working_group,
            country_group=jobs.country_group,
            allow_other_country=jobs.allow_other_country,
            task_id=self._task_id,
            harvester_id=worker.harvester_id,
            worker_id=worker.worker_id,
            scheduler_id=worker.scheduler_id,
            remaining_s=max(1, int(left_s)),
        )
