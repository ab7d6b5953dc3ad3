"""Trees of /proc and /sys as machines show them, shortened to what is read.

Each is a map from path to content; `plant` makes it below a root path.
"""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["AMD_2_CORES", "ARM", "CGROUP_V1_POD", "CGROUP_V2_POD", "GKE_N2", "HYBRID_CGROUPS", "plant"]

_V3 = (
    "fpu sse sse2 ht syscall nx lm constant_tsc pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt xsave avx f16c"
    " lahf_lm abm bmi1 avx2 bmi2"
)
_V4 = _V3 + " avx512f avx512dq avx512cd avx512bw avx512vl"


def _cpuinfo(
    count: int, model: str, cache: str, mhz: str, flags: str, *, sockets: int = 1, threads: int = 1
) -> str:
    return "".join(
        f"processor\t: {number}\nvendor_id\t: Some\nmodel name\t: {model}\ncpu MHz\t\t: {mhz}\n"
        f"cache size\t: {cache}\nphysical id\t: {number % sockets}\n"
        f"siblings\t: {count // sockets}\ncpu cores\t: {count // sockets // threads}\n"
        f"flags\t\t: {flags}\npower management:\n\n"
        for number in range(count)
    )


AMD_2_CORES = {
    "proc/cpuinfo": _cpuinfo(2, "AMD EPYC", "512 KB", "2445.428", _V3),
    "proc/meminfo": "MemTotal:       24684404 kB\nMemFree:         1000000 kB\n",
}

GKE_N2 = {
    "proc/cpuinfo": _cpuinfo(4, "Intel(R) Xeon(R) CPU @ 2.80GHz", "33792 KB", "2800.192", _V4, threads=2),
    "proc/meminfo": "MemTotal:       16393244 kB\n",
}

ARM = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n\nprocessor\t: 1\n",
    "proc/meminfo": "MemTotal:        8000000 kB\n",
}

#: A pod's container with its own cgroup namespace: the mount's top is its
#: limit.
CGROUP_V2_POD = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/memory.max": "3355443200\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
}

#: cgroup v1 behind a runtime that shows the host's path; the mount has it not.
CGROUP_V1_POD = {
    "proc/self/cgroup": "4:memory:/kubepods/burstable/pod1/abc\n3:cpu,cpuacct:/kubepods/burstable/pod1/abc\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3355443200\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}

#: A batch slot: limits on the way up, none at the top; v2 without a
#: controller.
HYBRID_CGROUPS = {
    "proc/self/cgroup": "9:name=systemd:/\n4:memory:/slurm/job_7/step_0\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/slurm/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": "4294967296\n",
    "sys/fs/cgroup/memory/slurm/job_7/step_0/memory.limit_in_bytes": "8589934592\n",
}


def plant(root: Path, *trees: Mapping[str, str]) -> Path:
    """Make the files of all trees below `root`; gives `root` back."""
    for tree in trees:
        for name, text in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return root
