"""Folders that earlier workers left behind: which may go, and which stay for a
while.

A worker keeps its folder if a job's logs could not be stored or its final
report not be delivered, and one that was killed has no choice. On a pod they go
with the pod; on a batch node they would pile up. Only folders that a starter
made count, known by a lock file in them, and never one whose starter or pilot
still lives: the kernel lets go of their locks with them.
"""

import contextlib
import fcntl
import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.files import remove_tree
from pilot_core.errors import SetupError
from pilot_core.ledger import LOCK_NAME as PILOT_LOCK
from pilot_core.model.codes import ErrorCode
from pilot_starter.place import HOME_PREFIX, keepsakes

__all__ = ["KEEP_DAYS", "KEEP_MOST", "occupied", "sweep", "vacant"]

log = logging.getLogger(__name__)

STARTER_LOCK = "starter.lock"
# In a folder that was given, which is never swept.
_WORKER_LOCK = "worker.lock"
#: A folder with something of use stays for so long, and only so many of them.
KEEP_DAYS = 7
KEEP_MOST = 10
# Younger ones are left alone: their worker may just be moving in.
_YOUNG_S = 600.0
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def occupied(home: Path, *, given: bool = False) -> Iterator[int | None]:
    """Mark a folder as lived in, while the block lasts, and as a starter's own
    unless it was given.

    Gives the lock's descriptor: a process that inherits it lives there too. A
    pilot of another make may outlive its starter and has no lock of its own.

    Raises
    ------
    SetupError
        Another worker lives there.
    """
    with contextlib.ExitStack() as stack:
        fd = None
        try:
            fd = os.open(home / (_WORKER_LOCK if given else STARTER_LOCK), _FLAGS | os.O_CREAT, 0o600)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise SetupError(f"another worker is running in {home}", ErrorCode.MKDIR) from err
        except OSError as err:
            # A full disk, or a file system without locks: never swept.
            log.warning("%s cannot be marked as lived in: %s", home, err.strerror or err)
        yield fd


@contextlib.contextmanager
def vacant(home: Path) -> Iterator[bool]:
    """Hold the folder of an earlier worker while the block lasts, so that no
    other one sweeps it or does what we do; gives False if somebody lives there,
    or if it is none of ours.
    """
    with contextlib.ExitStack() as stack:
        try:
            found = home.lstat()
            mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            fd = os.open(home / STARTER_LOCK, _FLAGS)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = mine and _free(home / PILOT_LOCK, absent=True)
        except OSError:
            mine = False
        yield mine


@dataclass(frozen=True, slots=True)
class _Left:
    """A folder nobody lives in."""

    home: Path
    moved: float
    keepsakes: tuple[str, ...]


def sweep(tmp_dir: Path, *, now: float, stop: threading.Event) -> None:
    """Remove what earlier workers of this user left in `tmp_dir` and nobody
    needs; never raises.

    Nothing of use in it: it goes. Else the newest `KEEP_MOST` stay, for
    `KEEP_DAYS`; what is lost with the others is said.
    """
    try:
        left = sorted(_left(tmp_dir, now), key=lambda one: one.moved, reverse=True)
    except OSError as err:
        log.warning("%s is not swept: %s", tmp_dir, err.strerror)
        return
    kept = 0
    for one in left:
        if stop.is_set():
            return
        if one.keepsakes:
            days = (now - one.moved) / 86_400
            if kept < KEEP_MOST and days < KEEP_DAYS:
                kept += 1
                continue
            log.warning("%s, %.1f days old, is removed with %s", one.home, days, ", ".join(one.keepsakes))
        else:
            log.info("%s of an earlier worker is removed", one.home)
        _remove(one.home)


def _remove(home: Path) -> None:
    """Remove a folder, its mark last: by that the next worker knows what is
    left if we are stopped meanwhile.
    """
    with contextlib.suppress(OSError):
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            elif path.name != STARTER_LOCK:
                with contextlib.suppress(OSError):
                    path.unlink()
    remove_tree(home)


def _left(tmp_dir: Path, now: float) -> Iterator[_Left]:
    for home in tmp_dir.glob(f"{HOME_PREFIX}*"):
        try:
            found = home.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            moved = max(found.st_mtime, (home / STARTER_LOCK).lstat().st_mtime)
            if (
                now - moved >= _YOUNG_S
                and _free(home / STARTER_LOCK)
                and _free(home / PILOT_LOCK, absent=True)
            ):
                yield _Left(home, moved, tuple(keepsakes(home)))
        except OSError:
            # Not a starter's, or gone meanwhile.
            continue


def _free(lock: Path, *, absent: bool = False) -> bool:
    """True if nobody holds it; where that cannot be told, somebody does.

    Raises
    ------
    OSError
        It cannot be opened; with `absent` one that does not exist is free.
    """
    try:
        fd = os.open(lock, _FLAGS)
    except FileNotFoundError:
        if absent:
            return True
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
