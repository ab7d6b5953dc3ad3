"""What a payload's pod uses: from its cgroup where the node's tree can be
seen, else what the metrics API knows, else nothing is said.

The metrics API knows the working set, which is memory with the part of the
page cache that was used of late, and the cores of the last seconds, of which
no sum of CPU time can be made.
"""

import logging
import re
import threading
from dataclasses import replace
from pathlib import Path

from container.cgroup import Cgroup
from container.errors import EngineError, Refused
from container.kube_api import Cluster
from container.spec import ContainerExit, Stats, highest

__all__ = ["KubeMeter", "find_pod_cgroup"]

log = logging.getLogger(__name__)

# Controllers of cgroup v1 that hold numbers of ours.
_CONTROLLERS = ("memory", "cpuacct", "blkio", "pids")
# Quantities of Kubernetes, as far as memory comes in them.
_QUANTITY = re.compile(r"(\d+)(Ki|Mi|Gi|k|M|G)?")
_FACTORS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


class KubeMeter:
    """Measures one pod; keeps the last CPU time and the highest RSS.

    Parameters
    ----------
    cluster
        Asked where the cgroup cannot be seen.
    name, uid
        The pod's.
    root
        Where the node's /sys/fs/cgroup is mounted here.
    """

    def __init__(self, cluster: Cluster, name: str, uid: str, *, root: Path) -> None:
        self._cluster = cluster
        self._name = name
        self._uid = uid
        self._root = root
        self._cgroup: Cgroup | None = None
        self._metrics = True
        self._lock = threading.Lock()
        self._cpu_s: float | None = None
        self._max_rss: int | None = None

    def found(self, container_id: str) -> None:
        """The container runs: look for its cgroup."""
        if self._cgroup is None:
            self._cgroup = find_pod_cgroup(self._uid, container_id, self._root)
            self.look()

    def look(self) -> None:
        """Note CPU time and memory, from the cgroup only."""
        if self._cgroup is not None:
            self._note(self._cgroup.stats())

    def stats(self) -> Stats:
        """What it uses now; fields that nobody tells stay None."""
        if self._cgroup is None:
            return self._ask()
        stats = self._cgroup.stats()
        self._note(stats)
        return stats

    def add_to(self, end: ContainerExit) -> ContainerExit:
        """An end with what was measured until then."""
        self.look()
        return replace(end, cpu_s=self._cpu_s, max_rss_bytes=self._max_rss)

    def _ask(self) -> Stats:
        if not self._metrics:
            return Stats()
        try:
            (container,) = self._cluster.usage(self._name)["containers"]
            memory = _bytes(container["usage"]["memory"])
        except Refused as err:
            # 404 also in the first half minute, before there is a sample.
            if not err.missing:
                log.warning("memory of the payload is not known: %s", err)
                self._metrics = False
            return Stats()
        except (EngineError, KeyError, ValueError) as err:
            log.debug("metrics of pod %s: %s", self._name, err)
            return Stats()
        stats = Stats(rss=memory, source="metrics API (working set)")
        self._note(stats)
        return stats

    def _note(self, stats: Stats) -> None:
        with self._lock:
            self._cpu_s = highest(self._cpu_s, stats.cpu_s)
            self._max_rss = highest(self._max_rss, stats.rss)


def find_pod_cgroup(uid: str, container_id: str, root: Path) -> Cgroup | None:
    """The cgroup of a pod's container below `root`; None if it is not there.

    systemd's names have `pod<uid>` with underscores inside a longer name and
    `cri-containerd-<id>.scope` below it, cgroupfs has `pod<uid>/<id>`.
    """
    if (root / "cgroup.controllers").exists():
        folder = _below(root, uid, container_id)
        return Cgroup({"": folder}) if folder else None
    folders = {name: _below(root / name, uid, container_id) for name in _CONTROLLERS}
    found = {name: folder for name, folder in folders.items() if folder}
    return Cgroup(found) if "memory" in found or "cpuacct" in found else None


def _below(root: Path, uid: str, container_id: str) -> Path | None:
    pod = uid.replace("-", "?")
    patterns = (f"kubepods*/*pod{pod}*/*{container_id}*", f"kubepods*/*/*pod{pod}*/*{container_id}*")
    found = (path for pattern in patterns for path in root.glob(pattern) if path.is_dir())
    return next(found, None)


def _bytes(quantity: str) -> int:
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"no amount of memory: {quantity!r}")
    return int(match[1]) * _FACTORS[match[2] or ""]
