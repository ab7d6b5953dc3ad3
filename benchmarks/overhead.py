"""What a pilot adds to no-op jobs: ten jobs in one pilot against the embedded
PanDA server.

    python benchmarks/overhead.py [--jobs 10] [--engine process|docker]
    [--pilots 3]

Prints, per quantity, minimum, median and maximum over all jobs: from the
getJob reply to the payload's first instruction, from the payload's last
instruction to the arrival of the final update, wall clock and CPU per job, and
from the pilot's last request to the end of its process. The floor, measured in
the same run, is the payload's own shell script run by hand.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda

ROOT = Path(__file__).resolve().parent.parent
STAMP = 'echo "$EPOCHREALTIME"'


def run_pilot(folder: Path, jobs: int, engine: str) -> dict[str, list[float]]:
    """One pilot over `jobs` no-op jobs; seconds by quantity."""
    stamps = folder / "stamps"
    stamps.mkdir()
    command = f"{STAMP} > {stamps}/$PANDAID; {STAMP} >> {stamps}/$PANDAID"
    with LocalPanda(folder / "panda") as panda:
        ids = [
            panda.store.submit(make(transformation=f"{panda.url}/trf/bash-c", parameters=f"'{command}'"))
            for _ in range(jobs)
        ]
        home = folder / "home"
        home.mkdir()
        argv = [sys.executable, "-m", "pilot_core", "-q", "LOCAL", "--url", panda.url, "-v", "1", "-x", "1"]
        argv += ["-j", "managed", "--engine", engine, "--shared-root", str(folder / "shared"), "-d"]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PANDA_BASE_URLS": f"{panda.url}/trf"}
        env["PILOT_CRIC_URL"] = panda.url
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.time()
        with (folder / "log").open("wb") as log:
            done = subprocess.run(argv, cwd=home, env=env, stdout=log, stderr=log, timeout=300, check=False)
        ended = time.time()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, (folder / "log").read_text()[-4000:]
        bad = [r for r in map(panda.store.job, ids) if r.status != "finished"]
        assert not bad, (bad[0].status, bad[0].pilot_error, bad[0].ddm_error)
        taken = [r.time_s for r in panda.calls("acquire_jobs")]
        result: dict[str, list[float]] = {
            "process start -> first getJob": [taken[0] - started],
            "CPU per job": [(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / jobs],
            "last request -> process gone": [ended - max(r.time_s for r in panda.requests)],
        }
        final_times = []
        for number, job in enumerate(ids):
            first, last = (float(x) for x in (stamps / str(job)).read_text().split())
            final = next(u.time_s for u in panda.store.updates(job) if u.status == "finished")
            final_times.append(final)
            result.setdefault("getJob reply -> payload start", []).append(first - taken[number])
            result.setdefault("payload end -> final update", []).append(final - last)
        result["wall per job"] = [(final_times[-1] - taken[0]) / jobs]
        return result


def floor(folder: Path) -> float:
    """The payload's script by hand, seconds."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run(
            ["/bin/bash", "-c", f"{STAMP}; {STAMP}"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--pilots", type=int, default=3)
    parser.add_argument("--engine", default="process")
    options = parser.parse_args()
    totals: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for number in range(options.pilots):
            folder = Path(name) / str(number)
            folder.mkdir()
            for what, values in run_pilot(folder, options.jobs, options.engine).items():
                totals.setdefault(what, []).extend(values)
        by_hand = floor(Path(name))
    print(f"{options.pilots} pilots x {options.jobs} no-op jobs, engine {options.engine}; seconds")
    print(f"{'':34}{'n':>4}{'min':>9}{'median':>9}{'max':>9}")
    for what, values in totals.items():
        row = (min(values), statistics.median(values), max(values))
        print(f"{what:34}{len(values):4}" + "".join(f"{v:9.3f}" for v in row))
    print(f"{'floor: the script by hand':34}{10:4}{'':9}{by_hand:9.3f}")


if __name__ == "__main__":
    main()
