"""What is shipped, and where to: records in Rubin's shape, and a server that
stores.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

# Logger, level, source, line, function and message of a detector's processing.
_PACKAGE = "/opt/lsst/software/stack/venv/lib/python3.11/site-packages/lsst"
_STATEMENTS = [
    ("lsst.isr", 15, "VERBOSE", f"{_PACKAGE}/ip/isr/isrTask.py", 1412, "run", text)
    for text in ("Amp C%02d: overscan median %.3f ± 1383.390 ADU", "Amp C%02d: %.2f %% of pixels masked")
] + [
    ("lsst.isr", 20, "INFO", f"{_PACKAGE}/ip/isr/isrTask.py", 980, "run", "Applying flat of detector %d, %f"),
    (
        "lsst.daf.butler.datastores.fileDatastore", 15, "VERBOSE",
        f"{_PACKAGE}/daf/butler/datastores/fileDatastore.py", 1890, "_get_dataset_locations_info",
        "Number of datasets found in datastore for chunk %d = 0/1 (running total: %.0f/1)",
    ),
    (
        "lsst.characterizeImage.measurement", 20, "INFO", f"{_PACKAGE}/meas/base/sfm.py", 333, "run",
        "Measuring %d sources (%.3f parents) with \\\"base_PsfFlux\\\"",
    ),
    (
        "lsst.pipe.base.single_quantum_executor", 20, "INFO",
        f"{_PACKAGE}/pipe/base/single_quantum_executor.py", 511, "execute",
        "Execution of task \\'isr\\' on quantum {detector: %d} took %.3f seconds".replace("\\'", "'"),
    ),
]  # fmt: skip
# A task's turn for one detector: so many records have the same diagnostic
# context.
_TURN = 25
_NUMBERED = re.compile(r"\[(\d+) written at ([0-9.]+)\]$")


def record(seq: int, now: float) -> bytes:
    """One record, with a number and the time of its writing in its message."""
    name, number, level, path, lineno, function, text = _STATEMENTS[seq % len(_STATEMENTS)]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    turn = seq // _TURN
    label = (
        f"isr:{{instrument: 'LSSTCam-imSim', detector: {turn % 189}, visit: {5000000 + turn // 189}, ...}}"
    )
    message = f"{text % (seq % 16, seq % 997 * 1.5)} [{seq} written at {now:.6f}]"
    return (
        f'{{"name":"{name}","asctime":"{stamp}","message":"{message}","levelno":{number},'
        f'"levelname":"{level}","filename":"{path.rpartition("/")[2]}","pathname":"{path}","lineno":{lineno},'
        f'"funcName":"{function}","process":12348,"processName":"MainProcess","MDC":{{'
        f'"REPO":"s3://butler-us-central1-panda-dev/dc2/butler-external.yaml","LABEL":"{label}",'
        '"RUN":"u/toy/test/20220810T120000Z"}}\n'
    ).encode()


def records(count: int, now: float) -> Iterator[bytes]:
    """A backlog: written at 100,000 a second until now."""
    for seq in range(count):
        yield record(seq, now + (seq - count) * 1e-5)


def record_size() -> float:
    """Mean size of a record in bytes."""
    sizes = [len(record(10**6 + seq, time.time())) for seq in range(1000)]
    return sum(sizes) / len(sizes)


def serve(spool: Path) -> None:
    """Store every request with the time of its arrival; the port goes to
    stdout.
    """
    out, writing = spool.open("wb"), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            # Each connection has a thread.
            with writing:
                out.write(b"%.6f %d\n" % (time.time(), len(body)))
                out.write(body)
                out.flush()
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    server: HTTPServer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def arrivals(spool: Path) -> Iterator[tuple[int, float, str]]:
    """Number, delay and insert id of every entry that reached the server."""
    with spool.open("rb") as src:
        while head := src.readline():
            at, size = head.split()
            body = json.loads(src.read(int(size)))
            # Fluent Bit's HTTP output posts a plain list of records.
            for entry in body["entries"] if isinstance(body, dict) else body:
                payload = entry.get("jsonPayload", entry)
                seq, written = next(itertools.chain(_NUMBERED.findall(payload["message"])))
                yield int(seq), float(at) - float(written), entry.get("insertId", "")
