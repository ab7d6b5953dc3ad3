"""`log.tgz`: the job directory in one streaming pass, without its secrets: no
file that is called like one, and none of those that are known.
"""

import errno
import fnmatch
import gzip
import io
import logging
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.redact import Redactor
from pilot_core.base.secretnames import SECRET_FILES, secret_file
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.clean import MaskedReader, holds, masked
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource, SourceChanged, resolve_below, secret_link

__all__ = ["Bundle", "make_bundle"]

log = logging.getLogger(__name__)

# Level 1: a third of the time of level 6, a tenth more bytes on logs.
_LEVEL = 1
_LIST = "LEFT_OUT.txt"
# What a bundle is for; packed first.
_USEFUL = ("pilotlog*", "payload*", "memory_monitor*")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle.

    Attributes
    ----------
    size, adler32
        Of the compressed file.
    left_out
        Names below the folder that are not in it, with the reason.
    """

    path: Path
    size: int
    adler32: str
    members: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def make_bundle(
    folder: Path,
    target: Path,
    *,
    top: str,
    budget: Budget,
    redactor: Redactor,
    roots: Sequence[Path] = (),
    cap_bytes: int = 64 * 1024 * 1024,
    most_files: int = 10_000,
    secret_names: Sequence[str] = SECRET_FILES,
) -> Bundle:
    """Pack `folder` into the gzipped tar file `target`, below the name `top`.

    Files come in the order of their names, logs first where room is short. The
    same content gives the same bytes, whenever it is packed.

    Parameters
    ----------
    redactor
        What it knows is masked in what is packed, whatever file it is in. The
        files themselves stay as they are.
    roots
        Further folders of the job: a link to a regular file there is packed as
        that file. Every other link out of `folder` is left out.
    cap_bytes
        Uncompressed bytes of all members; what does not fit is left out and
        listed in the bundle's `LEFT_OUT.txt`.
    most_files
        Files and folders looked at: each costs some 0.2 ms, and memory here
        and at whoever unpacks it. A payload may leave a million.
    secret_names
        Patterns of names, in any case, to leave out with all below them; for
        a link, also of what it leads to.

    Raises
    ------
    StorageError
        LOGCREATIONTIMEOUT, NOLOCALSPACE or LOGFILECREATIONFAILURE; no `target`
        is left behind then.
    """
    packer = _Packer(
        folder,
        top=top,
        budget=budget,
        roots=(folder, *roots),
        cap_bytes=cap_bytes,
        redactor=redactor,
        secret_names=secret_names,
    )
    try:
        with FileSink(target, budget=budget) as sink:
            # No name and no time in the gzip header: both would change the
            # bytes.
            with (
                gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                files = _walk(folder, {target, sink.temporary}, secret_names, most_files, packer.left_out)
                packer.pack(tar, files)
            sink.commit()
    except BudgetSpent as err:
        raise StorageError(f"{target.name}: {err}", ErrorCode.LOGCREATIONTIMEOUT) from err
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        code = ErrorCode.NOLOCALSPACE if full else ErrorCode.LOGFILECREATIONFAILURE
        raise StorageError(f"{target.name}: {err}", code) from err
    members, left_out = tuple(packer.members), tuple(packer.left_out)
    log.info(
        "bundle %s: %d files, %d left out, %d bytes", target, len(members), len(left_out), sink.sums.size
    )
    return Bundle(target, sink.sums.size, sink.sums.adler32, members, left_out)


class _Packer:
    """Adds files to a tar stream while there is room."""

    def __init__(
        self,
        folder: Path,
        *,
        top: str,
        budget: Budget,
        roots: tuple[Path, ...],
        cap_bytes: int,
        redactor: Redactor,
        secret_names: Sequence[str],
    ) -> None:
        self.members: list[str] = []
        self.left_out: list[tuple[str, str]] = []
        self._folder = folder
        self._top = top
        self._budget = budget
        self._roots = roots
        self._room = cap_bytes
        self._redactor = redactor
        self._values = redactor.known_bytes()
        self._secret_names = secret_names

    def pack(self, tar: tarfile.TarFile, paths: Iterator[Path]) -> None:
        """Add each file, then the list of what is missing."""
        for path in paths:
            self._budget.timeout(1.0)  # an empty file is never read
            self._add(tar, path)
        if self.left_out:
            text = "".join(f"{name}: {why}\n" for name, why in self.left_out)
            raw = self._redactor.text(text).encode("utf-8", "backslashreplace")
            info = tarfile.TarInfo(f"{self._top}/{_LIST}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))

    def _add(self, tar: tarfile.TarFile, path: Path) -> None:
        name = _shown(path, self._folder)
        try:
            real = resolve_below(path, self._roots)
            linked = secret_link(path, real, self._roots, self._secret_names)
            if linked or self._redactor.text(name) != name:
                self.left_out.append((name, "may hold a secret"))
                return
            with FileSource(real, budget=self._budget) as src:
                if src.size > self._room:
                    self.left_out.append((name, f"{src.size} bytes, no room"))
                    return
                found = real.stat()
                info = tarfile.TarInfo(f"{self._top}/{path.relative_to(self._folder).as_posix()}")
                info.mtime, info.mode = int(found.st_mtime), stat.S_IMODE(found.st_mode)
                info.size, read = self._clean(src)
                tar.addfile(info, _Padded(read, info.size, name))
        except StorageError as err:
            self.left_out.append((name, err.diag))
            return
        self._room -= info.size
        self.members.append(name)

    def _clean(self, src: FileSource) -> tuple[int, Callable[[int], bytes]]:
        """Size of a file without the known secrets, and what reads it so.

        A tar header tells the size before the content comes: a file that
        holds a secret is read three times, one that holds none twice, the
        second time from the kernel's memory.
        """
        if not holds(src, self._values):
            src.seek(0)
            return src.size, src.read
        src.seek(0)
        size = sum(map(len, masked(src, self._values)))
        return size, MaskedReader(src, self._values).read


class _Padded:
    """A source that keeps the length promised in its tar header, come what
    may.
    """

    def __init__(self, read: Callable[[int], bytes], size: int, name: str) -> None:
        self._read = read
        self._left = size
        self._name = name

    def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        try:
            data = self._read(count)
        except (SourceChanged, OSError) as err:
            log.warning("%s: the rest is filled with zeros: %s", self._name, err)
            data = b""
        self._left -= count
        return data + bytes(count - len(data))


def _walk(
    folder: Path,
    ours: Set[Path | None],
    secret_names: Sequence[str],
    most: int,
    left_out: list[tuple[str, str]],
) -> Iterator[Path]:
    """Files and links below `folder`: the logs at its top first, then by name."""
    seen = 0
    todo = [folder]
    while todo:
        here = todo.pop()
        try:
            entries = _entries(here, most)
        except OSError as err:
            if here == folder:
                raise
            left_out.append((_shown(here, folder), err.strerror or type(err).__name__))
            continue
        kept = [
            (path, is_folder)
            for path, is_folder in entries
            if path not in ours and not _secret(path, folder, secret_names, left_out)
        ]
        yield from (path for path, is_folder in kept[: most - seen] if not is_folder)
        seen += len(kept)
        if seen > most:
            left_out.append(("...", f"more than {most} files and folders"))
            return
        todo.extend(sorted((path for path, is_folder in kept if is_folder), reverse=True))


def _entries(folder: Path, most: int) -> list[tuple[Path, bool]]:
    """What is in a folder, useful names first, each with True for a folder;
    one more of a kind than a bundle takes stands for any number.
    """
    kinds: dict[str, list[tuple[Path, bool]]] = {pattern: [] for pattern in (*_USEFUL, "*")}
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = next(kinds[pattern] for pattern in kinds if fnmatch.fnmatchcase(entry.name, pattern))
            if len(kind) <= most:
                kind.append((folder / entry.name, entry.is_dir(follow_symlinks=False)))
    return [found for kind in kinds.values() for found in sorted(kind)]


def _secret(path: Path, folder: Path, names: Sequence[str], left_out: list[tuple[str, str]]) -> bool:
    """True, and noted, for a name that may hold a secret."""
    if not secret_file(path.name, names):
        return False
    left_out.append((_shown(path, folder), "may hold a secret"))
    return True


def _shown(path: Path, folder: Path) -> str:
    """Name below the folder, fit for a log line."""
    return os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace").replace("\n", "\\n")
