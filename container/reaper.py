"""Removes what an earlier life left on this node, and never what a neighbour
uses.

Several owners share a node and its daemon: pilots in pods of their own, each
with its own pid namespace and host name. Whether an owner lives is answered by
the kernel: each holds a lock (flock) on a file of its own, in a folder that
all owners on the node share, for as long as it lives. A lock ends with its
process, however that ended, and is seen through every pid namespace. So:

==========================  ==================================================
the owner's lock file       what follows
==========================  ==================================================
held                        its owner lives: left alone
free                        its owner is gone: removed
missing, same boot          not known (other folder, file deleted): left alone,
                            unless the engine knows that the owner is gone
missing, other boot         no process outlives its kernel: removed, if the
                            engine is on this node
==========================  ==================================================

An own label is enough to be left alone. Images are never touched here, see
`image_store.py`.
"""

import contextlib
import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from container.contract import Engine, Leftover
from container.errors import EngineError
from pilot_core.base.procs import boot_id

__all__ = ["BOOT_LABEL", "OWNER_LABEL", "Owner", "Reaped", "Reaper"]

log = logging.getLogger(__name__)

#: Label with the token of the owner, which names its lock file.
OWNER_LABEL = "container.owner"
#: Label with the boot of the kernel under which it was started.
BOOT_LABEL = "container.boot"

_PREFIX = ".container-owner-"
# Seconds an empty file of a dead owner is kept: a month.
_KEEP_S = 30 * 86400.0


class Owner:
    """A living owner of containers, for as long as the `with` block lasts.

    Parameters
    ----------
    folder
        Shared by all owners on this node, on a file system with locks; made if
        it is missing.
    token
        Names this owner and no other, ever; made up if empty.

    Attributes
    ----------
    leaves_something
        True if containers of ours may outlive us: then the file stays, and its
        free lock tells the next reaper that we are gone.

    Raises
    ------
    OSError
        If the folder cannot be written or locked. Containers of an owner
        without a lock would never be removed, nor be in danger.
    """

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder = folder
        self.token = token or uuid.uuid4().hex
        self.leaves_something = False
        self._fd = -1

    @property
    def labels(self) -> dict[str, str]:
        """What every container of this owner must carry."""
        return {OWNER_LABEL: self.token, BOOT_LABEL: boot_id()}

    def lives(self, token: str) -> bool:
        """True if the owner of that token, whose lock was here, lives."""
        return token.replace("-", "").isalnum() and _held(_lock_file(self.folder, token)) is True

    def __enter__(self) -> "Owner":
        _make_shared(self.folder)
        path = _lock_file(self.folder, self.token)
        while self._fd < 0:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                raise
            # Between our open and our lock a reaper may have taken the file
            # for a dead owner's and removed it: a lock on a nameless file is
            # none.
            if _same_file(fd, path):
                self._fd = fd
            else:
                os.close(fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.leaves_something:
            with contextlib.suppress(OSError):
                _lock_file(self.folder, self.token).unlink()
        os.close(self._fd)
        self._fd = -1


@dataclass(frozen=True, slots=True)
class Reaped:
    """What a reaper did: names removed, names left to others, failures in
    words.
    """

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Reaper:
    """Finds leftovers by label and removes those of dead owners.

    Parameters
    ----------
    engine
        Where to look.
    owner
        We: what carries our label stays.
    family
        Labels that all owners of our kind give; nothing without them is looked
        at.
    local
        True if the engine runs on this node, so that another boot means gone.
    boot
        The boot of this kernel; asked if empty.
    owner_gone
        The engine's own knowledge of a leftover's owner, where it has any:
        True only if that is certainly gone.
    """

    def __init__(
        self,
        engine: Engine,
        owner: Owner,
        family: Mapping[str, str],
        *,
        local: bool,
        boot: str = "",
        owner_gone: Callable[[Leftover], bool] | None = None,
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._family = dict(family)
        self._local = local
        self._boot = boot or boot_id()
        self._owner_gone = owner_gone

    def reap(self) -> Reaped:
        """Look once and remove; a silent engine is a failure told, not raised."""
        try:
            found = self._engine.leftovers(self._family)
        except EngineError as err:
            return Reaped(failed=(str(err),))
        gone = [leftover for leftover in found if self._gone(leftover)]
        kept = tuple(leftover.name for leftover in found if leftover not in gone)
        removed, failed = self._remove(gone, "its owner is gone")
        self._forget()
        return Reaped(removed, kept, failed)

    def leave(self) -> Reaped:
        """Remove what is our own, at the end of our life.

        Nothing is there as a rule: only a daemon that was away when its
        container had to go leaves us something.
        """
        own = {**self._family, OWNER_LABEL: self._owner.token}
        try:
            found = self._engine.leftovers(own)
        except EngineError as err:
            return Reaped(failed=(str(err),))
        removed, failed = self._remove(found, "we are leaving")
        return Reaped(removed, failed=failed)

    def _remove(self, found: Sequence[Leftover], why: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of those removed, and of those that were not, with the reason."""
        removed, failed = [], []
        for leftover in found:
            try:
                self._engine.remove_leftover(leftover)
            except EngineError as err:
                failed.append(f"{leftover.name}: {err}")
                continue
            removed.append(leftover.name)
            log.warning("removed %s (%s): %s", leftover.name, leftover.id[:12], why)
        return tuple(removed), tuple(failed)

    def _gone(self, leftover: Leftover) -> bool:
        """True only if the owner is certainly gone; the table above."""
        labels = leftover.labels
        token = labels.get(OWNER_LABEL, "")
        # A label is text from outside: it must not lead out of the folder.
        if not token or token == self._owner.token or not token.replace("-", "").isalnum():
            return False
        held = _held(_lock_file(self._owner.folder, token))
        if held is not None:
            return not held
        if self._owner_gone is not None and self._owner_gone(leftover):
            return True
        boot = labels.get(BOOT_LABEL, "")
        return self._local and bool(boot) and bool(self._boot) and boot != self._boot

    def _forget(self) -> None:
        """Delete lock files of owners that died long ago.

        Not at once: the file is the proof of their death, which the reaper of
        another engine may need as well. Our own file, made when we started,
        says what time it is for this file system.
        """
        try:
            now = _lock_file(self._owner.folder, self._owner.token).stat().st_mtime
            old = [p for p in self._owner.folder.glob(f"{_PREFIX}*") if now - p.stat().st_mtime > _KEEP_S]
        except OSError as err:
            log.debug("lock files: %s", err)
            return
        for path in old:
            if _held(path) is False:
                with contextlib.suppress(OSError):
                    path.unlink()


def _make_shared(folder: Path) -> None:
    """A folder that is open to the owners of every user, as /tmp is; one that
    is there keeps its mode.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        # The mode of a `mkdir` is cut down by the umask.
        folder.chmod(0o1777)


def _lock_file(folder: Path, token: str) -> Path:
    return folder / f"{_PREFIX}{token}"


def _same_file(fd: int, path: Path) -> bool:
    try:
        here, there = os.fstat(fd), os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _held(path: Path) -> bool | None:
    """True if somebody holds the lock, False if nobody, None if it cannot be
    told.

    A file of another user, who is not root, says nothing: anybody may write in
    a shared folder, and a label is no secret.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid not in (0, os.geteuid()):
            return None
        # Shared, so that two reapers do not take each other for the owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(fd)
