"""A file too large to keep: its head and its tail hold what people look for."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.storage.checksum import BLOCK
from pilot_core.storage.clean import cut_between
from pilot_core.storage.source import FileSource

__all__ = ["write_excerpt"]

# Of what is kept: a quarter shows how it began, the rest how it ended.
_HEAD = 0.25


def write_excerpt(
    source: Path, target: Path, keep_bytes: int, *, budget: Budget, values: Sequence[bytes] = ()
) -> Path:
    """Write head and tail of `source` to the new file `target`.

    Parameters
    ----------
    keep_bytes
        Bytes kept of the original; the line between the parts comes on top.
    values
        Texts, the longest first, that are left out whole where a cut would
        leave a half: half a secret is masked by nobody.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    OSError, StorageError, BudgetSpent
        If it cannot be read or written, or not in time.
    """
    head = int(keep_bytes * _HEAD)
    with FileSource(source, budget=budget) as src, target.open("xb") as out:
        tail_at = max(head, src.size - (keep_bytes - head))
        head, tail_at = cut_between(src, head, values)[0], cut_between(src, tail_at, values)[1]
        src.seek(0)
        _copy(src, out.write, head)
        left_out = tail_at - head
        out.write(f"\n[... {left_out} of {src.size} bytes left out by the pilot ...]\n".encode())
        src.seek(tail_at, os.SEEK_SET)
        _copy(src, out.write, src.size - tail_at)
    return target


def _copy(src: FileSource, write: Callable[[bytes], int], count: int) -> None:
    """`count` bytes from where `src` stands."""
    while count > 0:
        data = src.read(min(BLOCK, count))
        write(data)
        count -= len(data)
