"""The worker's own folder, and what belongs into it before the pilot starts."""

import contextlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

from pilot_core.base.files import remove_tree
from pilot_core.errors import SetupError
from pilot_core.ledger import FILE_NAME, UNREADABLE, Ledger
from pilot_core.model.codes import ErrorCode
from pilot_core.server.auth import RENEWED
from pilot_starter.config import StarterConfig

__all__ = ["HOME_PREFIX", "cache_folder", "copy_job", "keepsakes", "last_words", "leave_home", "make_home"]

log = logging.getLogger(__name__)

#: What the folders are called that starters make.
HOME_PREFIX = "panda_"
_PUSH_FILES = ("pandaJobData.out", "PoolFileCatalog_H.xml")


def make_home(config: StarterConfig) -> Path:
    """The worker's own folder; Harvester's TMPDIR may name one that does not
    exist.
    """
    try:
        if config.work_dir is not None:
            config.work_dir.mkdir(parents=True, exist_ok=True)
            return _free(config.work_dir.resolve())
        config.tmp_dir.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=config.tmp_dir)).resolve()
    except OSError as err:
        place = config.work_dir or config.tmp_dir
        raise SetupError(f"no working directory at {place}: {err.strerror or err}", ErrorCode.MKDIR) from err


def _free(home: Path) -> Path:
    """The folder, unless a pilot may be running in it.

    Locks tell that better, where the file system has them.
    """
    try:
        held = Ledger(home).look()
    except ValueError:
        return home
    except OSError as err:
        words = f"{home}: {FILE_NAME} cannot be read: {err.strerror or err}"
        raise SetupError(words, ErrorCode.MKDIR) from err
    if held is not None and not held.owner_gone():
        words = f"{home}: {FILE_NAME} belongs to {held.owner}, which may be running"
        raise SetupError(words, ErrorCode.MKDIR)
    return home


def keepsakes(home: Path) -> list[str]:
    """Names in the worker's folder that somebody may need when the pilot is
    gone.

    A job's folder that is still there holds logs that could not be stored; the
    job state file, a final report that could not be delivered, or not be read.
    """
    state = [name for name in (FILE_NAME, UNREADABLE) if os.path.lexists(home / name)]
    return [*state, *sorted(path.name for path in home.glob("PanDA_Pilot-*"))]


def leave_home(home: Path, *, given: bool = False) -> None:
    """Delete the worker's folder; only credentials where there are keepsakes,
    or if it was given from outside: then somebody else's pilot may be there by
    now, and use them.
    """
    if given:
        with contextlib.suppress(SetupError), Ledger(home).claimed():
            remove_tree(home / ".credentials")
        return
    if not keepsakes(home):
        remove_tree(home)
        return
    remove_tree(home / ".credentials")
    with contextlib.suppress(OSError):
        (home / RENEWED).unlink()


def cache_folder(tmp_dir: Path) -> Path:
    """Downloaded pilots: a folder for each user, closed to others."""
    folder = tmp_dir / f"pilot_cache_{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and not folder.is_symlink():
            return folder
    except OSError as err:
        log.warning("no cache at %s: %s", folder, err.strerror or err)
    return Path(tempfile.mkdtemp(prefix="pilot_cache_", dir=tmp_dir))


def copy_job(job_dirs: tuple[Path, ...], home: Path) -> None:
    """Copy what Harvester mounted read-only: the pilot removes the file it has
    read.
    """
    for folder in job_dirs:
        found = [name for name in _PUSH_FILES if (folder / name).is_file()]
        for name in found:
            shutil.copyfile(folder / name, home / name)
            log.info("PUSH: %s copied from %s", name, folder)
        if _PUSH_FILES[0] in found:
            return
    if not (home / _PUSH_FILES[0]).exists():
        places = ", ".join(str(folder) for folder in job_dirs)
        log.error("PUSH: there is no %s in %s", _PUSH_FILES[0], places)


def last_words(path: Path, words: str) -> None:
    """One line for `kubectl describe pod`; only where Kubernetes made the
    file.
    """
    if path.exists():
        with contextlib.suppress(OSError):
            path.write_text(words[:4000] + "\n")
