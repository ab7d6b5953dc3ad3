"""What shipping a payload's log costs and loses, several ways, in one run.

    python benchmarks/logship.py [--records 100000] [--rates 10,1000,20000]
                                 [--seconds 10] [--repeat 3] [--gigabyte]
                                 [--only ours,splice] [--pilot3 DIR]
                                 [--fluent-bit BIN]

Contestants, a file each in `shippers/`: `ours` (the pilot's shipper, every
guarantee on, a look each 0.1 s), `handler` (the client library's
CloudLoggingHandler behind a plain tail), `floor` (read, parse for level and
time, splice; no network and no promise) and `splice` (the same, posted and
forgotten); given a checkout `pilot3` (its RealTimeLogger), and given a binary
`fluent` (Fluent Bit). Each runs in a process of its own against a server that
only stores; lost, doubled and late are judged afterwards from what the server
has stored.

CPU seconds are of the contestant's process alone, from its first record on. RSS
is its peak, and behind the plus what the peak is above the same process before
the first record. Of several rounds the one with the least CPU is shown: a busy
machine only ever adds.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.shippers.bare import floor, splice  # noqa: E402 - runs from a checkout
from benchmarks.shippers.fluent import fluent  # noqa: E402
from benchmarks.shippers.handler import handler  # noqa: E402
from benchmarks.shippers.load import arrivals, record, record_size, records, serve  # noqa: E402
from benchmarks.shippers.ours import ours  # noqa: E402
from benchmarks.shippers.pilot3 import pilot3  # noqa: E402

# Imports and set-up first; what is measured is in the function that it returns.
Contestant = Callable[[Path, str, threading.Event, Path | None], Callable[[], None]]
CONTESTANTS: dict[str, Contestant] = {
    "floor": floor,
    "splice": splice,
    "ours": ours,
    "fluent": fluent,
    "handler": handler,
    "pilot3": pilot3,
}
# They take a hundred times as long: a smaller heap for them.
SLOW = ("handler", "pilot3")
# They have no tail: a backlog is all they know.
BARE = ("floor", "splice")


def contestant(name: str, path: Path, url: str, tool: Path | None) -> None:
    """Body of a contestant's process."""
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    run = CONTESTANTS[name](path, url, ended, tool)
    idle_mb = _status_mb("VmRSS")
    before = time.process_time()
    threading.Thread(target=wait_for_the_end, daemon=True).start()
    run()
    used = {"cpu_s": time.process_time() - before, "rss_mb": _status_mb("VmHWM"), "idle_mb": idle_mb}
    if name == "fluent":
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = {"cpu_s": below.ru_utime + below.ru_stime, "rss_mb": below.ru_maxrss / 1024, "idle_mb": 0.0}
    print(json.dumps(used), flush=True)
    os._exit(0)  # a library's threads have had their chance


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


@dataclass(frozen=True)
class Result:
    """What one contestant did with one load."""

    records: int
    lost: int
    doubled: int
    cpu_s: float
    rss_mb: float
    idle_mb: float
    delays: list[float]
    wall_s: float

    def shown(self, name: str, load: str) -> str:
        million = self.cpu_s / self.records * 1e6
        p50, p99 = (self.delays[int(len(self.delays) * q)] * 1e3 if self.delays else 0.0 for q in (0.5, 0.99))
        late = "        -        -" if load == "backlog" or not self.delays else f"{p50:9.0f}{p99:9.0f}"
        lost = "-" if name == "floor" else str(self.lost)
        more = f"+{self.rss_mb - self.idle_mb:.0f}" if self.idle_mb else "-"
        return (
            f"{name:10}{load:>10}{self.records:>10}{lost:>8}{self.doubled:>9}{million:>11.1f}"
            f"{self.rss_mb:>9.0f}{more:>7}{late}{self.wall_s:>9.1f}"
        )


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def measure(name: str, count: int, rate: int, tool: Path | None) -> Result:
    """Write `count` records at `rate` a second (0: all before the start); what
    arrives?
    """
    with tempfile.TemporaryDirectory(prefix="logship-") as folder:
        path, spool = Path(folder, "payload-log.json"), Path(folder, "spool")
        with path.open("wb") as out:
            out.writelines(records(count if not rate else 0, time.time()))
        with _process("--serve", str(spool)) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            start = time.monotonic()
            with _process("--contestant", name, str(path), url, str(tool or "")) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                if rate:
                    _write(path, count, rate)
                child.stdin.close()
                used = json.loads(child.stdout.readline())
                child.stdin = None
            wall = time.monotonic() - start
        return _judged(name, count, spool, used, wall)


def _judged(name: str, count: int, spool: Path, used: dict[str, float], wall: float) -> Result:
    seen = bytearray(count)
    ids: set[tuple[int, str]] = set()
    delays = []
    doubled = 0
    for seq, delay, uid in [] if name == "floor" else arrivals(spool):
        if seen[seq] and (not uid or (seq, uid) not in ids):
            doubled += 1
        seen[seq] = 1
        ids.add((seq, uid))
        delays.append(delay)
    delays.sort()
    return Result(count, seen.count(0), doubled, delays=delays, wall_s=wall, **used)


def _write(path: Path, count: int, rate: int) -> None:
    pause = threading.Event()
    start = time.monotonic()
    seq = 0
    with path.open("ab", buffering=0) as out:
        while seq < count:
            due = min(count, int((time.monotonic() - start) * rate) + 1)
            if due > seq:
                out.write(b"".join(record(n, time.time()) for n in range(seq, due)))
                seq = due
            pause.wait(max(0.002, 1 / rate if rate < 500 else 0.002))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, help="size of the backlog")
    parser.add_argument("--rates", default="10,1000,20000", help="records a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each live run")
    parser.add_argument("--repeat", type=int, default=1, help="rounds")
    parser.add_argument("--gigabyte", action="store_true", help="a backlog of 1 GB")
    parser.add_argument("--pilot3", type=Path, metavar="DIR", help="a checkout of PanDAWMS/pilot3")
    parser.add_argument("--fluent-bit", "--fluent", dest="fluent", type=Path, metavar="BIN")
    parser.add_argument("--only", default=",".join(CONTESTANTS))
    parser.add_argument("--serve", metavar="SPOOL", help=argparse.SUPPRESS)
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve))
    if options.contestant:
        name, path, url, tool = options.contestant
        contestant(name, Path(path), url, Path(tool) if tool else None)
    tools = {"pilot3": options.pilot3, "fluent": options.fluent}
    if options.gigabyte:
        options.records = int(1e9 / record_size())
    names = [name for name in options.only.split(",") if tools.get(name, True)]
    loads = [("backlog", 0), *((f"{rate}/s", int(rate)) for rate in options.rates.split(",") if rate)]
    print(
        f"{'':10}{'load':>10}{'records':>10}{'lost':>8}{'doubled':>9}{'CPU-s/M':>11}{'RSS MB':>9}{'idle':>7}"
        f"{'p50 ms':>9}{'p99 ms':>9}{'wall s':>9}"
    )
    for load, rate in loads:
        found: dict[str, list[Result]] = {name: [] for name in names if not (rate and name in BARE)}
        for _ in range(options.repeat):
            for name, results in found.items():
                size = options.records // 10 if name in SLOW else options.records
                count = max(10, int(rate * options.seconds)) if rate else size
                results.append(measure(name, count, rate, tools.get(name)))
        for name, results in found.items():
            print(min(results, key=lambda r: r.cpu_s).shown(name, load), flush=True)


if __name__ == "__main__":
    main()
