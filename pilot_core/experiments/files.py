"""Names of files that all jobs have in common, and which are kept as logs."""

import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pilot_core.base.files import safe_join
from pilot_core.model.payload import JobPaths

__all__ = ["ERROR_REPORT", "SECRETS", "forget_secrets", "log_files"]

log = logging.getLogger(__name__)

#: The job's user secrets in its folders, mode 0600; no log, no bundle. pilot3's
#: name, which payload scripts open.
SECRETS = "panda_secrets.json"

#: The payload's own word on its failure: `{"error_code": int, "error_diag":
#: str}`.
ERROR_REPORT = "payload_error_report.json"

# The patterns of pilot3's copytools (`copytool/gs.py`), most useful first.
_STEMS = ("pilotlog", "payload", "memory_monitor")

# A payload may make any number of files called payload*.
_MOST = 100


def forget_secrets(paths: JobPaths) -> None:
    """Remove the secrets once no payload reads them: folders whose logs could
    not be stored stay on the node.
    """
    for folder in (paths.work, paths.shared):
        try:
            (folder / SECRETS).unlink(missing_ok=True)
        except OSError as err:
            log.warning("the job's secrets stay in %s: %s", folder, err.strerror)


def log_files(paths: JobPaths) -> Sequence[Path]:
    """`pilotlog*.*`, `payload*.*` and `memory_monitor*.*` of the work
    directory.

    Only regular files that exist. Links are followed, as Rubin's runner links
    payload-log.json to the shared folder, but not out of the job's folders:
    a payload could link to a file that the pilot may read and nobody else.
    """
    roots = tuple(os.path.realpath(folder) + os.sep for folder in (paths.work, paths.shared))
    found, names = [], _names(paths.work)
    unfit = [name for name in names if not _fit(name)]
    if unfit:
        log.warning("%d files are not kept as logs for their names, such as %r", len(unfit), unfit[0])
    for name in sorted(set(names).difference(unfit), key=_rank):
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


def _fit(name: str) -> bool:
    """False for a name that no URL can hold: the storage would refuse it, and a
    payload that went well would fail for it.
    """
    try:
        safe_join(Path(), name)
        name.encode()  # bytes that are no UTF-8 come as surrogates
    except ValueError:
        return False
    return True


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
