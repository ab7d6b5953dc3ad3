"""What an update does to a job; pairs taken from answers of panda-server
1.0.3.
"""

from dataclasses import replace

import pytest

from pilot_core.local import adder, rules
from pilot_core.local.definition import make
from pilot_core.local.rows import JobRow

NOW = 1_795_000_000.0
REPORT = '{"log.tgz": {"guid": "g", "fsize": 3, "adler32": "00000001"}}'


def job(**fields: object) -> JobRow:
    row = JobRow(panda_id=7, queue="LOCAL", definition=make(), status="sent", modified_s=NOW - 10)
    return replace(row, **fields)  # type: ignore[arg-type]


def update(row: JobRow | None, state: str, **fields: object) -> rules.Verdict:
    return rules.update(row, {"job_id": 7, "job_status": state, **fields}, now=NOW)


@pytest.mark.parametrize(
    ("old", "reported", "new"),
    [
        ("sent", "starting", "starting"),
        ("sent", "running", "running"),
        ("starting", "running", "running"),
        ("running", "starting", "running"),
        ("running", "running", "running"),
        ("running", "holding", "holding"),
        ("running", "transferring", "transferring"),
        ("holding", "running", "holding"),
        ("holding", "starting", "holding"),
        ("holding", "transferring", "holding"),
        ("transferring", "running", "transferring"),
        ("transferring", "holding", "holding"),
        ("sent", "finished", "holding"),
        ("holding", "finished", "holding"),
        ("running", "failed", "holding"),
    ],
)
def test_states(old: str, reported: str, new: str) -> None:
    verdict = update(job(status=old), reported)
    assert (verdict.code, verdict.command) == (0, "NULL")
    assert verdict.job is not None
    assert verdict.job.status == new


@pytest.mark.parametrize(
    ("row", "fields", "command"),
    [
        (None, {}, "tobekilled"),
        (job(), {"attempt_nr": 2}, "tobekilled"),
        (job(status="cancelled", archived=True), {}, "tobekilled"),
        (job(status="failed", archived=True), {}, "tobekilled"),
        (job(status="failed"), {}, "alreadydone"),
    ],
)
def test_updates_that_store_nothing(row: JobRow | None, fields: dict[str, object], command: str) -> None:
    verdict = update(row, "running", **fields)
    assert (verdict.code, verdict.command, verdict.job) == (0, command, None)


def test_second_final_report_is_alreadydone_and_stores_nothing() -> None:
    first = update(job(status="running"), "finished", job_output_report=REPORT)
    assert first.job is not None
    second = update(first.job, "failed", pilot_error_code=1)
    assert (second.command, second.job) == ("alreadydone", None)


@pytest.mark.parametrize(
    "fields",
    [
        {"cpu_consumption_unit": "x" * 129},
        {"pilot_timing": "1" * 101},
        {"scheduler_id": "x" * 129},
        {"core_count": 2**31},
        {"cpu_conversion_factor": 100_000.0},
    ],
)
def test_a_value_the_database_refuses_costs_the_update(fields: dict[str, object]) -> None:
    verdict = update(job(status="running"), "running", **fields)
    assert (verdict.code, verdict.message, verdict.job) == (30, "Database error", None)


@pytest.mark.parametrize(
    ("field", "column", "given", "stored"),
    [
        ("pilot_id", "pilotID", "x" * 300, "x" * 200),
        ("batch_id", "batchID", "x" * 90, "x" * 80),
        ("node", "modificationHost", "x" * 200, "x" * 128),
        ("pilot_error_diag", "pilotErrorDiag", "x" * 600, "x" * 500),
        ("cpu_architecture_level", "cpu_architecture_level", "x" * 30, "x" * 20),
        ("source_site", "source_site", "x" * 40, "x" * 36),
        ("tot_rchar", "totRCHAR", 2048, 2),
        ("rate_rchar", "rateRCHAR", 2048, 2),
        ("tot_rchar", "totRCHAR", 10**15, 10**10 - 1),
        ("max_rss", "maxRSS", 12.7, 12),
    ],
)
def test_columns(field: str, column: str, given: object, stored: object) -> None:
    verdict = update(job(status="running"), "running", **{field: given})
    assert verdict.job is not None
    assert verdict.job.columns[column] == stored


def test_legacy_does_not_divide_rates() -> None:
    fields = {"job_id": 7, "job_status": "running", "rate_rchar": 2048, "tot_rchar": 2048}
    verdict = rules.update(job(), fields, now=NOW, dialect="legacy")
    assert verdict.job is not None
    assert (verdict.job.columns["rateRCHAR"], verdict.job.columns["totRCHAR"]) == (2048, 2)


def test_batch_id_must_stay() -> None:
    first = update(job(), "running", batch_id="grid-1").job
    assert first is not None
    assert update(first, "running", batch_id="grid-1").code == 0
    assert update(first, "running", batch_id="grid-2").code == 30
    numbers = update(job(), "running", batch_id="17").job
    assert numbers is not None
    assert update(numbers, "running", batch_id="18").code == 0


def test_times_in_another_spelling_are_ignored() -> None:
    good = update(job(), "running", start_time="2026-11-21 08:00:00").job
    bad = update(job(), "running", start_time="2026-11-21T08:00:00Z").job
    assert good is not None
    assert bad is not None
    assert good.started_s == 1_795_248_000.0
    assert bad.started_s == NOW


def test_meta_data_first_wins_and_failed_has_none() -> None:
    first = update(job(), "running", meta_data="a").job
    assert first is not None
    second = update(first, "failed", meta_data="b").job
    assert second is not None
    assert second.metadata == "a"
    lost = update(None, "finished", meta_data="a")
    assert (lost.code, lost.message) == (30, "Failed to add meta_data")


@pytest.mark.parametrize(
    ("row", "command"),
    [
        (job(), "NULL"),
        (job(debug=True), "debug"),
        (job(debug=True, command="tail payload.stdout"), "debug,tail payload.stdout"),
        (job(command="softkill"), "softkill"),
        (job(debug=True, command="tobekilled"), "tobekilled"),
    ],
)
def test_commands(row: JobRow, command: str) -> None:
    assert rules.reply_command(row) == command


def test_holding_on_holding_is_no_sign_of_life() -> None:
    verdict = update(job(status="holding"), "holding")
    assert verdict.job is not None
    assert verdict.job.modified_s == NOW - 10


@pytest.mark.parametrize(
    ("status", "idle", "code"),
    [
        ("sent", 1799, None),
        ("sent", 1800, 102),
        ("running", 7199, None),
        ("running", 7200, 100),
        ("starting", 7200, 100),
        ("holding", 10_800, 100),
        ("activated", 10**6, None),
    ],
)
def test_watcher(status: str, idle: float, code: int | None) -> None:
    late = rules.overdue(job(status=status, modified_s=NOW - idle), now=NOW)
    if code is None:
        assert late is None
    else:
        assert late is not None
        assert (late.status, late.archived) == ("failed", True)
        assert late.columns["jobDispatcherErrorCode"] == code


def test_kill_before_and_while_running() -> None:
    waiting = rules.cancel(job(status="activated"), code=None, who="somebody", now=NOW)
    running = rules.cancel(job(status="running"), code=None, who="somebody", now=NOW)
    forced = rules.cancel(job(status="running"), code=9, who="somebody", now=NOW)
    assert [row.status for row in (waiting, running, forced)] == ["cancelled", "running", "cancelled"]
    assert {row.command for row in (waiting, running, forced)} == {"tobekilled"}
    assert waiting.columns["taskBufferErrorDiag"] == "killed by somebody"


@pytest.mark.parametrize(
    ("asked", "label", "in_test", "given"),
    [
        (None, "managed", False, True),
        ("managed", "prod_test", False, True),
        ("managed", "user", False, False),
        ("user", "panda", False, True),
        ("unified", "user", False, True),
        ("rc_test2", "managed", False, False),
        ("managed", "managed", True, False),
        ("managed", "test", True, True),
    ],
)
def test_labels(asked: str | None, label: str, in_test: bool, given: bool) -> None:
    assert rules.accepts_label(asked, label, queue_in_test=in_test) is given


UNREADABLE = "Could not get GUID/LFN/MD5/FSIZE/SURL from pilot JSON"


@pytest.mark.parametrize(
    ("final", "report", "columns", "status", "ddm"),
    [
        ("finished", REPORT, {}, "finished", ""),
        ("finished", "", {}, "failed", UNREADABLE),
        ("finished", "no JSON", {}, "failed", UNREADABLE),
        ("finished", "[]", {}, "failed", UNREADABLE),
        ("finished", "{}", {}, "failed", "expected output log.tgz is missing in pilot JSON"),
        ("finished", '{"log.tgz": {"guid": "g", "fsize": 3}}', {}, "failed", UNREADABLE),
        ("finished", REPORT.replace("adler32", "md5sum"), {}, "finished", ""),
        (
            "finished",
            REPORT[:-1] + ', "extra.root": {"guid": "g", "fsize": 3, "adler32": "00000001"}}',
            {},
            "failed",
            "pilot produced extra.root inconsistently with jobdef",
        ),
        ("finished", REPORT.replace("log.tgz", "log.tgz_1"), {}, "finished", ""),
        ("failed", "", {"pilotErrorCode": 1305}, "failed", ""),
        ("failed", "", {"transExitCode": 65}, "failed", ""),
        ("failed", "", {}, "failed", UNREADABLE),
        ("failed", "", {"jobSubStatus": "pilot_closed"}, "closed", ""),
    ],
)
def test_adder(final: str, report: str, columns: dict[str, object], status: str, ddm: str) -> None:
    settled = adder.settle(job(status="holding", final=final, report=report, columns=columns), now=NOW)
    assert (settled.status, settled.archived) == (status, True)
    assert settled.ddm_error == (200 if ddm else 0, ddm)


def test_killed_jobs_become_cancelled_when_they_fail() -> None:
    settled = adder.settle(job(status="holding", final="failed", command="tobekilled"), now=NOW)
    assert settled.status == "cancelled"
    done = adder.settle(job(status="holding", final="finished", command="tobekilled", report=REPORT), now=NOW)
    assert done.status == "finished"


def test_the_log_is_one_of_the_outputs() -> None:
    out = '{"out.fits": {"guid": "g", "fsize": 3, "adler32": "00000001"}}'
    for files in ("out.fits,log.tgz", "out.fits"):
        row = job(status="holding", final="finished", definition=make(outFiles=files), report=out)
        assert adder.file_error(row) == "expected output log.tgz is missing in pilot JSON"


def test_a_job_without_files_needs_no_report() -> None:
    row = job(status="holding", final="finished", definition=make(outFiles="", logFile=""))
    assert adder.settle(row, now=NOW).status == "finished"


def test_outputs_by_pattern() -> None:
    definition = make(outFiles="regex|out_\\d+.fits,log.tgz")
    files = REPORT[:-1] + ', "out_12.fits": {"guid": "g", "fsize": 3, "adler32": "00000001"}}'
    row = job(status="holding", final="finished", definition=definition, report=files)
    assert adder.file_error(row) == ""
    assert "regex|" in adder.file_error(replace(row, report=REPORT))
