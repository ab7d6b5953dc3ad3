"""prmon's files as payloads leave them."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core.monitor.prmon import STALE_S, PrmonMonitor

COLUMNS = "Time nprocs nthreads wtime stime utime pss rss swap vmem rchar read_bytes wchar write_bytes"
HEADER = COLUMNS.replace(" ", "\t") + "\n"
FIRST = "1574336244\t7\t13\t24\t3\t2\t2264\t6524\t0\t276036\t12609168\t1649831936\t354998\t143360\n"
SECOND = (
    "1574336305\t11\t14\t85\t15\t28\t678832\t755428\t0\t3097732\t104797941\t2810908672\t3218600\t245760\n"
)
THIRD = "1574336366\t9\t14\t146\t21\t66\t608822\t612200\t5\t2057832\t284788452\t3221131264\t3503971\t602112\n"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    work, shared = tmp_path / "work", tmp_path / "shared"
    work.mkdir()
    shared.mkdir()
    return work, shared


def look(*folders: Path) -> dict[str, object]:
    return dict(PrmonMonitor(folders).measure(0.0))


def test_the_last_line_counts_and_the_peaks_stay(folders: tuple[Path, Path]) -> None:
    (folders[1] / "prmon.txt").write_text(HEADER + FIRST + SECOND + THIRD)
    assert look(*folders) == {
        "rss_kb": 612200,
        "pss_kb": 608822,
        "vmem_kb": 2057832,
        "swap_kb": 5,
        "processes": 9,
        "threads": 14,
        "rchar": 284788452,
        "wchar": 3503971,
        "read_bytes": 3221131264,
        "write_bytes": 602112,
        "cpu_s": 87.0,
        "peak_rss_kb": 755428,
        "peak_pss_kb": 678832,
        "peak_vmem_kb": 3097732,
        "peak_swap_kb": 5,
        "memory_source": "prmon",
    }


def test_only_what_is_new_is_read_and_a_half_line_waits(folders: tuple[Path, Path]) -> None:
    path = folders[0] / "memory_monitor_output.txt"
    monitor = PrmonMonitor(folders)
    assert monitor.measure(0.0) == {}
    path.write_text(HEADER + FIRST + SECOND[:20])
    assert monitor.measure(0.0)["rss_kb"] == 6524
    with path.open("a") as target:
        target.write(SECOND[20:])
    assert monitor.measure(0.0)["rss_kb"] == 755428
    path.write_text(HEADER + FIRST)  # begun anew, shorter
    again = monitor.measure(0.0)
    assert (again["rss_kb"], again["peak_rss_kb"]) == (6524, 755428)


def test_the_last_line_of_a_dead_prmon_is_no_measurement(folders: tuple[Path, Path]) -> None:
    path = folders[0] / "prmon.txt"
    path.write_text(HEADER + FIRST)
    os.utime(path, (1000.0, 1000.0))
    monitor = PrmonMonitor(folders)
    assert monitor.measure(1000.0 + STALE_S)["rss_kb"] == 6524
    later = monitor.measure(1001.0 + STALE_S)
    assert set(later) == {
        "rchar",
        "wchar",
        "read_bytes",
        "write_bytes",
        "cpu_s",
        "peak_rss_kb",
        "peak_pss_kb",
        "peak_vmem_kb",
        "peak_swap_kb",
    }


def test_columns_come_in_any_order_and_number(folders: tuple[Path, Path]) -> None:
    (folders[0] / "prmon.txt").write_text("Time vmem rss gpus utime stime\n1 30 20 2 5 6\n")
    assert look(*folders) == {
        "vmem_kb": 30,
        "rss_kb": 20,
        "peak_rss_kb": 20,
        "peak_vmem_kb": 30,
        "cpu_s": 11.0,
        "memory_source": "prmon",
    }


def test_an_empty_file_hides_no_other(folders: tuple[Path, Path]) -> None:
    for name in ("memory_monitor_output.txt", "memory_monitor_summary.json"):
        (folders[0] / name).touch()
    (folders[1] / "prmon.txt").write_text(HEADER + FIRST)
    assert look(*folders)["rss_kb"] == 6524


def test_the_summary_serves_where_there_is_no_text(folders: tuple[Path, Path]) -> None:
    most = {"rss": 900, "pss": 800, "rchar": 7, "utime": 3, "stime": 1, "nprocs": 4, "swap": 6, "vmem": 1e30}
    (folders[1] / "prmon.json").write_text(json.dumps({"Max": most, "Avg": {"rss": 1}}))
    peaks = {"peak_rss_kb": 900, "peak_pss_kb": 800, "peak_swap_kb": 6}
    assert look(*folders) == {"rchar": 7, "cpu_s": 4.0, **peaks}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Max": 3}', '{"Max": {"rss": "x"}}', "[" * 9999])
def test_a_broken_summary_says_nothing(folders: tuple[Path, Path], text: str) -> None:
    (folders[0] / "memory_monitor_summary.json").write_text(text)
    assert look(*folders) == {}


@pytest.mark.parametrize(
    "line", ["", "1 2", FIRST.replace("6524", "-3").replace("2264", "x"), "\x00\xff\t" * 14]
)
def test_a_line_that_fits_no_header_is_passed_over(folders: tuple[Path, Path], line: str) -> None:
    (folders[0] / "prmon.txt").write_text(HEADER + FIRST + line + "\n", encoding="latin-1")
    assert look(*folders)["rss_kb"] == 6524


def test_what_is_no_regular_file_is_left_alone(folders: tuple[Path, Path]) -> None:
    os.mkfifo(folders[0] / "memory_monitor_output.txt")
    os.mkfifo(folders[0] / "memory_monitor_summary.json")
    (folders[0] / "prmon.txt").mkdir()
    assert look(*folders) == {}


def test_a_line_without_end_does_not_stop_the_rest(folders: tuple[Path, Path]) -> None:
    path = folders[0] / "prmon.txt"
    path.write_bytes(b"x" * 20_000)
    monitor = PrmonMonitor(folders)
    assert monitor.measure(0.0) == {}
    with path.open("a") as target:
        target.write("\n" + HEADER + FIRST)
    assert monitor.measure(0.0)["rss_kb"] == 6524


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_do_no_harm(folders: tuple[Path, Path], first: bytes, second: bytes) -> None:
    monitor = PrmonMonitor(folders)
    for data in (first, HEADER.encode() + first, HEADER.encode() + first + b"\n" + second):
        (folders[0] / "prmon.txt").write_bytes(data)
        (folders[0] / "prmon.json").write_bytes(second)
        for value in monitor.measure(0.0).values():
            assert isinstance(value, str) or value >= 0
