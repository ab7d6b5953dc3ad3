"""Readings merged to samples, samples summed to usage and kept as a time
series.
"""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from container.spec import Stats
from pilot_core.model.sample import Sample, Usage
from pilot_core.monitor.container import ContainerMonitor
from pilot_core.monitor.prmon import PrmonMonitor
from pilot_core.monitor.prmon_writer import SUMMARY_NAME, TEXT_NAME, PrmonWriter
from pilot_core.monitor.sampler import Sampler, merge
from pilot_core.monitor.usage import UsageMeter


class HandClock:
    """A clock whose hands are moved by the test."""

    def __init__(self) -> None:
        self.epoch, self.steady = 1000.0, 50.0

    def time(self) -> float:
        return self.epoch

    def monotonic(self) -> float:
        return self.steady

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.epoch += seconds
        self.steady += seconds
        return event.is_set()

    def join(self, thread: threading.Thread, seconds: float) -> None:
        thread.join(max(0.0, seconds))


class Says:
    """A monitor that gives the same answer each time, or fails."""

    def __init__(self, name: str, answer: Mapping[str, float | int | str] | OSError) -> None:
        self.name = name
        self._answer = answer

    def measure(self, now: float) -> Mapping[str, float | int | str]:
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer


def test_the_engines_numbers_in_the_samples_units() -> None:
    stats = Stats(cpu_s=1.5, rss=10_240, pss=5_120, swap=0, rchar=7, processes=3, threads=4, source="cgroup")
    assert ContainerMonitor(lambda: stats).measure(0.0) == {
        "cpu_s": 1.5,
        "rss_kb": 10,
        "pss_kb": 5,
        "swap_kb": 0,
        "rchar": 7,
        "processes": 3,
        "threads": 4,
        "memory_source": "cgroup",
    }
    assert ContainerMonitor(Stats).measure(0.0) == {}


def test_the_source_that_sees_more_wins() -> None:
    client: Mapping[str, float | int | str] = {
        "cpu_s": 0.2,
        "rss_kb": 20,
        "pss_kb": 18,
        "memory_source": "pss",
        "processes": 3,
    }
    inside: Mapping[str, float | int | str] = {
        "cpu_s": 90.0,
        "rss_kb": 5000,
        "memory_source": "prmon",
        "processes": 2,
    }
    for readings in ([client, inside], [inside, client]):
        assert merge(readings) == {
            "cpu_s": 90.0,
            "processes": 3,
            "rss_kb": 5000,
            "memory_source": "prmon",
        }


def test_a_sample_knows_how_long_the_payload_runs() -> None:
    clock = HandClock()
    sampler = Sampler([Says("a", {"cpu_s": 2.0}), Says("b", {"free_bytes": 9})], started=990.0, clock=clock)
    clock.steady += 30.0
    clock.epoch -= 500.0  # somebody sets the machine's clock
    assert sampler.sample() == Sample(time=500.0, running_s=40.0, cpu_s=2.0, free_bytes=9)


def test_a_monitor_that_cannot_measure_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sampler = Sampler(
        [Says("bad", PermissionError("no")), Says("good", {"cpu_s": 1.0})], started=1000.0, clock=HandClock()
    )
    with caplog.at_level(logging.WARNING):
        samples = [sampler.sample() for _ in range(3)]
    assert [sample.cpu_s for sample in samples] == [1.0] * 3
    assert [record.getMessage() for record in caplog.records] == ["monitor bad cannot measure: no"]


def test_usage_sums_up() -> None:
    meter = UsageMeter()
    assert meter.usage() == Usage()
    meter.add(
        Sample(1030.0, 30.0, cpu_s=20.0, rss_kb=100, pss_kb=90, vmem_kb=500, rchar=3000, write_bytes=60)
    )
    meter.add(Sample(1060.0, 60.0))
    usage = meter.add(
        Sample(1090.0, 90.0, cpu_s=15.0, rss_kb=300, pss_kb=80, rchar=9000, peak_rss_kb=450, peak_pss_kb=20)
    )
    assert (usage.samples, usage.cpu_s) == (2, 20.0)
    assert (usage.max_rss, usage.avg_rss, usage.max_pss, usage.avg_pss) == (450, 200.0, 90, 85.0)
    assert (usage.max_vmem, usage.avg_vmem, usage.max_swap) == (500, 500.0, 0)
    assert (usage.rchar, usage.rate_rchar, usage.write_bytes) == (9000, 100.0, 60)
    assert usage.cores == pytest.approx(20.0 / 90.0)


def test_the_engines_last_word_counts() -> None:
    meter = UsageMeter()
    meter.add(Sample(1030.0, 30.0, cpu_s=20.0))
    assert meter.close(running_s=50.0, cpu_s=45.0).cpu_s == 45.0
    usage = meter.close(running_s=50.0, cpu_s=None)
    assert (usage.cpu_s, usage.cores) == (45.0, 0.9)
    assert UsageMeter().close(running_s=0.0, cpu_s=0.5).cores == 0.0


def test_a_peak_between_two_samples_counts_and_a_lower_one_does_not() -> None:
    meter = UsageMeter()
    meter.add(Sample(1030.0, 30.0, rss_kb=500))
    assert meter.close(running_s=50.0, cpu_s=None, max_rss_kb=400).max_rss == 500
    assert meter.close(running_s=50.0, cpu_s=None, max_rss_kb=900).max_rss == 900


def test_the_peaks_of_a_summary_count_for_all_kinds_of_memory() -> None:
    peaks = {"peak_rss_kb": 8, "peak_pss_kb": 7, "peak_vmem_kb": 21, "peak_swap_kb": 2}
    usage = UsageMeter().add(Sample(1030.0, 30.0, rss_kb=1, pss_kb=1, vmem_kb=3, swap_kb=0, **peaks))
    assert (usage.max_rss, usage.max_pss, usage.max_vmem, usage.max_swap) == (8, 7, 21, 2)
    assert (usage.avg_rss, usage.avg_vmem) == (1.0, 3.0)


def test_a_look_at_a_payload_that_is_over_measures_nothing() -> None:
    meter = UsageMeter()
    over = Sample(1001.0, 1.0, cpu_s=0.2, rss_kb=0, pss_kb=0, vmem_kb=0, swap_kb=0, rchar=0, workdir_bytes=9)
    assert meter.add(over).samples == 0
    usage = meter.add(Sample(1002.0, 2.0, rss_kb=100))
    assert (usage.samples, usage.avg_rss) == (1, 100.0)
    assert meter.add(over).avg_rss == 100.0


def samples() -> list[Sample]:
    return [
        Sample(1000.5, 0.5),
        Sample(1030.0, 30.0, cpu_s=20.6, rss_kb=900, pss_kb=800, processes=4, rchar=6000),
        Sample(1060.0, 60.0, cpu_s=30.0, rss_kb=700, processes=2, rchar=9000),
    ]


def test_the_time_series_has_prmons_shape(tmp_path: Path) -> None:
    meter, writer = UsageMeter(), PrmonWriter(tmp_path)
    for sample in samples():
        writer.add(sample, meter.add(sample))
    writer.close(meter.usage())
    rows = [line.split("\t") for line in (tmp_path / TEXT_NAME).read_text().splitlines()]
    assert rows[0][:4] == ["Time", "nprocs", "nthreads", "wtime"]
    assert len({len(row) for row in rows}) == 1
    table = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [row["Time"] for row in table] == ["1000", "1030", "1060"]
    assert [row["pss"] for row in table] == ["0", "800", "800"]  # repeated where not measured
    assert [row["utime"] for row in table] == ["0", "20", "30"]
    summary = json.loads((tmp_path / SUMMARY_NAME).read_text())
    assert summary["Max"]["rss"] == 900
    assert summary["Max"]["nprocs"] == 4
    assert summary["Max"]["utime"] == 30
    assert summary["Avg"]["rss"] == 800
    assert summary["Avg"]["rchar"] == 150


def test_our_own_reader_understands_it(tmp_path: Path) -> None:
    meter, writer = UsageMeter(), PrmonWriter(tmp_path)
    for sample in samples():
        writer.add(sample, meter.add(sample))
    (tmp_path / TEXT_NAME).rename(tmp_path / "prmon.txt")
    found = PrmonMonitor([tmp_path]).measure(0.0)
    assert (found["rss_kb"], found["peak_rss_kb"], found["cpu_s"], found["rchar"]) == (700, 900, 30.0, 9000)


def test_a_summary_is_there_from_the_first_sample_on(tmp_path: Path) -> None:
    PrmonWriter(tmp_path).add(samples()[0], Usage())
    assert (tmp_path / SUMMARY_NAME).exists()


def test_a_link_left_by_the_payload_is_not_written_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / TEXT_NAME).symlink_to(victim)
    (tmp_path / "work" / SUMMARY_NAME).symlink_to(victim)
    writer = PrmonWriter(tmp_path / "work")
    with caplog.at_level(logging.WARNING):
        for sample in samples():
            writer.add(sample, Usage())
    assert victim.read_text() == "precious"
    assert len(caplog.records) == 1


def test_a_folder_that_is_gone_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = PrmonWriter(tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        for sample in samples():
            writer.add(sample, Usage())
        writer.close(Usage())
    assert len(caplog.records) == 1
