"""The kernel's counts from recorded trees of both cgroup versions."""

from collections.abc import Mapping
from pathlib import Path

from container.cgroup import find_cgroup
from container.spec import Stats

ID = "4f" * 32


def tree(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_v1(tmp_path: Path) -> None:
    at = f"docker/{ID}"
    tree(
        tmp_path,
        {
            "proc/77/cgroup": (
                f"9:name=systemd:/{at}\n8:pids:/{at}\n7:blkio:/{at}\n4:memory:/{at}\n"
                f"2:cpu,cpuacct:/{at}\n0::/{at}\n"
            ),
            f"cg/pids/{at}/pids.current": "9\n",
            f"cg/memory/{at}/memory.stat": "rss 1\ntotal_rss 1000\ntotal_swap 50\ntotal_cache 7\n",
            f"cg/memory/{at}/cgroup.procs": "77\n78\n",
            f"cg/cpuacct/{at}/cpuacct.usage": "2500000000\n",
            f"cg/blkio/{at}/blkio.throttle.io_service_bytes_recursive": (
                "8:0 Read 10\n8:0 Write 20\n9:0 Read 1\nTotal 31\n"
            ),
        },
    )
    cgroup = find_cgroup(77, ID, proc=tmp_path / "proc", root=tmp_path / "cg")
    assert cgroup is not None
    assert cgroup.stats() == Stats(
        cpu_s=2.5,
        rss=1000,
        swap=50,
        read_bytes=11,
        write_bytes=20,
        processes=2,
        threads=9,
        source="cgroup v1",
    )
    assert cgroup.pids() == [77, 78]


def test_v2(tmp_path: Path) -> None:
    at = f"system.slice/docker-{ID}.scope"
    tree(
        tmp_path,
        {
            "proc/77/cgroup": f"0::/{at}\n",
            f"cg/{at}/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
            f"cg/{at}/memory.stat": "anon 4096\nfile 9\n",
            f"cg/{at}/memory.swap.current": "0\n",
            f"cg/{at}/pids.current": "3\n",
            f"cg/{at}/cgroup.procs": "77\n",
            f"cg/{at}/io.stat": "8:0 rbytes=5 wbytes=6 rios=1\n9:0 rbytes=1 wbytes=1\n",
        },
    )
    cgroup = find_cgroup(77, ID, proc=tmp_path / "proc", root=tmp_path / "cg")
    assert cgroup is not None
    assert cgroup.stats() == Stats(
        cpu_s=1.5, rss=4096, swap=0, read_bytes=6, write_bytes=7, processes=1, threads=3, source="cgroup v2"
    )


def test_a_pid_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/77/cgroup": "0::/user.slice\n", "cg/user.slice/cpu.stat": "usage_usec 1\n"})
    assert find_cgroup(77, ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None


def test_a_tree_that_is_not_mounted_here(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/77/cgroup": f"4:memory:/docker/{ID}\n"})
    assert find_cgroup(77, ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None
    assert find_cgroup(1, ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None


def test_a_container_that_is_gone(tmp_path: Path) -> None:
    at = f"cg/docker/{ID}"
    tree(tmp_path, {"proc/77/cgroup": f"0::/docker/{ID}\n", f"{at}/cpu.stat": "usage_usec 1\n"})
    cgroup = find_cgroup(77, ID, proc=tmp_path / "proc", root=tmp_path / "cg")
    assert cgroup is not None
    (tmp_path / at / "cpu.stat").unlink()
    (tmp_path / at).rmdir()
    assert cgroup.stats() == Stats(source="cgroup v2")
    assert cgroup.pids() == []
