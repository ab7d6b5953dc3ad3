"""What a pilot reads of HSF prmon: memory and CPU of a process tree.

``prmon [-i SECONDS] [-f TABLE] [-j SUMMARY] -- COMMAND ...``

PyPI has no prmon, and a payload of Rubin runs under it: same options, same
column names, same layout of the summary. Memory in kB, times in seconds, IO in
bytes.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

COUNTS = ("nprocs", "nthreads", "pss", "rss", "swap", "vmem")
"""What is in use at a time; the summary has highest and average."""
TOTALS = ("wtime", "stime", "utime", "rchar", "read_bytes", "wchar", "write_bytes")
"""What has been used so far; an average would mean nothing."""
COLUMNS = ("Time", *COUNTS, *TOTALS)


def measure(pid: int, *, started: float) -> dict[str, int]:
    """One row of the table: sums over process `pid` and its descendants."""
    row = dict.fromkeys(COLUMNS, 0)
    row["Time"], row["wtime"] = int(time.time()), int(time.monotonic() - started)
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return row
    for process in family:
        try:
            memory, cpu, io = process.memory_full_info(), process.cpu_times(), process.io_counters()
            threads = process.num_threads()
        except psutil.Error:
            continue  # it ended between the list and the look
        numbers = {
            "nprocs": 1,
            "nthreads": threads,
            "utime": cpu.user,
            "stime": cpu.system,
            **{name: getattr(memory, name) / 1024 for name in ("pss", "rss", "swap")},
            "vmem": memory.vms / 1024,
            "rchar": io.read_chars,
            "wchar": io.write_chars,
            "read_bytes": io.read_bytes,
            "write_bytes": io.write_bytes,
        }
        for name, number in numbers.items():
            row[name] += int(number)
    return row


def summarise(rows: list[dict[str, int]]) -> dict[str, dict[str, object]]:
    """Highest and average values, as prmon's JSON file has them."""
    return {
        "Max": {name: max(row[name] for row in rows) for name in COUNTS + TOTALS},
        "Avg": {name: sum(row[name] for row in rows) // len(rows) for name in COUNTS},
        "prmon": {"Version": "labcam"},
    }


def watch(command: list[str], *, interval: float, table: Path, summary: Path) -> int:
    """Run `command`, writing both files; its exit code, 128 + n after signal
    n.
    """
    started = time.monotonic()
    child = subprocess.Popen(command)
    rows: list[dict[str, int]] = []
    with table.open("w", encoding="ascii") as out:
        print(*COLUMNS, sep="\t", file=out, flush=True)
        while True:
            row = measure(child.pid, started=started)
            if row["nprocs"]:
                rows.append(row)
                print(*row.values(), sep="\t", file=out, flush=True)
                summary.write_text(json.dumps(summarise(rows), indent=2), encoding="ascii")
            try:
                code = child.wait(timeout=interval)
            except subprocess.TimeoutExpired:
                continue
            return code if code >= 0 else 128 - code


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="prmon", description="Watch a command's memory and CPU.")
    parser.add_argument("-i", "--interval", type=float, default=30.0, help="seconds between two rows")
    parser.add_argument("-f", "--filename", type=Path, default=Path("prmon.txt"), help="table")
    parser.add_argument("-j", "--json-summary", type=Path, default=Path("prmon.json"), help="summary")
    parser.add_argument("command", nargs="+", help="after `--`: what to run")
    wanted = parser.parse_args()
    sys.exit(
        watch(wanted.command, interval=wanted.interval, table=wanted.filename, summary=wanted.json_summary)
    )


if __name__ == "__main__":
    main()
