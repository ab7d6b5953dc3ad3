"""What the kernel counts for a container, read from its cgroup's files.

Cheaper than asking the daemon (no request, some 0.1 ms), and it holds the
peak of the memory. It can be read where the caller sees the host's cgroup
tree: on the host itself, or in a pod that has it mounted.
"""

from pathlib import Path

from container.spec import Stats
from pilot_core.base.procs import PROC, read_bytes

__all__ = ["CGROUP", "Cgroup", "current_tasks", "find_cgroup", "refused_forks"]

CGROUP = Path("/sys/fs/cgroup")


class Cgroup:
    """The files of one container, cgroup v1 or v2.

    Parameters
    ----------
    folders
        Controller name to folder; for v2 the only key is the empty name.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders
        self._v2 = "" in folders

    def stats(self) -> Stats:
        """What it uses now; all None once the container is gone."""
        return self._stats_v2(self._folders[""]) if self._v2 else self._stats_v1()

    def pids(self) -> list[int]:
        """Its processes in our own pid namespace's numbers; 0 where they have
        none.
        """
        folder = self._folders.get("" if self._v2 else "memory")
        return [int(pid) for pid in _read(folder / "cgroup.procs").split()] if folder else []

    def _stats_v2(self, folder: Path) -> Stats:
        cpu = _table(_read(folder / "cpu.stat"))
        memory = _table(_read(folder / "memory.stat"))
        usage = cpu.get(b"usage_usec")
        read, written = _io_v2(_read(folder / "io.stat"))
        return Stats(
            cpu_s=None if usage is None else usage / 1e6,
            rss=memory.get(b"anon"),
            swap=_number(folder / "memory.swap.current"),
            read_bytes=read,
            write_bytes=written,
            processes=len(self.pids()) or None,
            threads=_number(folder / "pids.current"),
            refused_forks=refused_forks(folder),
            source="cgroup v2",
        )

    def _stats_v1(self) -> Stats:
        def folder(name: str) -> Path:
            return self._folders.get(name, Path("/nonexistent"))

        usage = _number(folder("cpuacct") / "cpuacct.usage")
        memory = _table(_read(folder("memory") / "memory.stat"))
        read, written = _io_v1(_read(folder("blkio") / "blkio.throttle.io_service_bytes_recursive"))
        return Stats(
            cpu_s=None if usage is None else usage / 1e9,
            rss=memory.get(b"total_rss"),
            swap=memory.get(b"total_swap"),
            read_bytes=read,
            write_bytes=written,
            processes=len(self.pids()) or None,
            threads=_number(folder("pids") / "pids.current"),
            refused_forks=refused_forks(folder("pids")),
            source="cgroup v1",
        )


def find_cgroup(pid: int, container_id: str, *, proc: Path = PROC, root: Path = CGROUP) -> Cgroup | None:
    """The cgroup of a container by its first process; None if it cannot be
    read.

    The pid is the host's. In another pid namespace the number is somebody
    else's or nobody's: only a path that names the container is believed.
    """
    folders = {}
    for line in read_bytes(f"{proc}/{pid}/cgroup").decode("utf-8", "replace").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if container_id not in path:
            continue
        for name in controllers.split(","):
            folder = root / name / path.lstrip("/")
            if name.startswith("name=") or not folder.is_dir():
                continue
            folders[name] = folder
    # The mixed layout has v1 controllers and an empty v2 tree beside them.
    if "memory" in folders or "cpuacct" in folders:
        folders.pop("", None)
    elif "" in folders and not (folders[""] / "cpu.stat").exists():
        return None
    return Cgroup(folders) if folders else None


def refused_forks(folder: Path) -> int | None:
    """How many forks the pids controller has refused in a group; None if
    nobody knows.
    """
    return _table(_read(folder / "pids.events")).get(b"max")


def _read(path: Path) -> bytes:
    return read_bytes(str(path))


def current_tasks(folder: Path) -> int | None:
    """How many processes and threads the pids controller counts in a group."""
    return _number(folder / "pids.current")


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _table(text: bytes) -> dict[bytes, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _io_v2(text: bytes) -> tuple[int | None, int | None]:
    """Bytes read and written: a line `8:0 rbytes=1 wbytes=2 ...` for each
    device.
    """
    if not text:
        return None, None
    fields = [field.partition(b"=") for line in text.splitlines() for field in line.split()[1:]]
    return (
        sum(int(value) for name, _, value in fields if name == b"rbytes"),
        sum(int(value) for name, _, value in fields if name == b"wbytes"),
    )


def _io_v1(text: bytes) -> tuple[int | None, int | None]:
    """Bytes read and written: lines `8:0 Read 1`, one for each device and
    direction.
    """
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    if not rows:
        return None, None
    return (
        sum(int(row[2]) for row in rows if row[1] == b"Read"),
        sum(int(row[2]) for row in rows if row[1] == b"Write"),
    )
