"""What prmon inside the payload sees, read while it runs.

Rubin's runner starts prmon (HSF) around the payload inside its own container,
where an engine that only sees the `docker run` client sees nothing. prmon
appends a line of text per interval and rewrites a JSON summary; the runner
calls them `prmon.txt` and `prmon.json` in the shared folder and links them
into
the work directory as `memory_monitor_output.txt` and
`memory_monitor_summary.json` at its end, or touches those names before prmon
starts (ctrl_bps_panda `bps_idf.yaml`, 2022 and 2023).

The payload owns these files: nothing about them is trusted. An empty file
hides no other one, the order of the columns is taken from the header, the
last line may be half written, values that are no whole numbers are passed
over, and only regular files are opened.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pilot_core.base.files import open_regular

__all__ = ["PrmonMonitor"]

_TEXTS = ("memory_monitor_output.txt", "prmon.txt")
_SUMMARIES = ("memory_monitor_summary.json", "prmon.json")

# prmon's column, field of Sample. Memory in kB, IO in bytes in both.
_NOW = {"rss": "rss_kb", "pss": "pss_kb", "vmem": "vmem_kb", "swap": "swap_kb"}
_COUNTS = {"nprocs": "processes", "nthreads": "threads"}
_TOTALS = {"rchar": "rchar", "wchar": "wchar", "read_bytes": "read_bytes", "write_bytes": "write_bytes"}
_PEAKS = {name: f"peak_{field}" for name, field in _NOW.items()}

#: Read at one look at most, bytes: a day of prmon at 5 s is 2 MB.
_STEP = 1024 * 1024
_LONGEST_LINE = 16 * 1024

#: A file that was not written for so long, seconds, says nothing of the memory
#: now: prmon has ended or died. Its intervals are 5 s (Rubin) to 60 s (ATLAS).
STALE_S = 180.0
_LONGEST_SUMMARY = 256 * 1024
_LARGEST = 2**62


class PrmonMonitor:
    """Follows the text file; falls back to the summary where there is no text.

    Each look reads only what was appended since the last one.

    Parameters
    ----------
    folders
        Where the files may be: the work directory and the shared folder.
    """

    name = "prmon"

    def __init__(self, folders: Sequence[Path]) -> None:
        self._texts = tuple(folder / name for folder in folders for name in _TEXTS)
        self._summaries = tuple(folder / name for folder in folders for name in _SUMMARIES)
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._columns: tuple[bytes, ...] = ()
        self._row: dict[str, int] = {}
        self._peaks: dict[str, int] = {}
        self._written = 0.0

    def measure(self, now: float) -> Mapping[str, float | int | str]:
        path = _freshest(self._texts)
        if path is not None:
            self._follow(path)
        if self._row and now - self._written > STALE_S:
            return {**_lasting(self._row), **self._peaks}
        if self._row:
            return {**_fields(self._row), **self._peaks, "memory_source": "prmon"}
        summary = _freshest(self._summaries)
        return {} if summary is None else _from_summary(summary)

    def _follow(self, path: Path) -> None:
        """Take in the whole lines that are new."""
        with contextlib.suppress(OSError), open_regular(Path(os.path.realpath(path))) as source:
            info = os.fstat(source.fileno())
            identity = (info.st_dev, info.st_ino)
            if identity != self._file or info.st_size < self._offset:
                self._file, self._offset, self._columns = identity, 0, ()
            self._written = info.st_mtime
            source.seek(self._offset)
            data = source.read(_STEP)
            end = data.rfind(b"\n") + 1
            if not end and len(data) > _LONGEST_LINE:
                end = len(data)  # no line of prmon's is that long
            self._offset += end
            self._lines(data[:end].splitlines())

    def _lines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            cells = line.split()
            if cells and cells[0] == b"Time":
                self._columns = tuple(cells)
                continue
            row = _row(self._columns, cells)
            if "rss" not in row and "pss" not in row:
                continue
            self._row = row
            for column, field in _PEAKS.items():
                if column in row:
                    self._peaks[field] = max(self._peaks.get(field, 0), row[column])


def _freshest(paths: Iterable[Path]) -> Path | None:
    """The regular file with content that was written last; the first of
    equals.
    """
    best: tuple[float, Path] | None = None
    for path in paths:
        with contextlib.suppress(OSError):
            info = path.stat()
            if stat.S_ISREG(info.st_mode) and info.st_size and (best is None or info.st_mtime > best[0]):
                best = (info.st_mtime, path)
    return None if best is None else best[1]


def _number(value: object) -> int | None:
    """A whole number that a counter can hold, or None."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < _LARGEST else None


def _row(columns: Sequence[bytes], cells: Sequence[bytes]) -> dict[str, int]:
    """Numbers of one line by column; empty if it does not fit its header."""
    if len(columns) != len(cells):
        return {}
    numbers = ((name, _number(cell)) for name, cell in zip(columns, cells, strict=True))
    return {name.decode("ascii", "replace"): number for name, number in numbers if number is not None}


def _fields(row: Mapping[str, int]) -> dict[str, float | int | str]:
    """Fields of Sample from a row of prmon's."""
    table = {**_NOW, **_COUNTS, **_TOTALS}
    found: dict[str, float | int | str] = {field: row[name] for name, field in table.items() if name in row}
    if "utime" in row and "stime" in row:
        found["cpu_s"] = float(row["utime"] + row["stime"])
    return found


def _lasting(row: Mapping[str, int]) -> dict[str, float | int | str]:
    """Those fields that stay true after prmon's end: the totals."""
    return _fields({name: value for name, value in row.items() if name not in {**_NOW, **_COUNTS}})


def _from_summary(path: Path) -> dict[str, float | int | str]:
    """Totals and peaks from the JSON summary; it does not know the memory of
    now.

    `{"Max": {...}, "Avg": {...}, "HW": {...}}`; IO and time under "Max" are
    totals, since they only grow (prmon 3.0).
    """
    try:
        with open_regular(Path(os.path.realpath(path))) as source:
            document = json.loads(source.read(_LONGEST_SUMMARY))
    except (OSError, ValueError, RecursionError):
        return {}
    most = document.get("Max") if isinstance(document, dict) else None
    if not isinstance(most, dict):
        return {}
    row = {str(name): number for name, value in most.items() if (number := _number(value)) is not None}
    found = _lasting(row)
    found.update((field, row[name]) for name, field in _PEAKS.items() if name in row)
    return found
