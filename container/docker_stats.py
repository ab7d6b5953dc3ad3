"""What a container uses: from its cgroup where readable, else from the daemon."""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from container.cgroup import CGROUP, find_cgroup
from container.contract import QUICK_S
from container.docker_api import Daemon, Refused
from container.errors import EngineError
from container.proctree import PssReader, usage
from container.spec import Stats, highest
from pilot_core.base.procs import PROC, pid_file, read_stat

__all__ = ["Meter", "stats_from_api"]


# A look at a cgroup costs 0.1 ms, one through the daemon 3 ms.
_CGROUP_S = 0.2
_DAEMON_S = 1.0
# Time to the next look, as a part of the time it has run: what is missed at
# an end that comes between two looks is at most so much of the whole.
_PART = 0.02


class Meter:
    """Measures one container; keeps the last CPU time and the highest RSS.

    The daemon deletes a cgroup some ten milliseconds after its first process
    has ended, which is when the totals are final. Where that process can be
    seen, `fileno` tells its end and `look` then gets them. Elsewhere the
    totals are those of the last look.

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
        self._pidfd = pid_file(pid) if self._cgroup is not None else -1
        self._first = time.monotonic()
        self._next = self._first
        self._over = False
        self.cpu_s: float | None = None
        self.max_rss: int | None = None
        self.refused = 0

    def fileno(self) -> int:
        """Readable once its first process has ended; -1 if that cannot be
        seen, or has been.
        """
        return self._pidfd

    def look(self) -> None:
        """Note CPU time and memory, if it is time to look again."""
        # The clock here spreads our own cost; no decision about a job hangs on
        # it.
        now = time.monotonic()
        if now < self._next or self._over:
            return
        rest = _CGROUP_S if self._cgroup is not None else _DAEMON_S
        self._next = now + max(rest, (now - self._first) * _PART)
        self._count()

    def last_look(self) -> None:
        """Its first process has ended: note the totals."""
        self._count()
        self._over = True
        self.close()

    def close(self) -> None:
        """Watch its first process no longer."""
        with self._lock:
            pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def _count(self) -> Stats:
        if self._cgroup is None:
            return self._ask()
        counted = self._cgroup.stats()
        self.refused = max(self.refused, counted.refused_forks or 0)
        self._note(counted)
        return counted

    def stats(self) -> Stats:
        """What it uses now; empty if it is gone or nobody answers."""
        counted = self._count()
        if self._cgroup is None:
            return counted
        found = (read_stat(pid, self._proc) for pid in self._cgroup.pids() if pid)
        with self._lock:
            seen = usage([stat for stat in found if stat], proc=self._proc, pss=self._pss.read)
        return replace(counted, pss=seen.pss, vmem=seen.vmem, rchar=seen.rchar, wchar=seen.wchar)

    def _ask(self) -> Stats:
        try:
            answer = self._daemon.call("stats", lambda api: _one_shot(api, self._id), within_s=QUICK_S)
        except EngineError as err:
            self._over = isinstance(err, Refused) and err.missing
            return Stats()
        stats = stats_from_api(answer)
        self._over = stats == Stats()
        self._note(stats)
        return stats

    def _note(self, stats: Stats) -> None:
        with self._lock:
            self.cpu_s = highest(self.cpu_s, stats.cpu_s)
            self.max_rss = highest(self.max_rss, stats.rss)


def _one_shot(api: Any, container_id: str) -> Mapping[str, Any]:
    # Without `one-shot` (API 1.41) the daemon waits for a second sample.
    newer = tuple(int(part) for part in api.api_version.split(".")) >= (1, 41)
    answer: Mapping[str, Any] = api.stats(container_id, stream=False, one_shot=True if newer else None)
    return answer


def stats_from_api(answer: Mapping[str, Any]) -> Stats:
    """PURE: the daemon's answer to `GET /containers/{id}/stats`.

    Source: Docker Engine API v1.41; cgroup v1 and v2 use different names.
    """
    memory = answer.get("memory_stats") or {}
    detail = memory.get("stats") or {}
    cpu = ((answer.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    if not detail:
        # A container that has ended: zeros, which are no measurement.
        return Stats()
    rows = (answer.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    return Stats(
        cpu_s=None if cpu is None else cpu / 1e9,
        rss=detail.get("total_rss", detail.get("anon")),
        swap=detail.get("total_swap"),
        read_bytes=sum(row["value"] for row in rows if row["op"].lower() == "read") if rows else None,
        write_bytes=sum(row["value"] for row in rows if row["op"].lower() == "write") if rows else None,
        threads=(answer.get("pids_stats") or {}).get("current"),
        source="docker stats",
    )
