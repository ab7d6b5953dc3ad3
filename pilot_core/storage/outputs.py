"""Stage-out: the files a job made, checked, stored and reported."""

import functools
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.files import UnsafeName, safe_join
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import CopyTool
from pilot_core.storage.destination import file_url
from pilot_core.storage.parallel import in_turn
from pilot_core.storage.progress import ProgressLog
from pilot_core.storage.report import file_report
from pilot_core.storage.source import resolve_below

__all__ = ["Alternative", "OutputUpload", "put_outputs"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another storage for a job's outputs: its tool, prefixes and ddmendpoint."""

    tool: CopyTool
    prefixes: Mapping[OutputFile, str]
    endpoint: str


@dataclass(frozen=True, slots=True)
class OutputUpload:
    """A job's outputs: reports of the stored ones, errors of the others."""

    reports: tuple[FileReport, ...]
    failed: dict[OutputFile, StorageError]


def put_outputs(
    files: Sequence[OutputFile],
    work: Path,
    *,
    tool: CopyTool,
    prefixes: Mapping[OutputFile, str],
    endpoint: str,
    budget: Budget,
    clock: Clock,
    roots: Sequence[Path] = (),
    workers: int = 4,
    max_bytes: int = 0,
    alternatives: Sequence[Alternative] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> OutputUpload:
    """Store a job's outputs, or none of them.

    All are looked at before the first is sent: a job whose outputs are not
    all there fails, and half a set in the storage would be of no use.

    Parameters
    ----------
    work
        The job's work directory, where the outputs lie.
    prefixes
        URL prefix for each file, from `destination`.
    endpoint
        ddmendpoint for the report.
    roots
        Further folders a link among the outputs may lead to.
    max_bytes
        Largest size of one file; 0 for no limit.
    alternatives
        Storages that get, in turn, what could not be stored before. The report
        names the one that has the file.
    progress
        Called with a file's name, its bytes done and in all; a line in the log
        now and then by default.
    """
    found, failed = _look(files, work, (work, *roots), max_bytes)
    if failed:
        return OutputUpload((), failed)

    total = sum(path.stat().st_size for path in found.values())
    tell = progress or ProgressLog("stage-out", files=len(files), total=total, clock=clock)

    def put(file: OutputFile, where: Alternative, part: Budget) -> FileReport:
        url = file_url(where.prefixes[file], file.lfn)
        told = functools.partial(tell, file.lfn)
        stored = where.tool.put(found[file], url, budget=part, progress=told)
        return file_report(file, stored, guid=str(uuid.uuid4()), endpoint=where.endpoint)

    storages = (Alternative(tool, prefixes, endpoint), *alternatives)
    outcomes = in_turn(
        list(files),
        put,
        [dict.fromkeys(where.prefixes, where) for where in storages],
        name="stageout",
        workers=workers,
        budget=budget,
        clock=clock,
        late=ErrorCode.STAGEOUTTIMEOUT,
    )
    reports = tuple(outcomes.done.values())
    log.info("stored %d of %d outputs at %s", len(reports), len(files), endpoint)
    return OutputUpload(reports, outcomes.failed)


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
