"""PURE: what a job may report as stored, for `job_output_report`.

The server (panda-server 1.0.3) turns a finished job into a failed one if the
report misses a file that the job defines, or names one that it does not.
"""

from pilot_core.model.job import Job, OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.bundle import Bundle
from pilot_core.storage.contract import Stored
from pilot_core.storage.logs import LogUpload

__all__ = ["file_report", "log_report", "missing_files"]


def log_report(
    file: OutputFile,
    *,
    guid: str,
    endpoint: str,
    prefix: str,
    bundle: Bundle | None,
    bundle_stored: Stored | None,
    files: LogUpload | None,
) -> FileReport | None:
    """The report of the job's log (`...log.tgz`); None if nothing is stored.

    Two ways to keep a log, one way to report it: with the bundle itself
    stored, the report names it. Where the log files are stored one by one
    (Rubin's buckets), the job's `log.tgz` stands for all of them: size and
    checksum are the bundle's, the surl is the folder, as from pilot3.

    Parameters
    ----------
    guid
        For the file if the job gave it none.
    bundle
        The bundle as made; None if it could not be.
    bundle_stored
        Set if the bundle itself was uploaded.
    files
        Outcome for the individual files; None if there was none to try.
    """
    guid = file.guid or guid
    if bundle_stored is not None:
        return file_report(file, bundle_stored, guid=guid, endpoint=endpoint)
    if bundle is None or files is None or not files.stored:
        return None
    return FileReport(
        lfn=file.lfn, guid=guid, size=bundle.size, adler32=bundle.adler32, surl=prefix, endpoint=endpoint
    )


def file_report(file: OutputFile, stored: Stored, *, guid: str, endpoint: str) -> FileReport:
    """The report of one file that is stored under its own name."""
    return FileReport(
        lfn=file.lfn,
        guid=file.guid or guid,
        size=stored.size,
        adler32=stored.adler32,
        surl=stored.url,
        endpoint=endpoint,
    )


def missing_files(job: Job, reports: tuple[FileReport, ...]) -> tuple[str, ...]:
    """Names the job defines and the reports lack: with any, it cannot be
    `finished`.
    """
    told = {report.lfn for report in reports}
    defined = (*job.outputs, *((job.log,) if job.log is not None else ()))
    return tuple(file.lfn for file in defined if file.lfn not in told)
