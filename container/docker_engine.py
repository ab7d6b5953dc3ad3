"""Payloads as containers of a Docker daemon, through its socket.

Behind a shared socket the daemon sees the host's file system: a mount names
the same path on both sides, and the caller sees to it that it has the folder
under that path, too.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from container.contract import QUICK_S, Leftover
from container.convert import create_arguments
from container.docker_api import Daemon, Refused
from container.docker_container import DockerContainer, attach, events, remove
from container.docker_stats import Meter
from container.errors import EngineError, EngineUnavailable, StartError
from container.image_store import DockerImages, ImageStore
from container.labels import carries
from container.look import docker_processes
from container.pull import ensure_image
from container.reaper import Owner
from container.spec import ContainerSpec, PullProgress
from container.stream import Readable
from pilot_core.base.clock import Clock

__all__ = ["DockerEngine"]

log = logging.getLogger(__name__)

#: A daemon that remembers so many events has forgotten older ones.
_EVENTS_KEPT = 256


class DockerEngine:
    """Runs payloads with the Docker SDK.

    Parameters
    ----------
    base_url
        `unix:///path` or `tcp://host:port`; None for `/var/run/docker.sock`.
    clock
        Source of time.
    call_s
        Seconds a call may take before the daemon counts as away.
    start_s
        The same for creating and starting a container, which wait for the
        disk.
    """

    name = "docker"

    def __init__(
        self, *, base_url: str | None = None, clock: Clock, call_s: float = 10.0, start_s: float = 60.0
    ) -> None:
        self._daemon = Daemon(base_url, call_s)
        self._start_s = start_s
        self._store: ImageStore | None = None
        self._clock = clock

    @property
    def local(self) -> bool:
        """True if the daemon is on this node, as far as its address tells."""
        return self._daemon.local

    def check(self) -> str:
        answer = self._daemon.call("version", lambda api: api.version())
        return f"Docker {answer['Version']} (API {answer['ApiVersion']}) at {self._daemon.url}"

    def ensure_image(
        self,
        image: str,
        *,
        timeout_s: float,
        on_progress: Callable[[PullProgress], None],
        cancelled: threading.Event,
    ) -> None:
        if self._store is not None:
            self._store.claim(image)
        pulled = ensure_image(
            self._daemon,
            image,
            timeout_s=timeout_s,
            on_progress=on_progress,
            cancelled=cancelled,
            clock=self._clock,
        )
        if pulled and self._store is not None:
            self._store.pulled(image)

    def limit_images(self, owner: Owner, limit_bytes: int) -> None:
        """From now on remove images of our kind's pulling, longest unused
        first, when all take more than `limit_bytes`.
        """
        self._store = ImageStore(DockerImages(self._daemon), owner, limit_bytes, clock=self._clock)

    def start(self, spec: ContainerSpec) -> DockerContainer:
        container_id = self._create(spec)
        stream: Readable | None = None
        try:
            stream = attach(self._daemon, container_id)
            self._daemon.call(
                f"start {spec.name}", lambda api: api.start(container_id), within_s=self._start_s
            )
            description = self._daemon.call("inspect", lambda api: api.inspect_container(container_id))
            return DockerContainer(
                self._daemon,
                spec.name,
                description,
                stream=stream,
                stdout=spec.stdout,
                stderr=spec.stderr,
                clock=self._clock,
            )
        except (EngineError, OSError) as err:
            if stream is not None:
                stream.close()
            self._forget(container_id)
            raise StartError(f"{spec.name}: {err}") from err

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        return [_leftover(row) for row in self._list(labels)]

    def remove_leftover(self, leftover: Leftover) -> None:
        remove(self._daemon, leftover.id)

    def close(self) -> None:
        self._daemon.close()

    def find(self, labels: Mapping[str, str], sources: Iterable[str]) -> list[Leftover]:
        """Containers with all of these labels, or with one of these host paths
        mounted.

        What lies below such a path counts, too: Rubin's scripts mount a folder
        and once more a file in it. The daemon's own volume filter also matches
        paths inside a container, so all are listed and compared here.
        """
        folders = [os.path.normpath(source) for source in sources]
        return [
            _leftover(row)
            for row in self._list({}, within_s=QUICK_S)
            if (labels and carries(row.get("Labels") or {}, labels)) or _mounts(row, folders)
        ]

    def signal(self, container_id: str, signum: str) -> None:
        """Signal the first process of a container; harmless if it is gone."""
        try:
            self._daemon.call(signum, lambda api: api.kill(container_id, signum), within_s=QUICK_S)
        except Refused as err:
            log.debug("%s", err)

    def remove(self, container_id: str) -> None:
        """Kill and delete any container, soon; harmless if it is gone."""
        remove(self._daemon, container_id, within_s=QUICK_S)

    def meter(self, container_id: str) -> Meter | None:
        """Measures a container that somebody else started; None if it is over.

        Raises
        ------
        Refused
            It has not begun.
        """
        try:
            about = self._daemon.call(
                "inspect", lambda api: api.inspect_container(container_id), within_s=QUICK_S
            )
        except Refused as err:
            if not err.missing:
                raise
            return None
        if about["State"]["Status"] == "created":
            raise Refused(f"container {container_id[:12]} has not started", 409)
        pid = int(about["State"].get("Pid") or 0)
        return Meter(self._daemon, about["Id"], pid) if pid else None

    def processes(self, container_id: str) -> str:
        """A table of the processes of any container, or why there is none."""
        try:
            return docker_processes(self._daemon, container_id)
        except EngineError as err:
            return str(err)

    def has_init(self) -> bool:
        """True if the daemon has the small init that `--init` asks for."""
        answer = self._daemon.call("version", lambda api: api.version())
        parts = {part.get("Name"): part.get("Version") for part in answer.get("Components") or ()}
        return parts.get("docker-init") not in (None, "", "N/A")

    def out_of_memory(self, container_ids: Iterable[str], since: float, until: float) -> bool:
        """True if one of them ran out of memory between two epoch seconds.

        Asks the daemon's memory of events (its last 256), because containers
        run with `--rm` are gone when somebody could look at them.
        """
        ids = list(container_ids)
        if not ids:
            return False
        return bool(events(self._daemon, ids, "oom", since=since, until=until))

    def gone(self, container_ids: Iterable[str], since: float, until: float) -> str:
        """Words if the daemon is going down, or was restarted since an epoch
        second in which these containers were to come; empty if neither.

        Asked through a connection of its own: a daemon that goes down closes
        its door first, and serves the connections it has until its containers
        are stopped. One that comes back has forgotten its events.
        """
        if until < since:
            return ""  # the clock was set back meanwhile
        ids = set(container_ids)
        span: dict[str, Any] = {"since": f"{since:.9f}", "until": f"{until:.9f}"}

        def ask(_: Any) -> list[Mapping[str, Any]]:
            with contextlib.closing(self._daemon.open(timeout_s=QUICK_S)) as api:
                return list(api.events(**span, decode=True))

        try:
            seen = self._daemon.call("events", ask, within_s=QUICK_S)
        except EngineError as err:
            return str(err)
        if len(seen) >= _EVENTS_KEPT or any(event.get("id") in ids for event in seen):
            return ""
        return f"Docker at {self._daemon.url} was restarted"

    def _create(self, spec: ContainerSpec) -> str:
        try:
            answer = self._daemon.call(
                f"create {spec.name}",
                lambda api: api.create_container(**create_arguments(spec)),
                within_s=self._start_s,
            )
        except Refused as err:
            raise StartError(str(err)) from err
        except EngineUnavailable as err:
            # It may have been created all the same: the name is ours alone.
            self._forget(spec.name)
            raise StartError(f"{spec.name}: {err}") from err
        for warning in answer.get("Warnings") or ():
            log.warning("%s: %s", spec.name, warning)
        return str(answer["Id"])

    def _forget(self, container: str) -> None:
        try:
            remove(self._daemon, container)
        except EngineError as err:
            log.error("%s may be left behind: %s", container, err)

    def _list(self, labels: Mapping[str, str], *, within_s: float | None = None) -> list[dict[str, Any]]:
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]} if labels else None
        rows: list[dict[str, Any]] = self._daemon.call(
            "list containers", lambda api: api.containers(all=True, filters=filters), within_s=within_s
        )
        return rows


def _mounts(row: Mapping[str, Any], folders: Sequence[str]) -> bool:
    found = [str(mount.get("Source") or "") for mount in row.get("Mounts") or ()]
    return any(path == folder or path.startswith(folder + "/") for path in found for folder in folders)


def _leftover(row: Mapping[str, Any]) -> Leftover:
    names = row.get("Names") or [""]
    return Leftover(
        id=row["Id"],
        name=names[0].lstrip("/"),
        labels=dict(row.get("Labels") or {}),
        running=row.get("State") in ("running", "paused", "restarting"),
    )
