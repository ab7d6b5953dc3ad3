"""Names of files that all jobs have in common, and which are kept as logs."""

import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pilot_core.model.payload import JobPaths

__all__ = ["ERROR_REPORT", "SECRETS", "log_files"]

log = logging.getLogger(__name__)

#: The job's user secrets in the work directory, mode 0600; no log, no bundle.
SECRETS = "panda_secrets.json"

#: The payload's own word on its failure: `{"error_code": int, "error_diag":
#: str}`.
ERROR_REPORT = "payload_error_report.json"

# The patterns of pilot3's copytools (`copytool/gs.py`), most useful first.
_STEMS = ("pilotlog", "payload", "memory_monitor")

# A payload may make any number of files called payload*.
_MOST = 100


def log_files(paths: JobPaths) -> Sequence[Path]:
    """`pilotlog*.*`, `payload*.*` and `memory_monitor*.*` of the work
    directory.

    Only regular files that exist. Links are followed, as Rubin's runner links
    payload-log.json to the shared folder, but not out of the job's folders:
    a payload could link to a file that the pilot may read and nobody else.
    """
    roots = tuple(os.path.realpath(folder) + os.sep for folder in (paths.work, paths.shared))
    found = []
    for name in sorted(_names(paths.work), key=_rank):
        path = paths.work / name
        if _inside(path, roots):
            found.append(path)
        else:
            log.warning("%s is not kept as a log: no regular file of this job", path)
    if len(found) > _MOST:
        log.warning("%d files are called like logs, the first %d are kept", len(found), _MOST)
    return found[:_MOST]


def _names(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [name for name in names if "." in name and name.startswith(_STEMS)]


def _rank(name: str) -> tuple[int, bool, str]:
    """Order of usefulness: by stem, the three usual names of a stem before
    others.
    """
    stem = next(i for i, stem in enumerate(_STEMS) if name.startswith(stem))
    usual = name in ("pilotlog.txt", "payload.stdout", "payload.stderr", "payload-log.json")
    return stem, not usual, name


def _inside(path: Path, roots: tuple[str, ...]) -> bool:
    """True for a regular file, really below one of `roots`; never for the
    secrets.
    """
    try:
        real = os.path.realpath(path, strict=True)
        regular = stat.S_ISREG(os.stat(real).st_mode)
        return regular and real.startswith(roots) and os.path.basename(real) != SECRETS
    except OSError:
        return False
