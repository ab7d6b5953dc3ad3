"""The containers that one payload started itself: found, measured, removed."""

import logging
import os
import re
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from container.contract import Leftover
from container.docker_engine import DockerEngine
from container.docker_stats import Meter
from container.errors import EngineError
from container.spec import Stats, highest
from container.stream import ready
from pilot_core.base.clock import Clock
from pilot_core.base.files import tail_bytes

__all__ = ["PayloadContainers", "total"]

log = logging.getLogger(__name__)

# Seconds in which a daemon that did not answer is not asked again: the stop
# of a payload must not wait for it at each look.
_REST_S = 5.0
# A clock that lost so much was set back, and tells nothing of the daemon.
_SET_BACK_S = 1.0
# What the client writes into a cidfile, and room for a line end.
_ID = re.compile(r"[0-9a-f]{64}")
_ID_BYTES = 66
_SUMMED = (
    "cpu_s",
    "rss",
    "pss",
    "vmem",
    "swap",
    "rchar",
    "wchar",
    "read_bytes",
    "write_bytes",
    "processes",
    "threads",
    "refused_forks",
)


class PayloadContainers:
    """The containers of one payload, found anew at each look.

    Parameters
    ----------
    docker
        The engine they run on.
    labels
        The shim's labels for this payload.
    sources
        Host folders of this payload alone.
    ids
        Folder where the shim leaves the ids of containers it started.
    clock
        Source of time.
    """

    def __init__(
        self,
        docker: DockerEngine | None,
        labels: Mapping[str, str],
        sources: frozenset[str],
        *,
        ids: "tempfile.TemporaryDirectory[str]",
        clock: Clock,
    ) -> None:
        self._docker = docker
        self._labels = labels
        self._sources = sources
        self._ids = ids
        self._clock = clock
        self._since, self._began = clock.time(), clock.monotonic()
        self._meters: dict[str, Meter] = {}
        # Those that ended before we had seen them run.
        self._over: set[str] = set()
        self._rest_until = 0.0
        self._away = ""
        self._lock = threading.Lock()

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of all that were measured, as of their last measurement."""
        seen = [meter.cpu_s for meter in list(self._meters.values()) if meter.cpu_s is not None]
        return sum(seen) if seen else None

    @property
    def refused(self) -> int:
        """How many forks the kernel refused them."""
        return sum(meter.refused for meter in list(self._meters.values()))

    @property
    def max_rss(self) -> int | None:
        """Highest resident memory of one of them, bytes."""
        return highest(*(meter.max_rss for meter in list(self._meters.values())))

    def stats(self) -> list[Stats]:
        """One for each that runs; ended ones count with the CPU time they had."""
        running = self.running()
        with self._lock:
            for container_id in running:
                self._measure(container_id)
            now = [self._meters[i].stats() for i in running if i in self._meters]
            ended = [m.cpu_s for i, m in self._meters.items() if i not in running and m.cpu_s]
        return [*now, Stats(cpu_s=sum(ended))] if ended else now

    def processes(self) -> list[str]:
        """A table of processes for each that runs."""
        docker = self._docker
        return [f"container {i[:12]}:\n{docker.processes(i)}" for i in self.running() if docker is not None]

    def watch(self, timeout_s: float, *more: int) -> set[int]:
        """Measure those that the shim has told of, so that a short life counts
        too, for so many seconds or until one of them ends.

        Returns
        -------
        set
            Those of the file numbers in `more` that became readable; any of
            them ends the watch, too.
        """
        with self._lock:
            for container_id in self._ids_seen() - self._meters.keys() - self._over:
                self._measure(container_id)
            meters = list(self._meters.values())
        for meter in meters:
            meter.look()
        found = ready((*more, *(meter.fileno() for meter in meters)), timeout_s)
        for meter in meters:
            if meter.fileno() in found:
                meter.last_look()
        return found.intersection(more)

    def clients(self) -> set[int]:
        """Processes that are, or were, docker clients of its containers."""
        return {int(name) for name in self._told() if name.isdecimal()}

    def _measure(self, container_id: str) -> None:
        if container_id not in self._meters and self._docker is not None:
            try:
                meter = self._docker.meter(container_id)
            except EngineError as err:
                log.debug("%s", err)
                return
            if meter is None:
                self._over.add(container_id)
            else:
                self._meters[container_id] = meter

    @property
    def possible(self) -> bool:
        """False if there is no Docker here."""
        return self._docker is not None

    @property
    def unknown(self) -> str:
        """Words if it had containers and the daemon does not say whether they
        run.
        """
        return f"its containers may still run: {self._away}" if self._away and self._ids_seen() else ""

    def running(self) -> list[str]:
        """Ids of those there, whatever their state; empty if nobody answers."""
        if self._docker is None or self._clock.monotonic() < self._rest_until:
            return []
        try:
            found = self._docker.find(self._labels, self._sources)
        except EngineError as err:
            self._rest_until = self._clock.monotonic() + _REST_S
            self._away = str(err)
            log.warning("containers of the payload are not known: %s", err)
            return []
        self._away = ""
        return [one.id for one in found if not self._foreign(one)]

    def signal(self, container_id: str, signum: str) -> None:
        """Signal one; a daemon that does not answer is not waited for long."""
        if self._docker is not None:
            try:
                self._docker.signal(container_id, signum)
            except EngineError as err:
                log.warning("%s", err)

    def clear(self) -> list[str]:
        """Kill and delete all of them; the short ids of those found."""
        found = self.running()
        for container_id in found:
            with self._lock:
                self._measure(container_id)
                if container_id in self._meters:
                    self._meters[container_id].stats()
            try:
                if self._docker is not None:
                    self._docker.remove(container_id)
            except EngineError as err:
                log.warning("%s", err)
        return [container_id[:12] for container_id in found]

    def out_of_memory(self) -> bool:
        """True if one of them, gone or not, ran out of memory."""
        if self._docker is None:
            return False
        if self._clock.monotonic() < self._rest_until:
            return False
        try:
            return self._docker.out_of_memory(self._ids_seen(), self._since, self._clock.time())
        except EngineError as err:
            log.warning("whether a container ran out of memory is not known: %s", err)
            return False

    def gone_with_daemon(self) -> str:
        """Words if it had containers and their daemon went away meanwhile."""
        ids, now = self._ids_seen(), self._clock.time()
        if now - self._since < self._clock.monotonic() - self._began - _SET_BACK_S:
            # What the daemon remembers of them may lie in its future.
            return ""
        return self._docker.gone(ids, self._since, now) if self._docker and ids else ""

    def close(self) -> None:
        """Delete the folder of ids."""
        for meter in list(self._meters.values()):
            meter.close()
        self._ids.cleanup()

    def _foreign(self, found: Leftover) -> bool:
        """A mounted folder is a hint; a label that names another payload is
        proof.
        """
        return any(found.labels.get(key, value) != value for key, value in self._labels.items())

    def _ids_seen(self) -> set[str]:
        """Every container it is known to have had; the shim leaves a file for
        each.
        """
        seen = set(self._meters)
        for name in self._told():
            # The payload may write there, too: a FIFO would be waited for.
            text = tail_bytes(Path(self._ids.name) / name, _ID_BYTES).decode("ascii", "replace").strip()
            if _ID.fullmatch(text):
                seen.add(text)
        return seen

    def _told(self) -> list[str]:
        """Names of the shim's files: the pid of each client."""
        try:
            return os.listdir(self._ids.name)
        except OSError:
            return []


def total(first: Stats, *others: Stats) -> Stats:
    """PURE: sum of what parts use; one that does not know a number adds
    nothing.
    """
    parts = (first, *others)
    sums = {}
    for name in _SUMMED:
        known = [value for value in (getattr(part, name) for part in parts) if value is not None]
        sums[name] = sum(known) if known else None
    sources = dict.fromkeys(part.source for part in parts if part.source)
    return Stats(**sums, source=" + ".join(sources))
