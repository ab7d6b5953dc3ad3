"""A copy tool stores and fetches single files.

Threads: `put` and `get` may be called from several threads at once. Each is
over when its budget is. Stored means stored: `put` returns only after the
storage confirmed size and checksum, and a name never shows a truncated file.
Repeating a `put` of the same file is harmless, and one of another file
replaces the first in one step; where names are for ever (rucio, lsm) it is a
FILEEXISTS. SDKs are imported on first use; a missing one is a `StorageError`
that names the package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

from pilot_core.base.budget import Budget

__all__ = ["CopyTool", "EncodingTool", "Place", "Progress", "SiteTool", "Stored", "encodes", "of_site"]

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 if unknown), about once a MiB."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is safely stored.

    Attributes
    ----------
    url
        Its name in the storage's own scheme (`gs://bucket/path/name`), for
        the job's report.
    public_url
        Where a browser finds it; empty if nowhere. With a signature where
        links are signed: it is a right to read then, and belongs in no log.
    size, adler32
        Bytes, and 8 hex digits: of what is stored.
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file is, or goes.

    Attributes
    ----------
    url
        In the scheme of `tool`.
    endpoint
        ddmendpoint, for the job's report.
    """

    tool: CopyTool
    url: str
    endpoint: str = ""


class EncodingTool(CopyTool, Protocol):
    """A copy tool whose storage keeps a Content-Encoding with a file: a
    browser shows what was packed.
    """

    encodes: bool

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        encoding: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`.

        Parameters
        ----------
        encoding
            How `source` is packed: `gzip`, or empty. Size and checksum are
            those of `source` as it is.
        """
        ...


def encodes(tool: CopyTool) -> TypeGuard[EncodingTool]:
    """Can this tool tell a browser that a file is packed?"""
    return bool(getattr(tool, "encodes", False))


class SiteTool(CopyTool, Protocol):
    """A copy tool that is told more of a place than its URL."""

    def at(self, *, setup: str, token: str) -> CopyTool:
        """The tool for one place.

        Parameters
        ----------
        setup
            A script for bash, which sets up the site's programs; empty for
            none.
        token
            The storage's space token; empty for none.
        """
        ...


def of_site(tool: CopyTool) -> TypeGuard[SiteTool]:
    """Is this one told what the queue and the storage say of it?"""
    return hasattr(tool, "at")
