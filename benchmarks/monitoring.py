"""CPU the pilot spends on watching a payload with many files and processes.

    python benchmarks/monitoring.py [--files 5000] [--processes 200] [--looks 30]

Makes a directory tree and sleeping processes, samples them with the monitors
of a real job and the process engine, and prints the CPU time of an hour at the
default period. The looks are `--pause` seconds apart instead of 30, so that the
run is short; the walk through the files is told that 30 s have passed.
Everything is removed at the end. Exit 1 if the cost is above `--most` per cent.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from container.process_engine import ProcessEngine
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
from pilot_core.config import MonitorConfig
from pilot_core.limits import Judge
from pilot_core.model.sample import Limits
from pilot_core.monitor.container import ContainerMonitor
from pilot_core.monitor.disk import DiskMonitor, TreeMonitor
from pilot_core.monitor.output import OutputMonitor
from pilot_core.monitor.prmon import PrmonMonitor
from pilot_core.monitor.prmon_writer import PrmonWriter
from pilot_core.monitor.sampler import Sampler
from pilot_core.monitor.usage import UsageMeter

PERIOD_S = MonitorConfig().sample_s


def make_tree(folder: Path, files: int) -> None:
    """`files` small files, a hundred a directory."""
    for number in range(files):
        path = folder / f"run{number // 100:04}" / f"calexp_{number}.fits"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 512)


def rss_mb() -> float:
    """Resident memory of this process, MB."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1024 / 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--looks", type=int, default=30)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two looks")
    parser.add_argument("--most", type=float, default=0.5, help="per cent of one core")
    args = parser.parse_args()
    clock, never = SystemClock(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="pilot-benchmark-") as name:
        work = Path(name)
        make_tree(work, args.files)
        line = f"for i in $(seq {args.processes - 1}); do sleep 900 & done; exec sleep 900"
        spec = ContainerSpec(
            name="benchmark",
            argv=("/bin/sh", "-c", line),
            workdir=name,
            stdout=work / "payload.stdout",
            stderr=work / "payload.stderr",
            environment={"PATH": "/usr/bin:/bin"},
        )
        container = ProcessEngine(clock=clock).start(spec)
        passed = [0.0]
        try:
            monitors = (
                ContainerMonitor(container.stats),
                PrmonMonitor([work]),
                DiskMonitor(work),
                TreeMonitor([work], clock=lambda: passed[0]),
                OutputMonitor(spec.stdout, spec.stderr),
            )
            sampler = Sampler(monitors, started=clock.time(), clock=clock)
            judge, meter, writer = Judge(Limits(looping_s=7_200.0)), UsageMeter(), PrmonWriter(work)
            clock.wait(never, 2.0)  # until all of them sleep
            cpu_s = []
            sample = sampler.sample()
            for _ in range(args.looks):
                passed[0] += PERIOD_S
                clock.wait(never, args.pause)
                before = time.process_time()
                sample = sampler.sample()
                judge.look(sample)
                writer.add(sample, meter.add(sample))
                cpu_s.append(time.process_time() - before)
        finally:
            container.stop(1.0)
            container.remove()
    mean_s = sum(cpu_s) / len(cpu_s)
    per_cent = 100.0 * mean_s / PERIOD_S
    print(
        f"seen: {sample.processes} processes, {args.files} files, {(sample.workdir_bytes or 0) / 1e6:.1f} MB"
    )
    print(f"one look: {1e3 * mean_s:.1f} ms of CPU on average, {1e3 * max(cpu_s):.1f} ms at most")
    print(
        f"at one look in {PERIOD_S:.0f} s: {mean_s * 3600.0 / PERIOD_S:.2f} CPU seconds an hour,"
        f" {per_cent:.3f} % of one core; resident memory of this process {rss_mb():.0f} MB"
    )
    return 0 if per_cent <= args.most else 1


if __name__ == "__main__":
    sys.exit(main())
