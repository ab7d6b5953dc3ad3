"""What a container uses: from its cgroup where readable, else from the daemon."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from container.cgroup import CGROUP, find_cgroup
from container.docker_api import Daemon
from container.errors import EngineError
from container.proctree import PssReader, usage
from container.spec import Stats
from pilot_core.base.procs import PROC, read_stat

__all__ = ["Meter", "stats_from_api"]


class Meter:
    """Measures one container; keeps the last CPU time and the highest memory.

    The kernel forgets a cgroup with its last process, so the totals of an
    ended container are those of the last look at it.

    Parameters
    ----------
    daemon
        Asked if the cgroup cannot be read.
    container_id
        Full id.
    pid
        Its first process, as the daemon numbers it.
    proc, cgroup_root
        Where /proc and /sys/fs/cgroup are.
    """

    def __init__(
        self, daemon: Daemon, container_id: str, pid: int, *, proc: Path = PROC, cgroup_root: Path = CGROUP
    ) -> None:
        self._daemon = daemon
        self._id = container_id
        self._proc = proc
        self._cgroup = find_cgroup(pid, container_id, proc=proc, root=cgroup_root) if pid else None
        self._pss = PssReader(proc)
        self._lock = threading.Lock()
        self.cpu_s: float | None = None
        self.peak: int | None = None

    @property
    def cheap(self) -> bool:
        """True if a look costs no request."""
        return self._cgroup is not None

    def look(self) -> None:
        """Note CPU time and peak memory, from the cgroup only."""
        if self._cgroup is not None:
            self._note(self._cgroup.stats(), self._cgroup.peak())

    def stats(self) -> Stats:
        """What it uses now; empty if it is gone or nobody answers."""
        if self._cgroup is None:
            return self._ask()
        counted = self._cgroup.stats()
        self._note(counted, self._cgroup.peak())
        found = (read_stat(pid, self._proc) for pid in self._cgroup.pids() if pid)
        with self._lock:
            seen = usage([stat for stat in found if stat], proc=self._proc, pss=self._pss.read)
        return replace(counted, pss=seen.pss, vmem=seen.vmem, rchar=seen.rchar, wchar=seen.wchar)

    def _ask(self) -> Stats:
        try:
            answer = self._daemon.call("stats", lambda api: _one_shot(api, self._id))
        except EngineError:
            return Stats()
        stats, peak = stats_from_api(answer)
        self._note(stats, peak)
        return stats

    def _note(self, stats: Stats, peak: int | None) -> None:
        with self._lock:
            self.cpu_s = max((v for v in (self.cpu_s, stats.cpu_s) if v is not None), default=None)
            self.peak = max((v for v in (self.peak, peak) if v is not None), default=None)


def _one_shot(api: Any, container_id: str) -> Mapping[str, Any]:
    # Without `one-shot` (API 1.41) the daemon waits for a second sample.
    newer = tuple(int(part) for part in api.api_version.split(".")) >= (1, 41)
    answer: Mapping[str, Any] = api.stats(container_id, stream=False, one_shot=True if newer else None)
    return answer


def stats_from_api(answer: Mapping[str, Any]) -> tuple[Stats, int | None]:
    """PURE: the daemon's answer to `GET /containers/{id}/stats`, and its peak
    memory.

    Source: Docker Engine API v1.41; cgroup v1 and v2 use different names.
    """
    memory = answer.get("memory_stats") or {}
    detail = memory.get("stats") or {}
    cpu = ((answer.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    if not detail:
        # A container that has ended: zeros, which are no measurement.
        return Stats(), None
    rows = (answer.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    stats = Stats(
        cpu_s=None if cpu is None else cpu / 1e9,
        rss=detail.get("total_rss", detail.get("anon")),
        swap=detail.get("total_swap"),
        read_bytes=sum(row["value"] for row in rows if row["op"].lower() == "read") if rows else None,
        write_bytes=sum(row["value"] for row in rows if row["op"].lower() == "write") if rows else None,
        threads=(answer.get("pids_stats") or {}).get("current"),
        source="docker stats",
    )
    return stats, memory.get("max_usage")
