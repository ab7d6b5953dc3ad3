"""Files: written whole or not at all, never outside their folder."""

import contextlib
import os
import stat
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pilot_core.base.secretnames import SECRETS

__all__ = [
    "NotRegular",
    "OutOfBounds",
    "TooLongName",
    "UnsafeName",
    "open_regular",
    "plain_name",
    "real_below",
    "regular_fd",
    "remove_tree",
    "safe_join",
    "tail_bytes",
    "write_atomic",
]

_HELD_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Somebody who goes on writing in a folder must not keep us at removing it.
_MOST_LEVELS = 10_000


class UnsafeName(ValueError):
    """A file name from outside that would leave its folder or cannot be a file
    name.
    """


class TooLongName(UnsafeName):
    """No file system takes a name of more than 255 bytes."""


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old content or the new, never a
    part.

    Temporary name in the same folder, fsync, rename.
    """
    raw = data.encode() if isinstance(data, str) else data
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def safe_join(folder: Path, name: str) -> Path:
    """Path of a plain file `name` in `folder`.

    Raises
    ------
    UnsafeName
        If the name is empty, absolute, longer than 255 bytes, holds a slash, a
        control character or a NUL, or is `.` or `..`.
    """
    if not name or name in (".", ".."):
        raise UnsafeName(f"file name {name!r} is not a name")
    if "/" in name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise UnsafeName(f"file name {name!r} holds a slash or a control character")
    if len(name.encode("utf-8", "surrogatepass")) > 255:
        raise TooLongName(f"file name {name[:60]!r}... is longer than 255 bytes")
    return folder / name


class NotRegular(OSError):
    """A folder, a link, a FIFO, a device: not what one reads a log from."""


def regular_fd(path: Path) -> int:
    """Open a regular file for reading; follows no link, waits for no writer of
    a FIFO, opens no device.

    For files in a folder where others write too: a link left there would show
    a file that its author may not read, a FIFO would stop the reader, and to
    open a device may already do something. A payload that is root in its
    container can make them all. So what the name stands for is held first,
    which opens nothing (O_PATH), then looked at, then opened: whatever becomes
    of the name meanwhile.

    Raises
    ------
    NotRegular
        If it is anything else than a regular file.
    OSError
        If it cannot be opened.
    """
    held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise NotRegular(f"{path} is no regular file")
        return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(held)


def open_regular(path: Path) -> BinaryIO:
    """The file of `regular_fd`, which see."""
    return os.fdopen(regular_fd(path), "rb")


def tail_bytes(path: Path, count: int) -> bytes:
    """The last `count` bytes of a regular file, no link; empty if it cannot be
    read.
    """
    try:
        with open_regular(path) as src:
            size = src.seek(0, os.SEEK_END)
            src.seek(max(0, size - count))
            return src.read(count)
    except OSError:
        return b""


def remove_tree(folder: Path) -> None:
    """Remove a folder with all below it, as far as we may; follows no link.

    `shutil.rmtree` calls itself for each level and raises RecursionError for
    a tree that is deep enough, which any payload can make. Here a folder in a
    folder is first moved up, so that no level is ever deeper than two.
    """
    with contextlib.suppress(OSError):
        top = _open_to_write(folder)
        try:
            for _ in range(_MOST_LEVELS):
                if not _remove_two_levels(top):
                    break
        finally:
            os.close(top)
        os.rmdir(folder)


def _remove_two_levels(top: int) -> bool:
    """Empty an open folder; True if something below its folders came up."""
    risen = False
    for name, is_folder in _names(top):
        with contextlib.suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=top)
                continue
            below = _open_to_write(name, top)
            try:
                for inner, inner_is_folder in _names(below):
                    with contextlib.suppress(OSError):
                        if not inner_is_folder:
                            os.unlink(inner, dir_fd=below)
                            continue
                        os.close(_open_to_write(inner, below))
                        os.rename(inner, uuid.uuid4().hex, src_dir_fd=below, dst_dir_fd=top)
                        risen = True
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=top)
    return risen


def _names(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _open_to_write(folder: str | Path, parent: int | None = None) -> int:
    """Open a folder and, where it is ours, make it one that can be emptied.

    Its owner may have closed it to himself (`chmod 0 .`). So it is held first,
    as in `regular_fd`: nothing that takes its name meanwhile is opened up.
    """
    held = os.open(folder, _HELD_FOLDER, dir_fd=parent)
    try:
        name = f"/proc/self/fd/{held}"
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(held)


def plain_name(name: str) -> str:
    """`name`, if it may be that of a file and the last part of a URL.

    Raises
    ------
    UnsafeName
        As from `safe_join`, and for a name that is no UTF-8 (its undecodable
        bytes came as lone surrogates).
    """
    safe_join(Path(), name)
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise UnsafeName(f"file name {name!r} is no UTF-8")
    return name


class OutOfBounds(OSError):
    """A file outside its folders, or the job's secrets."""


def real_below(path: Path, roots: Iterable[Path]) -> Path:
    """Where `path` really is, if that is a regular file below one of `roots`
    and not the job's secrets.

    A payload may leave links to anything in the folders it shares with us.

    Parameters
    ----------
    roots
        Where they really are (`Path.resolve`).

    Raises
    ------
    FileNotFoundError, OutOfBounds, NotRegular, OSError
        There is no such file, it is elsewhere, it is none, or links to it run
        in a circle.
    """
    real = os.path.realpath(path, strict=True)
    if not real.startswith(tuple(os.path.join(root, "") for root in roots)):
        raise OutOfBounds(f"{path} leads out of the job's folders")
    if not stat.S_ISREG(os.lstat(real).st_mode):
        raise NotRegular(f"{path} is no regular file")
    if os.path.basename(real) == SECRETS:
        raise OutOfBounds(f"{path} is the job's secrets")
    return Path(real)
