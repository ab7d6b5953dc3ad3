"""The folder of a local server: one server at a time runs on it, and what it
holds can be looked at when none does.
"""

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilot_core.base.clock import SystemClock
from pilot_core.local.auth import Tokens
from pilot_core.local.client import Unanswered, find_url
from pilot_core.local.desk import Desk
from pilot_core.local.store import Store

__all__ = ["DATABASE", "DEFAULT_FOLDER", "Shelf", "sole_server"]

DEFAULT_FOLDER = Path("~/.panda-local")
DATABASE = "panda.sqlite"


@contextlib.contextmanager
def sole_server(folder: Path) -> Iterator[None]:
    """Keep a folder, made if it is not there, for one server.

    Raises
    ------
    Unanswered
        Another server has it, or it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as err:
        raise Unanswered(f"--folder {folder}: {err.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = ""
            with contextlib.suppress(Unanswered):
                where = f", {find_url(folder)}"
            raise Unanswered(f"a server runs on {folder} already{where}: give another --folder") from None
        try:
            yield
        except sqlite3.Error as err:
            raise Unanswered(f"--folder {folder}: {DATABASE}: {err}") from None
        finally:
            # Whoever looks for a server here shall not ask a stranger that
            # has the port by then.
            (folder / "url").unlink(missing_ok=True)


class Shelf:
    """The jobs of a folder that no server runs on, shown as the server would.

    Raises
    ------
    Unanswered
        They cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        try:
            with contextlib.closing(Store(folder / DATABASE, clock=clock)) as store:
                desk = Desk(store, Tokens.fresh(), folder / "cache", clock)
                self._jobs = {job.panda_id: desk.job_view(job.panda_id) or {} for job in store.jobs()}
        except sqlite3.Error as err:
            raise Unanswered(f"--folder {folder}: {DATABASE}: {err}") from None

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs."""
        return list(self._jobs.values())

    def job(self, panda_id: int) -> dict[str, Any]:
        """One job."""
        try:
            return self._jobs[panda_id]
        except KeyError:
            raise Unanswered(f"there is no job {panda_id}") from None
