"""What shipping a payload's log costs and loses, several ways, in one run.

    python benchmarks/logship.py [--records 100000] [--rates 10,1000,20000]
                                 [--seconds 4] [--only ours,splice]
                                 [--gigabyte] [--pilot3 DIR] [--fluent-bit BIN]

Contestants: `ours` (the pilot's shipper, every guarantee on), `handler` (the
client library's CloudLoggingHandler behind a plain tail), `floor` (read, parse
for
level and time, splice; no network and no promise) and `splice` (the same,
posted and forgotten); given a checkout `pilot3` (its RealTimeLogger, which has
10 s after the payload's end, as a stage-out might take), and given a binary
`fluent` (Fluent Bit: tail with positions in a database, JSON parser, HTTP
output
each 0.2 s). Each runs in a process of its own
against a server that only stores; lost, repeated and late are judged
afterwards from what the server has stored.

CPU seconds are of the contestant's process alone, from its first record on.
"""

import argparse
import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SAMPLE = (
    '{"name":"lsst.isr","asctime":"%s","message":"Amp C%02d: overscan median 1000.05 +- 1383.39 ADU",'
    '"levelno":15,'
    '"levelname":"VERBOSE","filename":"tasks.py","pathname":"/opt/lsst/software/stack/venv/lib/python3.11/'
    'site-packages/lsst/toy/tasks.py","lineno":97,"funcName":"run","process":12348,"processName":"MainProcess",'
    '"MDC":{"REPO":"s3://butler-us-central1-panda-dev/dc2/butler-external.yaml","LABEL":"isr:{instrument: '
    "'ToyCam', detector: 0, exposure: 2022081000001, band: 'r', day_obs: 20220810}\","
    '"RUN":"u/toy/test/20220810T1"},'
    '"seq":%d,"t":%.6f}\n'
)


def record(seq: int, now: float) -> bytes:
    """One record in Rubin's shape, with a number and the time of its writing."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    return (SAMPLE % (stamp, seq % 16, seq, now)).encode()


# ---- the server: stores bodies and arrival times, judges nothing


def serve(spool: Path) -> None:
    """Store every request; the port goes to stdout."""
    out = spool.open("wb")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            out.write(b"%.6f %d\n" % (time.time(), len(body)))
            out.write(body)
            out.flush()
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    from http.server import ThreadingHTTPServer

    server: HTTPServer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def arrivals(spool: Path) -> list[tuple[int, float, str]]:
    """Number, delay and insert id of every entry that reached the server."""
    found = []
    with spool.open("rb") as src:
        while head := src.readline():
            at, size = head.split()
            body = json.loads(src.read(int(size)))
            # Fluent Bit's HTTP output posts a plain list of records.
            for entry in body["entries"] if isinstance(body, dict) else body:
                payload = entry.get("jsonPayload", entry)
                found.append((int(payload["seq"]), float(at) - payload["t"], entry.get("insertId", "")))
    return found


# ---- the contestants: imports and set-up first, what is measured is in `run`


Run = Callable[[], None]


def ours(path: Path, url: str, ended: threading.Event) -> Run:
    from pilot_core.base.budget import Budget
    from pilot_core.base.clock import SystemClock
    from pilot_core.base.redact import Redactor
    from pilot_core.logship.record import JobContext, PayloadRecords
    from pilot_core.logship.shipper import LogShipper, ShipSettings
    from pilot_core.logship.sinks.google import GoogleSink
    from pilot_core.logship.target import Target

    clock = SystemClock()
    sink = GoogleSink(Target("google", url), "Panda-RubinLog")
    context = JobContext("77", "4242", "9", "harvester", 5)
    redactor = Redactor(["a-secret-of-the-job"])
    shipper = LogShipper(
        [path],
        lambda source: PayloadRecords(
            context, source, entry_bytes=sink.limits.entry_bytes, redactor=redactor, now=clock.time
        ),
        sink,
        checkpoint=path.with_name("positions.json"),
        clock=clock,
        settings=ShipSettings(interval_s=0.1),
    )

    def run() -> None:
        thread = threading.Thread(target=shipper.run, args=(threading.Event(),))
        thread.start()
        ended.wait()
        shipper.finish(Budget(clock, 600.0, "drain"))
        thread.join()
        sink.close()

    return run


def floor(path: Path, _: str, ended: threading.Event) -> Run:
    return _splice(path, ended, len)


def splice(path: Path, url: str, ended: threading.Event) -> Run:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=60)

    def post(body: bytes) -> None:
        connection.request("POST", "/v2/entries:write", b'{"entries":[' + body + b"]}")
        connection.getresponse().read()

    return _splice(path, ended, post)


def _splice(path: Path, ended: threading.Event, post: Callable[[bytes], object]) -> Run:
    import orjson

    def run() -> None:
        ended.wait()
        with path.open("rb") as src:
            while lines := src.readlines(512 * 1024):
                parts = []
                for line in lines:
                    found = orjson.loads(line)
                    level, when = found["levelname"], found["asctime"]
                    parts.append(
                        b'{"jsonPayload":{"TaskID":"77","PandaJobID":"4242",'
                        + line[1:-1]
                        + f',"severity":"{level}","timestamp":"{when}"}}'.encode()
                    )
                post(b",".join(parts))

    return run


def _library_client(url: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import logging as cloud_logging

    return cloud_logging.Client(
        project="p", credentials=AnonymousCredentials(), _use_grpc=False, client_options={"api_endpoint": url}
    )


def handler(path: Path, url: str, ended: threading.Event) -> Run:
    import logging

    from google.cloud.logging.handlers import CloudLoggingHandler
    from google.cloud.logging_v2.resource import Resource

    handler = CloudLoggingHandler(
        _library_client(url), name="Panda-RubinLog", resource=Resource("global", {"project_id": "p"})
    )
    logger = logging.getLogger("payload")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)

    def run() -> None:
        with path.open("rb") as src:
            while True:
                over = ended.is_set()
                for line in src.readlines():
                    logger.info(json.loads(line))
                if over:
                    break
                ended.wait(0.1)
        handler.flush()

    return run


def pilot3(path: Path, url: str, ended: threading.Event) -> Run:
    from types import SimpleNamespace

    sys.path.insert(0, str(TOOLS["pilot3"]))
    from google.cloud import logging as cloud_logging

    # It takes no endpoint: the client that it makes is one that knows ours.
    client = _library_client(url)
    cloud_logging.Client = lambda: client
    importlib.import_module("pilot.info")  # first, or its modules import each other in a circle
    from pilot.util.realtimelogger import get_realtime_logger

    job = SimpleNamespace(taskid="77", jobid="4242", requestid=5, workdir=str(path.parent), state="running")
    args = SimpleNamespace(graceful_stop=threading.Event(), cacert="", capath="")
    where = {"logging_type": "google-cloud-logging", "protocol": "http", "url": "localhost", "port": "80"}
    logger = get_realtime_logger(args, {**where, "logname": "x", "logfiles": [str(path)]}, "", "")

    def end() -> None:
        ended.wait()
        job.state = "finished"

    def run() -> None:
        threading.Thread(target=end, daemon=True).start()
        logger.sending_logs(args, job)
        threading.Event().wait(10.0)

    return run


FLUENT = """
[SERVICE]
    flush 0.2
    grace 5
    log_level error
    parsers_file {folder}/parsers.conf
[INPUT]
    name tail
    path {path}
    db {folder}/offsets.db
    read_from_head on
    refresh_interval 1
    parser rubin
    mem_buf_limit 50M
[OUTPUT]
    name http
    match *
    host 127.0.0.1
    port {port}
    uri /v2/entries:write
    format json
    retry_limit no_limits
"""


def fluent(path: Path, url: str, ended: threading.Event) -> Run:
    import sqlite3

    folder = path.parent
    Path(folder, "parsers.conf").write_text("[PARSER]\n    name rubin\n    format json\n")
    config = folder / "fluent.conf"
    config.write_text(FLUENT.format(folder=folder, path=path, port=url.rpartition(":")[2]))

    def read_to() -> int:
        with contextlib.closing(sqlite3.connect(folder / "offsets.db", timeout=5)) as db:
            try:
                found = db.execute("select max(offset) from in_tail_files").fetchone()
            except sqlite3.OperationalError:  # it has only begun
                return 0
        return int(found[0] or 0)

    def run() -> None:
        child = subprocess.Popen([str(TOOLS["fluent"]), "-c", str(config)], stdout=subprocess.DEVNULL)
        ended.wait()
        until = time.monotonic() + 300
        pause = threading.Event()
        while time.monotonic() < until and read_to() < path.stat().st_size:
            pause.wait(0.2)
        child.terminate()
        child.wait()

    return run


# Where foreign contestants are; filled in from the command line.
TOOLS: dict[str, Path] = {}

CONTESTANTS: dict[str, Callable[[Path, str, threading.Event], Run]] = {
    "floor": floor,
    "splice": splice,
    "ours": ours,
    "handler": handler,
    "pilot3": pilot3,
    "fluent": fluent,
}
# They take a hundred times as long: a smaller heap for them.
SLOW = ("handler", "pilot3")


def contestant(name: str, path: Path, url: str) -> None:
    """Body of a contestant's process."""
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    run = CONTESTANTS[name](path, url, ended)
    before = time.process_time()
    run()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    used = {"cpu_s": time.process_time() - before, "rss_mb": peak / 1024}
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    if name == "fluent":
        used = {"cpu_s": below.ru_utime + below.ru_stime, "rss_mb": below.ru_maxrss / 1024}
    print(json.dumps(used), flush=True)
    os._exit(0)  # a library's threads have had their chance


# ---- a run


@dataclass(frozen=True)
class Result:
    """What one contestant did with one load."""

    records: int
    lost: int
    repeated: int
    cpu_s: float
    rss_mb: float
    delays: list[float]
    wall_s: float

    def shown(self, name: str, load: str) -> str:
        million = self.cpu_s / self.records * 1e6
        p50, p99 = (self.delays[int(len(self.delays) * q)] * 1e3 if self.delays else 0.0 for q in (0.5, 0.99))
        late = "        -        -" if load == "backlog" or not self.delays else f"{p50:9.0f}{p99:9.0f}"
        lost = "-" if name == "floor" else str(self.lost)
        return (
            f"{name:10}{load:>10}{self.records:>10}{lost:>8}{self.repeated:>9}{million:>11.1f}"
            f"{self.rss_mb:>9.0f}{late}{self.wall_s:>9.1f}"
        )


@contextlib.contextmanager
def _process(*arguments: str) -> Any:
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


def measure(name: str, records: int, rate: int) -> Result:
    """Write `records` at `rate` a second (0: all before the start); what
    arrives?
    """
    with tempfile.TemporaryDirectory(prefix="logship-") as folder:
        path, spool = Path(folder, "payload-log.json"), Path(folder, "spool")
        path.touch()
        if not rate:
            with path.open("wb") as out:
                now = time.time()
                for seq in range(records):
                    out.write(record(seq, now + seq * 1e-5))
        with _process("--serve", str(spool)) as server:
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            start = time.monotonic()
            tools = [f"--{tool}={where}" for tool, where in TOOLS.items()]
            with _process("--contestant", name, str(path), url, *tools) as child:
                if rate:
                    _write(path, records, rate)
                child.stdin.close()
                used = json.loads(child.stdout.readline())
                child.stdin = None
            wall = time.monotonic() - start
        got = [] if name == "floor" else arrivals(spool)
    numbers = {seq for seq, _, _ in got}
    unique = {(seq, uid) for seq, _, uid in got}
    visible = len(unique) if got and got[0][2] else len(got)
    return Result(
        records,
        records - len(numbers),
        visible - len(numbers),
        used["cpu_s"],
        used["rss_mb"],
        sorted(delay for _, delay, _ in got),
        wall,
    )


def _write(path: Path, records: int, rate: int) -> None:
    pause = threading.Event()
    start = time.monotonic()
    seq = 0
    with path.open("ab", buffering=0) as out:
        while seq < records:
            due = min(records, int((time.monotonic() - start) * rate) + 1)
            if due > seq:
                out.write(b"".join(record(n, time.time()) for n in range(seq, due)))
                seq = due
            pause.wait(max(0.002, 1 / rate if rate < 500 else 0.002))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, help="size of the backlog")
    parser.add_argument("--rates", default="10,1000,20000", help="records a second")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each live run")
    parser.add_argument("--gigabyte", action="store_true", help="a backlog of 1 GB")
    parser.add_argument("--pilot3", type=Path, metavar="DIR", help="a checkout of PanDAWMS/pilot3")
    parser.add_argument("--fluent-bit", "--fluent", dest="fluent", type=Path, metavar="BIN")
    parser.add_argument("--only", default=",".join(CONTESTANTS))
    parser.add_argument("--serve", metavar="SPOOL", help=argparse.SUPPRESS)
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    TOOLS.update({n: p for n, p in (("pilot3", options.pilot3), ("fluent", options.fluent)) if p})
    if options.gigabyte:
        options.records = 10**9 // len(record(10**6, time.time()))
    if options.serve:
        serve(Path(options.serve))
    if options.contestant:
        name, path, url = options.contestant
        contestant(name, Path(path), url)
    print(
        f"{'':10}{'load':>10}{'records':>10}{'lost':>8}{'doubled':>9}{'CPU-s/M':>11}{'RSS MB':>9}"
        f"{'p50 ms':>9}{'p99 ms':>9}{'wall s':>9}"
    )
    for name in options.only.split(","):
        if name in ("pilot3", "fluent") and name not in TOOLS:
            continue
        size = options.records // 10 if name in SLOW else options.records
        print(measure(name, size, 0).shown(name, "backlog"), flush=True)
        for rate in map(int, filter(None, options.rates.split(","))):
            if name not in ("floor", "splice"):
                count = max(10, int(rate * options.seconds))
                print(measure(name, count, rate).shown(name, f"{rate}/s"), flush=True)


if __name__ == "__main__":
    main()
