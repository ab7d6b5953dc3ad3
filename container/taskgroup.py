"""A cgroup around a payload of plain processes: how many it may have, and who
they are.

The kernel's pids controller refuses the fork that would be one too many,
however fast a payload forks; and what was started in the group stays in it,
whatever session it goes to and whatever environment it clears. Made below the
group that we are in ourselves, where we may write there: as root on a node, or
where a batch system has handed its slot's group over to us. Elsewhere there is
none, and only sampling limits a payload.

A process gets in by being started from a thread that is in. Cgroup v1 lets
single threads into a group (file `tasks`); v2 does for a group that is made
`threaded`, and there the group above may go on having processes, ours.
"""

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from container.cgroup import CGROUP, current_tasks, refused_forks
from pilot_core.base.clock import Clock
from pilot_core.base.procs import PROC, read_bytes

__all__ = ["TaskGroup", "find_groups", "make_group", "remove_stale"]

log = logging.getLogger(__name__)

_PREFIX = "container-"
# Extended attribute with the labels of those inside: the first for anybody on
# a newer kernel (cgroup v2 since 5.7), the second for root on any.
_LABELS = ("user.container.labels", "trusted.container.labels")
# A killed process leaves its group some moments after it is gone from our
# sight.
_REMOVE_S = 1.0
_LOOK_S = 0.02
_STALE_S = 60.0


class TaskGroup:
    """One group.

    Parameters
    ----------
    folder
        Of the group; its parent is the one we are in.
    threads
        Name of the file that takes and lists single threads.
    """

    def __init__(self, folder: Path, threads: str) -> None:
        self.folder = folder
        self._threads = threads

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the group, and what it starts will be.

        Raises
        ------
        OSError
            The kernel does not let it in.
        """
        # 0 stands for whoever writes.
        (self.folder / self._threads).write_text("0")
        try:
            yield
        finally:
            (self.folder.parent / self._threads).write_text("0")

    def tasks(self) -> set[int]:
        """Numbers of all its threads, among them that of each process."""
        return {int(tid) for tid in read_bytes(str(self.folder / self._threads)).split()}

    @property
    def count(self) -> int | None:
        """What the kernel compares with the limit: also those that have ended
        and wait for their parent.
        """
        return current_tasks(self.folder)

    @property
    def refused(self) -> int:
        """How many forks the kernel has refused."""
        return refused_forks(self.folder) or 0

    def shut(self) -> None:
        """Let nobody in it start anything more: a kill then reaches all."""
        with contextlib.suppress(OSError):
            (self.folder / "pids.max").write_text("0")

    @property
    def labels(self) -> str:
        """The labels of those inside, as text; empty if they are not known."""
        for name in _LABELS:
            with contextlib.suppress(OSError):
                return os.getxattr(self.folder, name).decode("utf-8", "replace")
        return ""

    def remove(self, clock: Clock, *, within_s: float = _REMOVE_S) -> bool:
        """Delete it; False if somebody is still in it."""
        end, pause = clock.monotonic() + within_s, threading.Event()
        while True:
            try:
                self.folder.rmdir()
            except FileNotFoundError:
                return True
            except OSError:
                if clock.monotonic() >= end:
                    return False
                clock.wait(pause, _LOOK_S)
            else:
                return True


def make_group(limit: int, labels: str, *, proc: Path = PROC, root: Path = CGROUP) -> TaskGroup | None:
    """A group for at most `limit` processes and threads; None where we may
    make none.
    """
    home = _home(proc, root)
    if home is None:
        return None
    folder = home / f"{_PREFIX}{uuid.uuid4().hex[:16]}"
    try:
        folder.mkdir()
    except OSError as err:
        log.debug("no cgroup can be made in %s: %s", home, err.strerror)
        return None
    try:
        if (home / "cgroup.controllers").exists():
            (folder / "cgroup.type").write_text("threaded")
            if not (folder / "pids.max").exists():
                (home / "cgroup.subtree_control").write_text("+pids")
        (folder / "pids.max").write_text(str(limit))
    except OSError as err:
        log.debug("the cgroup %s cannot be used: %s", folder, err.strerror)
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    for name in _LABELS:
        with contextlib.suppress(OSError):
            os.setxattr(folder, name, labels.encode())
            break
    return _group(folder)


def find_groups(*, proc: Path = PROC, root: Path = CGROUP) -> list[TaskGroup]:
    """All groups that were made where we would make ours."""
    home = _home(proc, root)
    try:
        return [] if home is None else [_group(folder) for folder in home.glob(f"{_PREFIX}*")]
    except OSError:
        return []


def remove_stale(now: float, *, proc: Path = PROC, root: Path = CGROUP) -> None:
    """Remove groups that have been empty for long: their owners were killed.

    A living owner's is empty for milliseconds only, before its payload starts
    and after its end; and no group goes with somebody in it.

    Parameters
    ----------
    now
        Epoch seconds.
    """
    for group in find_groups(proc=proc, root=root):
        with contextlib.suppress(OSError):
            if now - group.folder.stat().st_mtime > _STALE_S:
                group.folder.rmdir()


def _group(folder: Path) -> TaskGroup:
    v2 = (folder.parent / "cgroup.controllers").exists()
    return TaskGroup(folder, "cgroup.threads" if v2 else "tasks")


def _home(proc: Path, root: Path) -> Path | None:
    """The group that we are in ourselves, if it has the pids controller."""
    for line in read_bytes(f"{proc}/self/cgroup").decode("utf-8", "replace").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "pids" in controllers.split(","):
            top = root / controllers
        elif number == "0":
            top = root
        else:
            continue
        # In a container the path may be the host's, and what is mounted here
        # our own group.
        for folder in (top / path.lstrip("/"), top):
            if _is_ours(folder) and (number != "0" or _has_pids(folder)):
                return folder
    return None


def _is_ours(folder: Path) -> bool:
    pid = str(os.getpid()).encode()
    return pid in read_bytes(str(folder / "cgroup.procs")).split() and os.access(folder, os.W_OK)


def _has_pids(folder: Path) -> bool:
    return b"pids" in read_bytes(str(folder / "cgroup.controllers")).split()
