"""Fluent Bit, from a binary: tail with positions in a database, JSON parser, HTTP
output each 0.2 s, every request repeated until it is taken.
"""

import contextlib
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

_CONFIG = """
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


def fluent(path: Path, url: str, ended: threading.Event, binary: Path | None) -> Callable[[], None]:
    folder = path.parent
    Path(folder, "parsers.conf").write_text("[PARSER]\n    name rubin\n    format json\n")
    config = folder / "fluent.conf"
    config.write_text(_CONFIG.format(folder=folder, path=path, port=url.rpartition(":")[2]))

    def read_to() -> int:
        with contextlib.closing(sqlite3.connect(folder / "offsets.db", timeout=5)) as db:
            try:
                found = db.execute("select max(offset) from in_tail_files").fetchone()
            except sqlite3.OperationalError:  # it has only begun
                return 0
        return int(found[0] or 0)

    def run() -> None:
        quiet = subprocess.DEVNULL
        child = subprocess.Popen([str(binary), "-c", str(config)], stdout=quiet, stderr=quiet)
        ended.wait()
        until = time.monotonic() + 300
        pause = threading.Event()
        while time.monotonic() < until and read_to() < path.stat().st_size:
            pause.wait(0.2)
        child.terminate()
        child.wait()

    return run
