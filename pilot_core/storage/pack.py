"""A text packed for a bucket, which hands it to browsers as the text it was."""

import gzip
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.storage.source import FileSource

__all__ = ["write_gzip"]

# Level 1: a third of the time of level 6, a tenth more bytes on logs.
_LEVEL = 1


def write_gzip(source: Path, target: Path, *, budget: Budget) -> Path:
    """Pack `source` into the new file `target`; memory does not grow with it.

    A file and no stream: an upload that breaks goes on where it was, and is
    checked against what was packed.

    Raises
    ------
    OSError, StorageError, BudgetSpent
        If it cannot be read or written, or not in time.
    """
    with (
        FileSource(source, budget=budget) as src,
        target.open("xb") as out,
        # The same text gives the same bytes: no name and no time inside.
        gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
    ):
        for data in src:
            packed.write(data)
    return target
