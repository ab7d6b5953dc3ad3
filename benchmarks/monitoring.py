"""CPU and memory that the pilot spends on watching a payload.

    python benchmarks/monitoring.py [--seconds 60] [--files 5000] [--processes
    200] [--pilot3 FOLDER]

Three measurements, each removed again at its end:

* a look: the monitors of a real job on a tree of files and sleeping processes,
  in this process. The looks are `--pause` seconds apart instead of 30; the
  walk
  through the files is told that 30 s have passed.
* the real pilot beside a sleeping payload, and beside a busy one with as many
  files, for `--seconds` each, with the settings of production: its CPU time,
  memory, threads, and (as root, in a pid namespace of its own) how many
  processes and threads were started in that time.
* with `--pilot3` the same of a checkout of PanDAWMS/pilot3.

Exit 1 if a look costs more than `--most` per cent of one core.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from container.process_engine import ProcessEngine  # noqa: E402 - runs from a checkout, too
from container.spec import ContainerSpec  # noqa: E402
from pilot_core.base.clock import SystemClock  # noqa: E402
from pilot_core.config import MonitorConfig  # noqa: E402
from pilot_core.limits import Judge  # noqa: E402
from pilot_core.local.definition import make  # noqa: E402
from pilot_core.local.server import LocalPanda  # noqa: E402
from pilot_core.model.sample import Limits  # noqa: E402
from pilot_core.monitor.container import ContainerMonitor  # noqa: E402
from pilot_core.monitor.disk import DiskMonitor, TreeMonitor  # noqa: E402
from pilot_core.monitor.output import OutputMonitor  # noqa: E402
from pilot_core.monitor.prmon import PrmonMonitor  # noqa: E402
from pilot_core.monitor.prmon_writer import PrmonWriter  # noqa: E402
from pilot_core.monitor.sampler import Sampler  # noqa: E402
from pilot_core.monitor.usage import UsageMeter  # noqa: E402

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


def look(args: argparse.Namespace) -> float:
    """Per cent of one core that the looks of a job cost."""
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
    return per_cent


# --- the pilot as a process ----------------------------------------------------


@dataclass(frozen=True)
class Counters:
    """What a process has used until now; MB, seconds, and the newest pid of
    its namespace.
    """

    time_s: float
    own_s: float
    helpers_s: float
    rss_mb: float
    pss_mb: float
    threads: int
    last_pid: int


def counters(pid: int, *, namespace: bool) -> Counters:
    """Read /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    memory = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        memory[name] = int(value.split()[0]) / 1024
    last_pid = 0
    if namespace:
        ask = ["nsenter", "-t", str(pid), "-p", "cat", "/proc/sys/kernel/ns_last_pid"]
        last_pid = int(subprocess.run(ask, capture_output=True, timeout=10, check=True).stdout)
    return Counters(
        time_s=time.monotonic(),
        own_s=(int(fields[11]) + int(fields[12])) * tick_s,
        helpers_s=(int(fields[13]) + int(fields[14])) * tick_s,
        rss_mb=memory["Rss"],
        pss_mb=memory["Pss"],
        threads=int(fields[17]),
        last_pid=last_pid,
    )


def ours(url: str, home: Path) -> list[str]:
    """Our pilot's command line; with `--engine process`, since it may run in a
    pid namespace.
    """
    options = ["-q", "LOCAL", "-j", "managed", "-i", "PR", "--pilot-user", "rubin", "-t", "-d"]
    options += ["--url", url, "--harvester-submit-mode", "PULL", "--engine", "process"]
    return [sys.executable, "-m", "pilot_core", *options, "--shared-root", str(home / "shared")]


def pilot3(folder: Path, url: str) -> list[str]:
    """pilot3's, with the same meaning."""
    address, _, port = url.rpartition(":")
    options = ["-q", "LOCAL", "-r", "LOCAL", "-s", "LOCAL", "-j", "managed", "-i", "PR"]
    options += ["--pilot-user", "rubin", "-w", "generic", "-t", "-d", "--url", address, "-p", port]
    options += ["--harvester-submit-mode", "PULL", "--allow-same-user=False"]
    options += ["--queuedata-url", f"{url}/cache/schedconfig/LOCAL.all.json"]
    options += ["--storagedata-url", f"{url}/api/atlas/ddmendpoint/query/?json"]
    return [sys.executable, str(folder / "pilot.py"), *options]


def measure(
    name: str, command: Sequence[str], panda: LocalPanda, home: Path, args: argparse.Namespace
) -> None:
    """Run a pilot until its payload has settled, then watch it; prints one
    line.
    """
    namespace = os.geteuid() == 0 and shutil.which("unshare") is not None
    before = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"] if namespace else []
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PANDA_BASE_URLS": f"{panda.url}/trf",
        "PILOT_CRIC_URL": panda.url,
        "HARVESTER_ID": "benchmark",
        "HARVESTER_WORKER_ID": "1",
    }
    token = home / "token"
    if token.exists():
        environment |= {"PANDA_AUTH_TOKEN": str(token), "PANDA_AUTH_ORIGIN": "benchmark"}
    clock, never = SystemClock(), threading.Event()
    job = max(row.panda_id for row in panda.store.jobs())
    with (home / "stdout.log").open("wb") as out:
        process = subprocess.Popen(
            [*before, *command], cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        panda.store.wait_status(job, "running", 120)
        clock.wait(never, 10.0)
        pid = process.pid
        if namespace:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        first = counters(pid, namespace=namespace)
        clock.wait(never, args.seconds)
        last = counters(pid, namespace=namespace)
        show(name, first, last, namespace=namespace)
    except TimeoutError as err:
        print(f"{name}: {err}; see the end of its output:\n{(home / 'stdout.log').read_text()[-1500:]}")
    finally:
        # The payload is below it: with the namespace, or with the pilot's own
        # end.
        process.send_signal(signal.SIGKILL if namespace else signal.SIGTERM)
        process.wait(30)


def show(name: str, first: Counters, last: Counters, *, namespace: bool) -> None:
    """One line."""
    minutes = (last.time_s - first.time_s) / 60.0
    own, helpers = (last.own_s - first.own_s) / minutes, (last.helpers_s - first.helpers_s) / minutes
    # One pid of the difference is our own question's.
    started = f"{(last.last_pid - first.last_pid - 1) / minutes:.1f}" if namespace else "unknown"
    print(
        f"{name}: {own + helpers:.3f} CPU s a minute ({60 * (own + helpers):.1f} an hour,"
        f" helpers {helpers:.3f}),"
        f" RSS {last.rss_mb:.1f} MiB, PSS {last.pss_mb:.1f} MiB, {last.threads} threads,"
        f" {started} processes and threads started a minute"
    )


def beside(args: argparse.Namespace) -> None:
    """Our pilot beside a sleeping and a busy payload, and pilot3 if there is
    one.
    """
    busy = (
        f"i=0; while [ $i -lt {args.files} ]; do echo > file$i; i=$((i+1)); done;"
        " while :; do i=$((i+1)); [ $((i % 1000000)) = 0 ] && echo $i; done"
    )
    cases: list[tuple[str, Path | None, str]] = [
        ("pilot, sleeping payload", None, "exec sleep 900"),
        ("pilot, busy payload", None, busy),
    ]
    if args.pilot3 is not None:
        cases += [
            (f"pilot3, {kind} payload", args.pilot3, cases[n][2])
            for n, kind in enumerate(("sleeping", "busy"))
        ]
    for name, checkout, script in cases:
        with tempfile.TemporaryDirectory(prefix="pilot-benchmark-", ignore_cleanup_errors=True) as folder:
            home = Path(folder) / "home"
            home.mkdir()
            with LocalPanda(Path(folder) / "panda") as panda:
                url = f"{panda.url}/trf/bash-c-enc"
                panda.store.submit(make(transformation=url, parameters=script, encode=True))
                if checkout is None:
                    command = ours(panda.url, home)
                else:
                    shutil.copytree(checkout, home / "pilot3")
                    # pilot3 asks for no job without a token or a certificate,
                    # and runs none on a queue without this word.
                    panda.cric.add_queue("LOCAL", container_type="docker:pilot")
                    (home / "token").write_text("of no meaning here")
                    command = pilot3(home / "pilot3", panda.url)
                measure(name, command, panda, home, args)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--looks", type=int, default=30)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two looks")
    parser.add_argument("--most", type=float, default=0.5, help="per cent of one core")
    parser.add_argument("--seconds", type=float, default=60.0, help="beside each payload; 0 for none")
    parser.add_argument("--pilot3", type=Path, help="a checkout to measure as well")
    args = parser.parse_args()
    per_cent = look(args)
    if args.seconds:
        beside(args)
    return 0 if per_cent <= args.most else 1


if __name__ == "__main__":
    sys.exit(main())
