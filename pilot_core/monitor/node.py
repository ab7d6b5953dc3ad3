"""Facts about the machine, read once: processor, memory, names.

Everything is read below a root path, without helper processes. What cannot be
found out is left empty or 0; nothing here raises.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from pilot_core.model.report import Node

__all__ = ["Cpu", "cpu_unit", "describe_node", "memory_limit_mb", "node_name", "read_cpu", "usable_cores"]

#: Longest values the server's columns take; a longer one costs the whole
#: update.
_NAME_LENGTH = 128
_UNIT_LENGTH = 128

# Flags of each level beyond the one before, in the words of /proc/cpuinfo
# (x86-64 psABI; `pni` is SSE3, `abm` is LZCNT). Level 1 is every x86_64.
_LEVELS = (
    ("x86_64-v2", frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})),
    ("x86_64-v3", frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"})),
    ("x86_64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
)

# cgroup v1 has no word for "no limit": it answers the largest page-aligned
# number.
_UNLIMITED = 2**60


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processors of the machine.

    Attributes
    ----------
    model
        Model name as the kernel has it.
    cores
        Logical processors of the machine, at least 1.
    cache_kb
        Cache of one processor, kB; 0 if unknown.
    mhz
        Clock now, mean over the processors; 0 if unknown.
    level
        `x86_64-v1` to `x86_64-v4`; empty on other architectures.
    sockets, physical_cores
        Of the machine; 0 if unknown.
    hyper_threads
        True if a core is two logical processors.
    avx2
        True if it has these instructions.
    """

    model: str = ""
    cores: int = 1
    cache_kb: int = 0
    mhz: float = 0.0
    level: str = ""
    sockets: int = 0
    physical_cores: int = 0
    hyper_threads: bool = False
    avx2: bool = False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _leading_number(text: str) -> float:
    match = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    return float(match[1]) if match else 0.0


def read_cpu(root: Path = Path("/")) -> Cpu:
    """The machine's processors, from `proc/cpuinfo` below `root`."""
    pairs = [
        (key.strip(), value.strip())
        for key, colon, value in (line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines())
        if colon
    ]
    first: dict[str, str] = {}
    for key, value in pairs:
        first.setdefault(key, value)
    flags = frozenset(first.get("flags", "").split())
    sockets = len({value for key, value in pairs if key == "physical id"})
    # Of the first socket; those of a machine are alike.
    in_socket, threads = (int(_leading_number(first.get(key, ""))) for key in ("cpu cores", "siblings"))
    clocks = [_leading_number(value) for key, value in pairs if key == "cpu MHz"]
    return Cpu(
        model=first.get("model name", ""),
        cores=max(1, sum(key == "processor" for key, _ in pairs)),
        cache_kb=int(_leading_number(first.get("cache size", ""))),
        mhz=round(sum(clocks) / len(clocks), 1) if clocks else 0.0,
        level=_level(flags),
        sockets=sockets,
        physical_cores=sockets * in_socket,
        hyper_threads=0 < 2 * in_socket == threads,
        avx2="avx2" in flags,
    )


def _level(flags: frozenset[str]) -> str:
    """x86_64 level of a set of flags; empty if it is no x86_64 (`lm` is long
    mode).
    """
    if "lm" not in flags:
        return ""
    level = "x86_64-v1"
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        level = name
    return level


def cpu_unit(cpu: Cpu) -> str:
    """cpuConsumptionUnit, at most 128 characters, byte for byte as pilot3 has
    it: the monitor groups jobs by it.

    `s+AMD EPYC 512 KB 2-Core Processor HT 1-Socket+AVX2`; the cores go where
    the model's name speaks of them.
    """
    model = cpu.model.encode("ascii", "ignore").decode().strip() or "UNKNOWN"
    if cpu.cache_kb:
        model += f" {cpu.cache_kb} KB"
    cores = cpu.physical_cores or cpu.cores
    for words, instead in (
        (r"\d+-Core Processor", f"{cores}-Core Processor"),
        (r"Core Processor", f"{cores}-Core Processor"),
        (r"Processor", f"{cores}-Core Processor"),
        (r"$", f" {cores}-Core Processor"),
    ):
        if re.search(words, model):
            model = re.sub(words, instead, model, count=1)
            break
    model += " HT" if cpu.hyper_threads else ""
    if cpu.sockets:
        model += f" {cpu.sockets}-Socket" + ("s" if cpu.sockets > 1 else "")
    return f"s+{model}{'+AVX2' if cpu.avx2 else ''}"[:_UNIT_LENGTH]


def memory_limit_mb(root: Path = Path("/")) -> int:
    """Memory the pilot's own container may use, or the machine has: the less,
    MB.

    0 if nothing can be read. The limit of a cgroup holds for all below it, so
    the smallest on the way up from the pilot's own one counts. Inside a
    container the path in `proc/self/cgroup` is often the host's and absent
    from the mount: then the top of the mount is the container itself.
    """
    total = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    found = [int(total[1]) * 1024] if total else []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controllers == "":
            found += _limits(root / "sys/fs/cgroup", own, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "sys/fs/cgroup/memory", own, "memory.limit_in_bytes")
    return min(found, default=0) // (1024 * 1024)


def _limits(mount: Path, own: str, name: str) -> list[int]:
    """Limits of a cgroup and of all above it, bytes."""
    parts = [part for part in own.split("/") if part not in ("", ".", "..")]
    texts = (_text(mount.joinpath(*parts[:depth], name)).strip() for depth in range(len(parts), -1, -1))
    return [int(text) for text in texts if text.isdecimal() and 0 < int(text) < _UNLIMITED]


def usable_cores(cpu: Cpu, root: Path = Path("/")) -> int:
    """Cores the pilot's container may use: its quota (cgroup v2 or v1), else
    all.
    """
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
        period = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        return max(1, min(cpu.cores, math.ceil(int(quota) / int(period))))
    return cpu.cores


def node_name(*, hostname: str, replacement: str = "", slot: str = "") -> str:
    """`[slot@]host`, at most 128 characters.

    Parameters
    ----------
    hostname
        The machine's own name; inside a pod that is the pod's.
    replacement
        PANDA_HOSTNAME: Harvester's name of the Kubernetes node.
    slot
        _CONDOR_SLOT.
    """
    host = replacement or hostname or "unknown"
    return (f"{slot}@{host}" if slot else host)[:_NAME_LENGTH]


def describe_node(
    name: str, *, batch_type: str = "", batch_id: str = "", scheduler_id: str = "", root: Path = Path("/")
) -> Node:
    """The node as every report of this pilot's life names it."""
    cpu = read_cpu(root)
    return Node(
        name=name,
        batch_type=batch_type,
        batch_id=batch_id,
        scheduler_id=scheduler_id,
        cpu_unit=cpu_unit(cpu),
        cpu_mhz=cpu.mhz,
        cpu_level=cpu.level,
        cores=usable_cores(cpu, root),
        memory_mb=memory_limit_mb(root),
    )
