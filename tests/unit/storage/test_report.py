"""What may be reported as stored."""

from pathlib import Path

from pilot_core.errors import StorageError
from pilot_core.model.job import Job, OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.bundle import Bundle
from pilot_core.storage.contract import Stored
from pilot_core.storage.logs import LogUpload
from pilot_core.storage.report import log_report, missing_files

LOG = OutputFile("u.1.log.tgz", guid="log-guid", dataset="PandaJob_#{pandaid}/")
BUNDLE = Bundle(Path("log.tgz"), 20480, "0a1b2c3d", ("pilotlog.txt",))
PREFIX = "gs://b/logs/Q/PandaJob_1/"
ONE = LogUpload({Path("pilotlog.txt"): Stored(f"{PREFIX}pilotlog.txt", "", 5, "00000001")}, {})
NONE = LogUpload({}, {Path("pilotlog.txt"): StorageError("no")})


def report(
    bundle: Bundle | None, stored: Stored | None, files: LogUpload | None, log: OutputFile = LOG
) -> FileReport | None:
    return log_report(
        log, guid="ours", endpoint="LOGS", prefix=PREFIX, bundle=bundle, bundle_stored=stored, files=files
    )


def test_single_files_stand_behind_the_bundle() -> None:
    assert report(BUNDLE, None, ONE) == FileReport(
        "u.1.log.tgz", "log-guid", 20480, "0a1b2c3d", surl=PREFIX, endpoint="LOGS"
    )


def test_a_stored_bundle_is_itself() -> None:
    stored = Stored(f"{PREFIX}u.1.log.tgz", "", 7, "00000007")
    assert report(None, stored, None) == FileReport(
        "u.1.log.tgz", "log-guid", 7, "00000007", surl=stored.url, endpoint="LOGS"
    )


def test_nothing_stored_is_nothing_reported() -> None:
    assert report(BUNDLE, None, NONE) is None
    assert report(BUNDLE, None, None) is None
    assert report(None, None, ONE) is None


def test_a_log_without_guid_gets_ours() -> None:
    found = report(BUNDLE, None, ONE, OutputFile("u.1.log.tgz"))
    assert found is not None
    assert found.guid == "ours"


def test_what_a_finished_job_still_owes() -> None:
    job = Job(1, 0, "t", "", outputs=(OutputFile("a"), OutputFile("b")), log=LOG)
    assert missing_files(job, (FileReport("a", "g", 1, "x"),)) == ("b", "u.1.log.tgz")
    assert missing_files(Job(1, 0, "t", ""), ()) == ()
