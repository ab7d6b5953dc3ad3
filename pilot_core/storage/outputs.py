"""Stage-out: the files a job made, checked, stored and reported."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.files import UnsafeName, safe_join
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import CopyTool, Stored
from pilot_core.storage.destination import file_url
from pilot_core.storage.parallel import each
from pilot_core.storage.report import file_report
from pilot_core.storage.source import resolve_below

__all__ = ["OutputUpload", "put_outputs"]

log = logging.getLogger(__name__)


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
    prefixes: dict[OutputFile, str],
    endpoint: str,
    budget: Budget,
    clock: Clock,
    roots: Sequence[Path] = (),
    workers: int = 4,
    max_bytes: int = 0,
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
    """
    found, failed = _look(files, work, (work, *roots), max_bytes)
    if failed:
        return OutputUpload((), failed)

    def put(file: OutputFile) -> Stored:
        return tool.put(found[file], file_url(prefixes[file], file.lfn), budget=budget)

    outcomes = each(
        list(files),
        put,
        name="stageout",
        workers=workers,
        budget=budget,
        clock=clock,
        late=ErrorCode.STAGEOUTTIMEOUT,
    )
    reports = tuple(
        file_report(file, stored, guid=str(uuid.uuid4()), endpoint=endpoint)
        for file, stored in outcomes.done.items()
    )
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
        BADOUTPUTFILENAME, MISSINGOUTPUTFILE, ZEROFILESIZE, OUTPUTFILETOOLARGE...
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
