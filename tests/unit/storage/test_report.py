"""What may be reported as stored."""

from pilot_core.model.job import OutputFile
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import Stored
from pilot_core.storage.report import file_report

STORED = Stored("gs://b/logs/Q/PandaJob_1/u.1.log.tgz", "", 7, "00000007")


def test_what_is_stored_is_what_is_reported() -> None:
    assert file_report(OutputFile("u.1.log.tgz", guid="log-guid"), STORED, "LOGS") == FileReport(
        "u.1.log.tgz", "log-guid", 7, "00000007", surl=STORED.url, endpoint="LOGS"
    )


def test_a_file_without_guid_gets_one_of_its_own() -> None:
    made = {file_report(OutputFile("a"), STORED, "LOGS").guid for _ in range(2)}
    assert len(made) == 2
    assert {len(guid) for guid in made} == {36}
