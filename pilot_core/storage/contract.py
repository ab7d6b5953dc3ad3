"""A copy tool stores and fetches single files.

Threads: `put` and `get` may be called from several threads at once. Each is
over when its budget is. Stored means stored: `put` returns only after the
storage confirmed size and checksum, and a name never shows a truncated file.
Repeating a `put` of the same file is harmless. SDKs are imported on first use;
a missing one is a `StorageError` that names the package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilot_core.base.budget import Budget

__all__ = ["CopyTool", "Progress", "Stored"]

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 if unknown), about once a MiB."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is safely stored.

    Attributes
    ----------
    url
        Its name in the storage's own scheme (`gs://bucket/path/name`).
    public_url
        Where a browser finds it; empty if nowhere.
    size
        Bytes.
    adler32
        8 hex digits, of the bytes as the reader will see them.
    """

    url: str
    public_url: str
    size: int
    adler32: str


class CopyTool(Protocol):
    """Stores and fetches files of one kind of storage."""

    #: CRIC's name of the tool: gs, s3, mv, xrdcp...
    name: str

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        """Store `source` as `target`, a full URL or path in the tool's scheme.

        Raises
        ------
        StorageError
            With the code that fits: STAGEOUTFAILED, STAGEOUTTIMEOUT,
            PUTADMISMATCH,
            STAGEOUTAUTHENTICATIONFAILURE, MISSINGOUTPUTFILE, NOREMOTESPACE,
            MISSINGCREDENTIALS.
        """
        ...

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """Fetch `source` into the file `target`; a temporary name until it is
        whole.

        Raises
        ------
        StorageError
            STAGEINFAILED, STAGEINTIMEOUT, MISSINGINPUTFILE, GETADMISMATCH...
        """
        ...

    def public_url(self, target: str) -> str:
        """Where a browser finds `target` once stored; empty if nowhere. No
        I/O.
        """
        ...
