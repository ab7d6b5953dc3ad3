"""The daemon's answer about a container, of both cgroup versions."""

from container.docker_stats import stats_from_api
from container.spec import Stats


def test_v1() -> None:
    answer = {
        "cpu_stats": {"cpu_usage": {"total_usage": 3_000_000_000}},
        "memory_stats": {"usage": 9, "stats": {"total_rss": 40, "total_swap": 2, "rss": 1}},
        "blkio_stats": {
            "io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "Write", "value": 6}]
        },
        "pids_stats": {"current": 4},
    }
    want = Stats(cpu_s=3.0, rss=40, swap=2, read_bytes=5, write_bytes=6, threads=4, source="docker stats")
    assert stats_from_api(answer) == want


def test_v2() -> None:
    answer = {
        "cpu_stats": {"cpu_usage": {"total_usage": 500_000_000}},
        "memory_stats": {"usage": 9, "stats": {"anon": 40}},
        "blkio_stats": {"io_service_bytes_recursive": None},
        "pids_stats": {"current": 1},
    }
    assert stats_from_api(answer) == Stats(cpu_s=0.5, rss=40, threads=1, source="docker stats")


def test_an_ended_container_measures_nothing() -> None:
    answer = {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}, "pids_stats": {}}
    assert stats_from_api(answer) == Stats()
    assert stats_from_api({}) == Stats()
