"""A job's log files to its storage: in parallel, the most useful first."""

import contextlib
import functools
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.redact import Redactor
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.clean import cleaned
from pilot_core.storage.contract import CopyTool, Stored, encodes
from pilot_core.storage.destination import file_url
from pilot_core.storage.excerpt import write_excerpt
from pilot_core.storage.pack import write_gzip
from pilot_core.storage.parallel import each
from pilot_core.storage.source import resolve_below, secret_link

__all__ = ["LogUpload", "LogUploader", "content_type"]

log = logging.getLogger(__name__)

# Most of an excerpt: it takes room on the disk that a flood may have filled,
# and nobody reads more.
_EXCERPT_BYTES = 64 * 1024 * 1024

# What a browser shows instead of saving it. By the ending of the name.
_TEXT = "text/plain; charset=utf-8"
CONTENT_TYPES = {
    ".txt": _TEXT,
    ".stdout": _TEXT,
    ".stderr": _TEXT,
    ".log": _TEXT,
    ".out": _TEXT,
    ".err": _TEXT,
    ".sh": _TEXT,
    ".yaml": _TEXT,
    ".json": "application/json; charset=utf-8",
    ".tgz": "application/gzip",
    ".gz": "application/gzip",
}


def content_type(name: str) -> str:
    """Content type of a log file by its name; bytes if nothing better is
    known.
    """
    return CONTENT_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


@dataclass(frozen=True, slots=True)
class LogUpload:
    """What became of each file; every file asked for is in one of the two."""

    stored: dict[Path, Stored]
    failed: dict[Path, StorageError]

    @property
    def total_bytes(self) -> int:
        """Bytes stored in all."""
        return sum(s.size for s in self.stored.values())


class LogUploader:
    """Stores files below one prefix.

    Parameters
    ----------
    tool
        Stores single files; repeats what may pass by itself.
    prefix
        URL that ends with a slash.
    roots
        The job's own folders. A file, and what a link among them leads to,
        must
        be a regular file below one of them: the payload could write there and
        may have left links to anything.
    redactor
        What it knows is masked in what is stored: a payload prints what it
        likes. A file that cannot be masked, or not in time, is not stored.
    workers
        Files at a time.
    cap_bytes
        A larger file is stored as its head and its tail, with a line between
        them that says so, 64 MiB at most; 0 for no limit.
    gzip_bytes
        Text of at least so many bytes is stored gzip-encoded, where the
        storage can tell a browser so; 0 for never.
    uploaded
        Hears how many files each upload stored and failed to store.
    """

    def __init__(
        self,
        tool: CopyTool,
        prefix: str,
        *,
        clock: Clock,
        roots: Sequence[Path],
        redactor: Redactor,
        workers: int = 4,
        cap_bytes: int = 0,
        gzip_bytes: int = 0,
        uploaded: Callable[[int, int], None] = lambda _stored, _failed: None,
    ) -> None:
        self._uploaded = uploaded
        self._tool = tool
        self._prefix = prefix
        self._clock = clock
        self._roots = tuple(roots)
        self._redactor = redactor
        self._workers = workers
        self._cap_bytes = cap_bytes
        self._gzip_bytes = gzip_bytes

    def url(self, name: str) -> str:
        """Public URL that a file of this name has, once it is stored; empty if
        none.
        """
        return self._tool.public_url(file_url(self._prefix, name))

    def upload(self, files: Sequence[Path], *, budget: Budget, first: Sequence[Path] = ()) -> LogUpload:
        """Store the files; returns when all is said or the budget is over.

        Parameters
        ----------
        files
            In the order of their use; each gets its own name below the prefix.
        budget
            May be shortened from another thread meanwhile. A transfer that is
            still under way at its end is abandoned and counted as failed.
        first
            Some of them, or others, that go before everything else.
        """
        named: dict[str, Path] = {}
        wanted = list(dict.fromkeys((*first, *files)))
        for path in wanted:
            named.setdefault(path.name, path)
        found = each(
            list(named.values()),
            functools.partial(self._put, budget=budget),
            name="upload",
            workers=self._workers,
            budget=budget,
            clock=self._clock,
            late=ErrorCode.STAGEOUTTIMEOUT,
        )
        doubles = {
            path: StorageError(f"{path}: another file of this name comes before it", ErrorCode.FILEEXISTS)
            for path in wanted
            if named[path.name] != path
        }
        told = LogUpload(found.done, found.failed | doubles)
        self._uploaded(len(told.stored), len(told.failed))
        return told

    def _put(self, path: Path, *, budget: Budget) -> Stored:
        """Store one file without secrets: whole or as an excerpt, as it is or
        packed.
        """
        real, values = self._fit(path), self._redactor.known_bytes()
        target = file_url(self._prefix, path.name)
        started = self._clock.monotonic()
        with contextlib.ExitStack() as stack:
            if 0 < self._cap_bytes < real.stat().st_size:
                keep = min(self._cap_bytes, _EXCERPT_BYTES)
                real = write_excerpt(real, _folder(stack) / path.name, keep, budget=budget, values=values)
            # In the job's folder: gone with it if the pilot dies meanwhile.
            real = stack.enter_context(cleaned(real, self._roots[0], values, budget=budget))
            stored = self._put_packed(real, target, stack, budget) or self._tool.put(
                real, target, budget=budget, content_type=content_type(path.name)
            )
        log.info("stored %s: %d bytes in %.1f s", target, stored.size, self._clock.monotonic() - started)
        return stored

    def _fit(self, path: Path) -> Path:
        """Where the file really is.

        Raises
        ------
        StorageError
            It is none of the job's, or the secret is in its name.
        """
        if self._redactor.text(path.name) != path.name:
            raise StorageError(f"{path}: a secret is in its name", ErrorCode.FILEHANDLINGFAILURE)
        real = resolve_below(path, self._roots)
        if secret_link(path, real, self._roots):
            raise StorageError(
                f"{path} leads to {real.name}, which may hold a secret", ErrorCode.FILEHANDLINGFAILURE
            )
        return real

    def _put_packed(
        self, path: Path, target: str, stack: contextlib.ExitStack, budget: Budget
    ) -> Stored | None:
        """Store a large text packed; None if it is to be stored as it is."""
        kind = content_type(path.name)
        large = 0 < self._gzip_bytes <= path.stat().st_size
        if not large or "charset" not in kind or not encodes(self._tool):
            return None
        try:
            packed = write_gzip(path, _folder(stack) / path.name, budget=budget)
        except OSError as err:
            # A disk without room for it is the day on which logs matter.
            log.warning("%s is stored as it is: it cannot be packed: %s", path.name, err)
            return None
        return self._tool.put(packed, target, budget=budget, content_type=kind, encoding="gzip")


def _folder(stack: contextlib.ExitStack) -> Path:
    """A temporary folder, gone with the stack."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-log-")))
