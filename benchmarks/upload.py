"""Upload of one large log to Cloud Storage: ours against the plain client
library.

Prints rate, CPU time and peak memory of each, in a process of its own, against
a server on loopback that throws the data away.

    python benchmarks/upload.py [--mb 2048] [--latency-ms 30] [--check]

With a limit of 1 GB for everything, page cache included (cgroup v1, as root):

    mkdir /sys/fs/cgroup/memory/upload
    echo 1G >/sys/fs/cgroup/memory/upload/memory.limit_in_bytes
    sh -c 'echo $$ >/sys/fs/cgroup/memory/upload/tasks;
           exec python benchmarks/upload.py --check'
"""

import argparse
import base64
import contextlib
import http.server
import json
import multiprocessing
import os
import re
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

PIECE = 1024 * 1024


class Sink(http.server.BaseHTTPRequestHandler):
    """Resumable uploads whose bytes are summed and forgotten."""

    protocol_version = "HTTP/1.1"
    # Head and body of an answer leave in one packet: two would wait for an
    # ACK.
    wbufsize = -1
    latency_s: float = 0.0
    crc: int = 0
    have: int = 0

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Begin an upload."""
        self.rfile.read(int(self.headers["Content-Length"]))
        Sink.crc, Sink.have = 0, 0
        host = self.headers["Host"]
        self._answer(200, {}, {"Location": f"http://{host}/upload/resume?upload_id=1"})

    def do_PUT(self) -> None:
        """Take a piece."""
        left = int(self.headers["Content-Length"])
        while left:
            data = self.rfile.read(min(PIECE, left))
            Sink.crc = google_crc32c.extend(Sink.crc, data)
            Sink.have += len(data)
            left -= len(data)
        total = re.fullmatch(r"bytes .*/(\d+|\*)", self.headers["Content-Range"])
        if total is None or str(Sink.have) != total[1]:
            self._answer(308, {}, {"Range": f"bytes=0-{Sink.have - 1}"})
            return
        crc = base64.b64encode(Sink.crc.to_bytes(4, "big")).decode()
        self._answer(200, {"name": "x", "size": str(Sink.have), "crc32c": crc, "generation": "1"}, {})

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        time.sleep(Sink.latency_s)
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()


def ours(url: str, path: Path) -> None:
    """The pilot's uploader."""
    from pilot_core.base.budget import Budget
    from pilot_core.base.clock import SystemClock
    from pilot_core.base.redact import Redactor
    from pilot_core.storage.gcs import GcsTool
    from pilot_core.storage.logs import LogUploader

    clock = SystemClock()
    tool = GcsTool(clock=clock, endpoint=url)
    known = Redactor(["one-secret-of-a-job", "and-a-second-one"])
    uploader = LogUploader(tool, "gs://bucket/logs/", clock=clock, roots=[path.parent], redactor=known)
    result = uploader.upload([path], budget=Budget(clock, 600, "benchmark"))
    assert not result.failed, result.failed


def plain(url: str, path: Path) -> None:
    """What a script with the client library does: `upload_from_filename`."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client("p", AnonymousCredentials(), client_options={"api_endpoint": url})
    client._bucket_metadata_cache = None
    client.bucket("bucket").blob("x").upload_from_filename(str(path))


def measure(name: str, url: str, path: Path, pipe: Any) -> None:
    """Run one of the two, print its figures and send rate and peak memory."""
    started, before = time.monotonic(), time.process_time()
    {"ours": ours, "plain": plain}[name](url, path)
    seconds, cpu = time.monotonic() - started, time.process_time() - before
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = path.stat().st_size / 1e6 / seconds
    print(f"{name:6} {seconds:6.2f} s {rate:7.0f} MB/s   CPU {cpu:5.2f} s   peak memory {peak_mb:5.0f} MB")
    pipe.send((rate, peak_mb))


@contextlib.contextmanager
def sink(latency_s: float) -> Iterator[str]:
    """The server, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, latency_s), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join(5)


def serve(pipe: Any, latency_s: float) -> None:
    """Body of the server's process."""
    Sink.latency_s = latency_s
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    pipe.send(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


def main() -> None:
    """Make the file, measure both, twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=2048)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of each answer; a region's is some 30")
    parser.add_argument("--check", action="store_true", help="fail below 80 %% of the rate or above 100 MB")
    arguments = parser.parse_args()
    size = arguments.mb
    context = multiprocessing.get_context("spawn")
    rates: dict[str, float] = {"plain": 0.0, "ours": 0.0}
    memory: dict[str, float] = {"plain": 0.0, "ours": 0.0}
    with tempfile.TemporaryDirectory() as folder, sink(arguments.latency_ms / 1000) as url:
        path = Path(folder) / "payload.stderr"
        piece = os.urandom(PIECE)
        with path.open("wb") as out:
            for _ in range(size):
                out.write(piece)
        for name in ("plain", "ours", "plain", "ours"):
            here, there = context.Pipe()
            child = context.Process(target=measure, args=(name, url, path, there))
            child.start()
            rate, peak_mb = here.recv()
            child.join()
            rates[name], memory[name] = max(rates[name], rate), max(memory[name], peak_mb)
    ratio = rates["ours"] / rates["plain"]
    print(f"ours reaches {ratio:.0%} of the plain client's rate with {memory['ours']:.0f} MB")
    if arguments.check and (ratio < 0.8 or memory["ours"] > 100):
        raise SystemExit("below what is promised")


if __name__ == "__main__":
    main()
