"""Checksums of files, read once and in pieces."""

import base64
import zlib
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from pilot_core.base.budget import Budget

__all__ = ["Checksums", "adler32", "matches"]

BLOCK = 1024 * 1024


class _Crc32c(Protocol):
    """The one function used of the package google-crc32c."""

    def extend(self, crc: int, chunk: bytes) -> int: ...


@cache
def _crc32c() -> _Crc32c | None:
    """The package google-crc32c, or None where it is not installed."""
    try:
        import google_crc32c
    except ImportError:
        return None
    return cast(_Crc32c, google_crc32c)


class Checksums:
    """Running checksums over bytes that come in order.

    Parameters
    ----------
    crc32c
        Compute Google's checksum as well, if the package google-crc32c is
        there.
    """

    def __init__(self, *, crc32c: bool = False) -> None:
        self.size = 0
        self._adler = 1
        self._crc = 0
        self._crc32c = _crc32c() if crc32c else None

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self.size += len(data)
        self._adler = zlib.adler32(data, self._adler)
        if self._crc32c is not None:
            self._crc = self._crc32c.extend(self._crc, data)

    @property
    def adler32(self) -> str:
        """8 hex digits, padded with zeros: the server compares text."""
        return f"{self._adler & 0xFFFFFFFF:08x}"

    @property
    def crc32c(self) -> str:
        """Base64 of the big-endian value, as Cloud Storage has it; empty if
        unknown.
        """
        if self._crc32c is None:
            return ""
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode()


def adler32(path: Path, *, budget: Budget | None = None) -> str:
    """adler32 of a file as 8 hex digits; memory does not grow with the file.

    Raises
    ------
    OSError
        If the file cannot be read.
    BudgetSpent
        If reading takes longer than `budget`.
    """
    sums = Checksums()
    with path.open("rb") as src:
        while data := src.read(BLOCK):
            if budget is not None:
                budget.timeout(1.0)
            sums.update(data)
    return sums.adler32


def matches(expected: str, found: str) -> bool:
    """True if two spellings of an adler32 agree (`ad:`, case, missing zeros)."""
    return expected.lower().removeprefix("ad:").zfill(8) == found.lower().removeprefix("ad:").zfill(8)
