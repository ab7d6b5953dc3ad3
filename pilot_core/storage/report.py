"""What a job may report as stored, for `job_output_report`.

The server (panda-server 1.0.3) turns a finished job into a failed one if the
report misses a file that the job defines, or names one that it does not.
"""

import uuid

from pilot_core.model.job import OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import Stored

__all__ = ["file_report"]


def file_report(file: OutputFile, stored: Stored, endpoint: str) -> FileReport:
    """The report of one stored file; a guid is made where the job gave none."""
    return FileReport(
        lfn=file.lfn,
        guid=file.guid or str(uuid.uuid4()),
        size=stored.size,
        adler32=stored.adler32,
        surl=stored.url,
        endpoint=endpoint,
    )
