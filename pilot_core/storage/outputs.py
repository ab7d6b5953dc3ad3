"""Stage-out: the files a job made, checked, stored and reported."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.files import UnsafeName, safe_join
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import Place, Stored
from pilot_core.storage.parallel import in_turn
from pilot_core.storage.progress import Telling
from pilot_core.storage.report import file_report
from pilot_core.storage.source import resolve_below

__all__ = ["OutputUpload", "put_outputs"]


@dataclass(frozen=True, slots=True)
class OutputUpload:
    """A job's outputs: what is stored, its reports, errors of the others."""

    reports: tuple[FileReport, ...]
    failed: dict[OutputFile, StorageError]
    stored: dict[OutputFile, Stored] = field(default_factory=dict)


def put_outputs(
    files: Sequence[OutputFile],
    work: Path,
    *,
    places: Sequence[Mapping[OutputFile, Place]],
    budget: Budget,
    clock: Clock,
    roots: Sequence[Path] = (),
    workers: int = 4,
    max_bytes: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> OutputUpload:
    """Store a job's outputs, or none of them.

    All are looked at before the first is sent: a job whose outputs are not
    all there fails, and half a set in the storage would be of no use.

    Parameters
    ----------
    work
        The job's work directory, where the outputs lie.
    places
        Where each file goes; then where else, for what could not be stored
        before. The report names the place that has the file.
    roots
        Further folders a link among the outputs may lead to.
    max_bytes
        Largest size of one file; 0 for no limit.
    progress
        Called with a file's name, its bytes done and in all; a line in the log
        now and then by default.
    """
    found, failed = _look(files, work, (work, *roots), max_bytes)
    if failed:
        return OutputUpload((), failed)

    total = sum(path.stat().st_size for path in found.values())
    tell = Telling(progress, "stage-out", files=len(files), total=total, clock=clock)

    def put(file: OutputFile, place: Place, part: Budget) -> tuple[Stored, str]:
        told = functools.partial(tell, file.lfn)
        return place.tool.put(found[file], place.url, budget=part, progress=told), place.endpoint

    outcomes = in_turn(
        list(files),
        put,
        places,
        name="stageout",
        workers=workers,
        budget=budget,
        clock=clock,
        late=ErrorCode.STAGEOUTTIMEOUT,
    )
    reports = tuple(file_report(file, *where) for file, where in outcomes.done.items())
    tell.over(len(reports))
    return OutputUpload(reports, outcomes.failed, {file: where[0] for file, where in outcomes.done.items()})


def _look(
    files: Sequence[OutputFile], work: Path, roots: tuple[Path, ...], max_bytes: int
) -> tuple[dict[OutputFile, Path], dict[OutputFile, StorageError]]:
    """Where each output is, and what is wrong with the others."""
    found: dict[OutputFile, Path] = {}
    failed: dict[OutputFile, StorageError] = {}
    for file in files:
        try:
            found[file] = _checked(file, work, roots, max_bytes)
        except StorageError as err:
            failed[file] = err
    return found, failed


def _checked(file: OutputFile, work: Path, roots: tuple[Path, ...], max_bytes: int) -> Path:
    """The output as a file that may be stored.

    Raises
    ------
    StorageError
        BADOUTPUTFILENAME, MISSINGOUTPUTFILE, ZEROFILESIZE,
        OUTPUTFILETOOLARGE...
    """
    try:
        path = safe_join(work, file.lfn)
    except UnsafeName as err:
        raise StorageError(str(err), ErrorCode.BADOUTPUTFILENAME) from err
    real = resolve_below(path, roots)
    size = real.stat().st_size
    if size == 0:
        raise StorageError(f"output {file.lfn} is empty", ErrorCode.ZEROFILESIZE)
    if 0 < max_bytes < size:
        said = f"output {file.lfn} has {size} bytes, the limit is {max_bytes}"
        raise StorageError(said, ErrorCode.OUTPUTFILETOOLARGE)
    return real
