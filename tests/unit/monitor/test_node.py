"""The machine's facts from recorded trees."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pilot_core.monitor.node import (
    Cpu,
    cpu_unit,
    describe_node,
    memory_limit_mb,
    node_name,
    read_cpu,
    usable_cores,
)
from tests.fakes.proc_tree import (
    AMD_2_CORES,
    ARM,
    CGROUP_V1_POD,
    CGROUP_V2_POD,
    GKE_N2,
    HYBRID_CGROUPS,
    plant,
)

Tree = Mapping[str, str]


@pytest.mark.parametrize(
    ("tree", "cpu"),
    [
        (AMD_2_CORES, Cpu("AMD EPYC", 2, 512, 2445.4, "x86_64-v3", 1, 2, False, True)),
        (
            GKE_N2,
            Cpu("Intel(R) Xeon(R) CPU @ 2.80GHz", 4, 33792, 2800.2, "x86_64-v4", 1, 2, True, True),
        ),
        (ARM, Cpu("", 2, 0, 0.0, "")),
        ({}, Cpu()),
    ],
)
def test_processors(tmp_path: Path, tree: Tree, cpu: Cpu) -> None:
    assert read_cpu(plant(tmp_path, tree)) == cpu


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("lm", "x86_64-v1"),
        ("lm cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3", "x86_64-v2"),
        ("avx2", ""),
        ("", ""),
    ],
)
def test_a_level_needs_all_its_flags(tmp_path: Path, flags: str, level: str) -> None:
    plant(tmp_path, {"proc/cpuinfo": f"processor : 0\nflags : {flags}\n"})
    assert read_cpu(tmp_path).level == level


@pytest.mark.parametrize(
    ("cpu", "unit"),
    [
        # Measured: pilot3 3.11.5.1 on this kind of machine.
        (
            Cpu("AMD EPYC", 2, 512, sockets=1, physical_cores=2, avx2=True),
            "s+AMD EPYC 512 KB 2-Core Processor 1-Socket+AVX2",
        ),
        (
            Cpu("Intel(R) Xeon(R) CPU @ 2.80GHz", 4, 33792, sockets=1, physical_cores=2, hyper_threads=True),
            "s+Intel(R) Xeon(R) CPU @ 2.80GHz 33792 KB 2-Core Processor HT 1-Socket",
        ),
        (
            Cpu("AMD EPYC 7B12 64-Core Processor", 8, 512, sockets=2, physical_cores=8, avx2=True),
            "s+AMD EPYC 7B12 8-Core Processor 512 KB 2-Sockets+AVX2",
        ),
        (
            Cpu("Intel Core Processor (Broadwell)", 4, 16384, sockets=1, physical_cores=4),
            "s+Intel 4-Core Processor (Broadwell) 16384 KB 1-Socket",
        ),
        (
            Cpu("Intel Xeon Processor (Skylake, IBRS)", 20, 16384, sockets=1, physical_cores=10),
            "s+Intel Xeon 10-Core Processor (Skylake, IBRS) 16384 KB 1-Socket",
        ),
        (Cpu(), "s+UNKNOWN 1-Core Processor"),
        (Cpu("\N{GREEK SMALL LETTER SIGMA}", 1), "s+UNKNOWN 1-Core Processor"),
    ],
)
def test_the_unit_is_pilot3s(cpu: Cpu, unit: str) -> None:
    assert cpu_unit(cpu) == unit


def test_the_unit_fits_its_column() -> None:
    assert len(cpu_unit(Cpu("x" * 500, 256, 10**6))) == 128


@pytest.mark.parametrize(
    ("trees", "memory_mb"),
    [
        ((GKE_N2,), 16009),
        ((GKE_N2, CGROUP_V2_POD), 3200),
        ((GKE_N2, CGROUP_V1_POD), 3200),
        ((GKE_N2, HYBRID_CGROUPS), 4096),
        ((GKE_N2, {**CGROUP_V2_POD, "sys/fs/cgroup/memory.max": "max\n"}), 16009),
        ((CGROUP_V2_POD,), 3200),
        ((), 0),
    ],
)
def test_memory_is_the_containers_limit_or_the_machines(
    tmp_path: Path, trees: tuple[Tree, ...], memory_mb: int
) -> None:
    assert memory_limit_mb(plant(tmp_path, *trees)) == memory_mb


@pytest.mark.parametrize(
    ("tree", "cores"),
    [
        ({}, 4),
        (CGROUP_V2_POD, 2),
        (CGROUP_V1_POD, 4),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 4),
        ({"sys/fs/cgroup/cpu.max": "900000 100000"}, 4),
        ({"sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
    ],
)
def test_cores_are_those_of_the_quota(tmp_path: Path, tree: Tree, cores: int) -> None:
    assert usable_cores(Cpu(cores=4), plant(tmp_path, tree)) == cores


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"hostname": "pod-1"}, "pod-1"),
        ({"hostname": "pod-1", "replacement": "gke-node-3"}, "gke-node-3"),
        ({"hostname": "wn7", "slot": "slot1_2"}, "slot1_2@wn7"),
        ({"hostname": ""}, "unknown"),
        ({"hostname": "x" * 200}, "x" * 128),
    ],
)
def test_node_name(values: dict[str, str], name: str) -> None:
    assert node_name(**values) == name


def test_all_of_it(tmp_path: Path) -> None:
    node = describe_node(
        "n", batch_type="Kubernetes", batch_id="j", root=plant(tmp_path, GKE_N2, CGROUP_V2_POD)
    )
    assert (node.name, node.cores, node.memory_mb, node.cpu_level) == ("n", 2, 3200, "x86_64-v4")
    assert (node.batch_type, node.batch_id, node.cpu_mhz) == ("Kubernetes", "j", 2800.2)


def test_this_very_machine() -> None:
    node = describe_node("here")
    assert node.cores >= 1
    assert node.memory_mb > 100
