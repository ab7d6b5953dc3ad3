"""Names of files that all jobs have in common, and which are kept as logs."""

import logging
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pilot_core.base.files import UnsafeName, open_regular, plain_name, real_below
from pilot_core.base.redact import secret_values
from pilot_core.base.secretnames import SECRETS
from pilot_core.model.payload import JobPaths

__all__ = ["ERROR_REPORT", "SECRETS", "forget_secrets", "log_files"]

log = logging.getLogger(__name__)

#: The payload's own word on its failure: `{"error_code": int, "error_diag":
#: str}`.
ERROR_REPORT = "payload_error_report.json"

# The patterns of pilot3's copytools (`copytool/gs.py`), most useful first.
_STEMS = ("pilotlog", "payload", "memory_monitor")

# Far more than a server sends: `jobs.definition` refuses such jobs.
_MOST_SECRET_BYTES = 1024 * 1024
_MOST_SECRETS = 10_000

# A payload may make any number of files called payload*.
_MOST = 100


def forget_secrets(paths: JobPaths) -> tuple[str, ...]:
    """Remove the secrets once nobody needs them: folders whose logs could not
    be stored stay on the node.

    Returns
    -------
    tuple
        The values that were there: for whoever stores the logs of a job that
        it did not run, and has to mask them.
    """
    values = _secrets(paths.work / SECRETS)
    for folder in (paths.work, paths.shared):
        try:
            (folder / SECRETS).unlink(missing_ok=True)
        except OSError as err:
            log.warning("the job's secrets stay in %s: %s", folder, err.strerror)
    return values


def _secrets(path: Path) -> tuple[str, ...]:
    """What the file holds; the payload may have made another one of it."""
    try:
        with open_regular(path) as src:
            text = src.read(_MOST_SECRET_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(islice(secret_values(text), _MOST_SECRETS))


def log_files(paths: JobPaths) -> Sequence[Path]:
    """`pilotlog*.*`, `payload*.*` and `memory_monitor*.*` of the work
    directory.

    Only regular files that exist. Links are followed, as Rubin's runner links
    payload-log.json to the shared folder, but not out of the job's folders:
    a payload could link to a file that the pilot may read and nobody else.
    """
    roots = [Path(os.path.realpath(folder)) for folder in (paths.work, paths.shared)]
    found, names = [], _names(paths.work)
    unfit = [name for name in names if not _fit(name)]
    if unfit:
        log.warning("%d files are not kept as logs for their names, such as %r", len(unfit), unfit[0])
    for name in sorted(set(names).difference(unfit), key=_rank):
        path = paths.work / name
        if _inside(path, roots):
            found.append(path)
        elif not _unwritten(path, paths.shared):
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
        plain_name(name)
    except UnsafeName:
        return False
    return True


def _rank(name: str) -> tuple[int, bool, str]:
    """Order of usefulness: by stem, the three usual names of a stem before
    others.
    """
    stem = next(i for i, stem in enumerate(_STEMS) if name.startswith(stem))
    usual = name in ("pilotlog.txt", "payload.stdout", "payload.stderr", "payload-log.json")
    return stem, not usual, name


def _unwritten(path: Path, shared: Path) -> bool:
    """True for the pilot's own link to a log that the payload never wrote."""
    target = shared / path.name
    try:
        return os.readlink(path) == str(target) and not os.path.lexists(target)
    except OSError:
        return False


def _inside(path: Path, roots: Sequence[Path]) -> bool:
    try:
        real_below(path, roots)
    except OSError:
        return False
    return True
