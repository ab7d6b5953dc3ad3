"""Jobs and logs as the console shows them."""

from pathlib import Path

import pytest

from pilot_core.base.clock import SystemClock
from pilot_core.local.auth import Tokens
from pilot_core.local.desk import Desk
from pilot_core.local.rows import JobRow
from pilot_core.local.store import Store
from pilot_core.local.views import jobs_table, log_folder, split_logs, tail


def test_exit_codes_of_payloads_that_ran_and_of_those_that_did_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    desk = Desk(store, Tokens.fresh(), tmp_path, SystemClock())
    ids = [store.submit({"jobName": f"job{number}"}) for number in range(3)]
    store.acquire({"site_name": "LOCAL", "n_jobs": 3})
    for panda_id, states, code in zip(
        ids, (("starting",), ("running",), ("running",)), (0, 0, 3), strict=True
    ):
        for state in states:
            store.update({"job_id": panda_id, "job_status": state})
        final = {"pilot_error_code": 1137, "pilot_error_diag": "x" * 61, "trans_exit_code": code}
        store.update({"job_id": panda_id, "job_status": "failed", **final})
    views = [view for view in map(desk.job_view, ids) if view is not None]
    lines = jobs_table(views)
    assert [line.split()[5:8] for line in lines[1:]] == [
        ["-", "1137", "job0"],
        ["0", "1137", "job1"],
        ["3", "1137", "job2"],
    ]
    assert lines[1].endswith("  job0  " + "x" * 60 + "...")
    store.close()


@pytest.mark.parametrize(
    ("status", "pilot_code", "code", "shown"),
    [
        ("cancelled", 1144, 0, None),
        ("failed", 1201, 0, None),
        ("failed", 1201, 143, 143),
        ("failed", 1137, 0, 0),
        ("finished", 0, 0, 0),
        ("running", 0, None, None),
    ],
)
def test_the_exit_code_of_a_payload_that_was_ended(
    status: str, pilot_code: int, code: int | None, shown: int | None
) -> None:
    columns = {"pilotErrorCode": pilot_code, "transExitCode": code}
    assert JobRow(1, "Q", {}, status=status, columns=columns).payload_code == shown


def test_logs_in_the_order_for_reading(tmp_path: Path) -> None:
    names = ["memory_monitor_pilot.json", "a.log", "payload-log.json", "payload.stderr", "payload.stdout"]
    for name in [*names, "pilotlog.txt"]:
        (tmp_path / name).touch()
    files, monitors = split_logs(tmp_path)
    shown = ["payload.stderr", "payload.stdout", "payload-log.json", "a.log", "pilotlog.txt"]
    assert [path.name for path in files] == shown
    assert [path.name for path in monitors] == ["memory_monitor_pilot.json"]


def test_where_the_logs_are(tmp_path: Path) -> None:
    job = {"id": 7, "queue": "Q", "log_url": (tmp_path / "a b" / "pilotlog.txt").as_uri()}
    assert log_folder(job, tmp_path) == tmp_path / "logs" / "Q" / "PandaJob_7"
    (tmp_path / "a b").mkdir()
    assert log_folder(job, tmp_path) == tmp_path / "a b"
    assert log_folder({**job, "log_url": "gs://b/x"}, tmp_path) == tmp_path / "logs" / "Q" / "PandaJob_7"


def test_the_end_of_a_file_is_short(tmp_path: Path) -> None:
    path = tmp_path / "payload.stdout"
    path.write_bytes(b"one\ntwo\xff\r\n" + b"x" * 3000)
    assert tail(path, 2) == ["two\ufffd\r", "x" * 500 + "... (3000 characters)"]
    assert tail(path, 0) == ["one", "two\ufffd\r", "x" * 3000]
