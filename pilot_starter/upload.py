"""The worker's log, made ready for the server's cache."""

import gzip
import logging
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent

__all__ = ["log_name_of", "pack"]

log = logging.getLogger(__name__)

# The server takes 100 MB under a name that ends in `.out`. Logs shrink to a
# tenth, so that one which has to be cut had about a gigabyte.
_MOST_BYTES = 95_000_000
# So much is packed in a moment, whatever else the node does.
_HASTY_BYTES = 5_000_000
_CHUNK = 1024 * 1024
# Whoever asks for such a name gets what is packed; for another one, the text.
_PACKED = "_gz.out"


def log_name_of(harvester_id: str, worker_id: int | None, *, asked: str = "") -> str:
    """Name under which Harvester links the worker's log; "" outside Harvester.

    Harvester advertises `<harvester>_<worker>_gz.out`, gzip inside (harvester
    d561b72, k8s submitter). Older ones tell a name of their own, most often
    `<harvester>_<worker>.out`, in `stdout_name`.
    """
    if asked and Path(asked).name == asked:
        return asked
    return f"{harvester_id}_{worker_id}{_PACKED}" if harvester_id and worker_id is not None else ""


def pack(source: Path, target: Path, *, budget: Budget, most_bytes: int = _MOST_BYTES) -> None:
    """Copy the log, compressed where the name says so; of one that is too
    large for the server, its beginning and its end, and little of both when
    the time is over.

    Raises
    ------
    OSError
        If either file is not to be had.
    """
    size = source.stat().st_size
    try:
        _copy(source, target, [(0, None)], budget)
        if target.stat().st_size <= most_bytes:
            return
        log.warning("the worker log has %d bytes: its middle is left out of the upload", size)
        _copy(source, target, _ends(size, most_bytes), budget)
    except BudgetSpent as err:
        kept = min(most_bytes, _HASTY_BYTES)
        if size <= kept:
            _copy(source, target, [(0, None)], None)
            return
        log.warning("the worker log has %d bytes, %s: little of it is uploaded", size, err)
        _copy(source, target, _ends(size, kept), None)


def _ends(size: int, most_bytes: int) -> list[tuple[int, int | None]]:
    """A tenth for the beginning, most of the rest for the end."""
    head, tail = most_bytes // 10, most_bytes * 8 // 10
    return [(0, head), (max(head, size - tail), None)]


def _copy(source: Path, target: Path, ranges: list[tuple[int, int | None]], budget: Budget | None) -> None:
    packed = target.name.endswith(_PACKED)
    with source.open("rb") as src, gzip.open(target, "wb", 6) if packed else target.open("wb") as out:
        for start, length in ranges:
            if start:
                out.write(b"\n[... the middle is left out ...]\n")
            src.seek(start)
            left = length
            while data := src.read(_CHUNK if left is None else min(_CHUNK, left)):
                if budget is not None:
                    budget.timeout(1.0)
                out.write(data)
                if left is not None:
                    left -= len(data)
