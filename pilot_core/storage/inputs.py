"""Stage-in: the files a job needs, fetched into its directory and checked."""

import functools
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.files import UnsafeName, safe_join
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile
from pilot_core.storage.checksum import BLOCK, matches
from pilot_core.storage.contract import Place, Stored
from pilot_core.storage.parallel import Outcomes, in_turn
from pilot_core.storage.progress import Telling

__all__ = ["get_inputs"]


def get_inputs(
    files: Sequence[InputFile],
    work: Path,
    *,
    places: Sequence[Mapping[InputFile, Place]],
    budget: Budget,
    clock: Clock,
    workers: int = 4,
    keep_free_bytes: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Outcomes[InputFile, Stored]:
    """Fetch a job's inputs into its work directory.

    Parameters
    ----------
    places
        Where each file is; then where else, asked in turn for what could not
        be fetched before.
    progress
        Called with a file's name, its bytes done and in all; a line in the log
        now and then by default.
    keep_free_bytes
        What must remain on the disk beside the inputs.

    Returns
    -------
    Outcomes
        A file with a wrong size or checksum is failed and removed.

    Raises
    ------
    StorageError
        NOLOCALSPACE if the sizes do not fit, BADOUTPUTFILENAME for a name that
        leaves the directory; nothing has been fetched then.
    """
    targets = {file: _target(work, file) for file in files}
    total = sum(file.size for file in files)
    needed = total + keep_free_bytes
    free = shutil.disk_usage(work).free
    if free < needed:
        raise StorageError(f"inputs need {needed} bytes in {work}, {free} are free", ErrorCode.NOLOCALSPACE)

    tell = Telling(progress, "stage-in", files=len(files), total=total, clock=clock)

    def get(file: InputFile, place: Place, part: Budget) -> Stored:
        target = targets[file]
        stored = place.tool.get(place.url, target, budget=part, progress=functools.partial(tell, file.lfn))
        try:
            _check(file, target, stored, part)
        except StorageError:
            target.unlink(missing_ok=True)
            raise
        return stored

    outcomes = in_turn(
        list(files),
        get,
        places,
        name="stagein",
        workers=workers,
        budget=budget,
        clock=clock,
        late=ErrorCode.STAGEINTIMEOUT,
    )
    tell.over(len(outcomes.done))
    return outcomes


def _target(work: Path, file: InputFile) -> Path:
    try:
        return safe_join(work, file.lfn)
    except UnsafeName as err:
        raise StorageError(f"input: {err}", ErrorCode.BADOUTPUTFILENAME) from err


def _check(file: InputFile, path: Path, stored: Stored, budget: Budget) -> None:
    """Compare size and checksum with the job's.

    Raises
    ------
    StorageError
        STAGEINFAILED, GETADMISMATCH, GETMD5MISMATCH or UNKNOWNCHECKSUMTYPE.
    """
    if file.size and stored.size != file.size:
        raise StorageError(
            f"input {file.lfn} has {stored.size} bytes, the job says {file.size}", ErrorCode.STAGEINFAILED
        )
    kind, _, value = file.checksum.rpartition(":")
    if not value:
        return
    kind = kind.lower() or ("md5" if len(value) == 32 else "ad")
    if kind in ("ad", "adler32"):
        if not matches(value, stored.adler32):
            said = f"input {file.lfn} has adler32 {stored.adler32}, the job says {value}"
            raise StorageError(said, ErrorCode.GETADMISMATCH)
    elif kind in ("md", "md5"):
        found = _md5(path, budget)
        if found != value.lower():
            said = f"input {file.lfn} has md5 {found}, the job says {value}"
            raise StorageError(said, ErrorCode.GETMD5MISMATCH)
    else:
        said = f"input {file.lfn}: checksum {file.checksum[:40]!r} is of no known type"
        raise StorageError(said, ErrorCode.UNKNOWNCHECKSUMTYPE)


def _md5(path: Path, budget: Budget) -> str:
    """md5 as 32 hex digits; the catalogue's, not for security."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as src:
        while data := src.read(BLOCK):
            budget.timeout(1.0)
            digest.update(data)
    return digest.hexdigest()
