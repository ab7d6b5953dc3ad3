"""Files that leave the node, without the secrets that are known.

Known is what the `Redactor` was told: a job's secrets. A file is searched for
them as the bytes it is, so that it may be of any kind and as large as it
likes; what is packed or encoded in it is not opened. Only a file that holds
one is ever written anew.
"""

import contextlib
import errno
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.redact import MASK
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.source import FileSource

__all__ = ["MaskedReader", "cleaned", "cut_between", "holds", "masked"]

log = logging.getLogger(__name__)

_MASK = MASK.encode()


def holds(blocks: Iterable[bytes], values: Sequence[bytes]) -> bool:
    """Whether one of `values` (the longest first) is in what the blocks make
    together.
    """
    if not values:
        return False
    tail = b""
    for block in blocks:
        data = tail + block
        if any(value in data for value in values):
            return True
        tail = data[max(0, len(data) - len(values[0]) + 1) :]
    return False


def masked(blocks: Iterable[bytes], values: Sequence[bytes]) -> Iterator[bytes]:
    """What the blocks make together, with `***` for each of `values`, and for
    several that overlap.

    Parameters
    ----------
    values
        The longest first. Memory: that of a block and twice the longest.
    """
    held, said = b"", 0
    for block in blocks:
        held += block
        # A value that begins here is here as a whole.
        cut = max(0, len(held) - len(values[0]) + 1)
        clean, said = _mask(held, cut, said, values)
        held = held[cut:]
        yield clean
    yield _mask(held, len(held), said, values)[0]


def _mask(held: bytes, cut: int, said: int, values: Sequence[bytes]) -> tuple[bytes, int]:
    """Mask what is before `cut`; the first `said` bytes stand under a mask
    already. With it how many bytes after `cut` do.
    """
    parts = []
    for start, end in _found(held, values):
        if start >= cut:
            break
        if start >= said:
            parts += [held[said:start], _MASK]
        said = max(said, end)
    parts.append(held[said:cut])
    return b"".join(parts), max(0, said - cut)


def _found(held: bytes, values: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where a value begins and ends, in order; one that overlaps itself is one
    place.
    """
    places: list[tuple[int, int]] = []
    for value in values:
        at, first = held.find(value), len(places)
        while at >= 0:
            if len(places) > first and at < places[-1][1]:
                places[-1] = places[-1][0], at + len(value)
            else:
                places.append((at, at + len(value)))
            at = held.find(value, at + 1)
    return sorted(places)


def cut_between(src: FileSource, at: int, values: Sequence[bytes]) -> tuple[int, int]:
    """The places nearest to `at`, before and after it, where a cut leaves no
    half of a value behind; mostly `at` itself.
    """
    reach = len(values[0]) if values else 0
    begin = max(0, at - reach)
    src.seek(begin)
    start = end = at
    for first, last in _found(src.read(at + reach - begin), values):
        if begin + first < at < begin + last:
            start, end = min(start, begin + first), max(end, begin + last)
    return start, end


class MaskedReader:
    """A file as `masked` gives it, to be read piece by piece.

    Parameters
    ----------
    src
        Read from its start to its end.
    """

    def __init__(self, src: FileSource, values: Sequence[bytes]) -> None:
        src.seek(0)
        self._blocks = masked(src, values)
        self._left = b""

    def read(self, count: int) -> bytes:
        """`count` bytes, fewer at the end."""
        while len(self._left) < count:
            block = next(self._blocks, None)
            if block is None:
                break
            self._left += block
        data, self._left = self._left[:count], self._left[count:]
        return data


@contextlib.contextmanager
def cleaned(source: Path, folder: Path, values: Sequence[bytes], *, budget: Budget) -> Iterator[Path]:
    """`source` itself if it holds none of `values`, else a copy without them
    below `folder`, gone at the end of the block.

    Raises
    ------
    StorageError
        NOLOCALSPACE, FILEHANDLINGFAILURE: it holds one, and there can be no
        copy. It must not be stored as it is.
    BudgetSpent
        It is not known to be clean, and must not be stored, either.
    """
    with contextlib.ExitStack() as stack:
        if values:
            with FileSource(source, budget=budget) as src:
                if holds(src, values):
                    source = _copy(src, folder, values, stack)
        yield source


def _copy(src: FileSource, folder: Path, values: Sequence[bytes], stack: contextlib.ExitStack) -> Path:
    name = src.path.name
    try:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-log-", dir=folder))
        target = Path(made) / name
        src.seek(0)
        with target.open("xb") as out:
            for block in masked(src, values):
                out.write(block)
    except BudgetSpent:
        raise
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StorageError(
            f"{name} holds a secret and is not stored: no copy without it: {err.strerror}",
            ErrorCode.NOLOCALSPACE if full else ErrorCode.FILEHANDLINGFAILURE,
        ) from err
    log.warning("%s holds a secret: it is stored with %s in its place", name, MASK)
    return target
