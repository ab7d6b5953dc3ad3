"""`pilot-local` against a server in the same process: what a user sees."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.local.cli import main
from pilot_core.local.server import LocalPanda
from tests.fakes.pki import make_pki


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path) as server:
        yield server


def run(capsys: pytest.CaptureFixture[str], panda: LocalPanda, *argv: str) -> tuple[int, str, str]:
    command, *rest = argv
    code = main([command, "--folder", str(panda.folder), *rest])
    out, err = capsys.readouterr()
    return code, out, err


def test_submit_status_cancel(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    code, out, _ = run(capsys, panda, "submit", "--command", "echo 'a b'; exit 3", "--name", "mine")
    panda_id = int(out)
    definition = panda.store.job(panda_id).definition
    assert code == 0
    assert definition["transformation"] == f"{panda.url}/trf/bash-c-enc"
    assert definition["jobPars"] == "ZWNobyAnYSBiJzsgZXhpdCAz"
    table = run(capsys, panda, "status")[1]
    assert table.splitlines()[0].split() == ["PandaID", "queue", "state", "time", "exit", "name"]
    assert table.splitlines()[1].split() == [str(panda_id), "LOCAL", "activated", "-", "-", "mine"]
    assert run(capsys, panda, "cancel", str(panda_id))[:2] == (0, f"job {panda_id} is cancelled\n")
    code, _, err = run(capsys, panda, "cancel", str(panda_id))
    assert (code, err) == (1, f"pilot-local: job {panda_id} does not exist or has ended\n")


def test_a_server_with_tls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    with LocalPanda(tmp_path / "panda", tls=pki.tls) as panda:
        code, _, err = run(capsys, panda, "status")
        assert (code, "certificate verify failed" in err) == (1, True)
        job = ("submit", "--command", "true")
        code, out, _ = run(capsys, panda, *job, "--cacert", str(pki.ca))
        assert (code, int(out)) == (0, panda.store.jobs()[0].panda_id)
        code, _, err = run(capsys, panda, "status", "--cacert", str(tmp_path / "none"))
        assert (code, err) == (1, f"pilot-local: {tmp_path}/none: No such file or directory\n")


def test_cancel_of_a_running_job(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    panda_id = panda.store.submit({})
    panda.store.acquire({"site_name": "LOCAL"})
    assert "with the next heartbeat" in run(capsys, panda, "cancel", str(panda_id))[1]
    assert panda.store.job(panda_id).command == "tobekilled"


def test_submit_image_transformation_and_file(
    capsys: pytest.CaptureFixture[str], panda: LocalPanda, tmp_path: Path
) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"jobPars": "x", "maxWalltime": 5}))
    for argv in (
        ("--image", "stack:w", "--command", "ls"),
        ("--transformation", "demo", "--command", "fail"),
        ("--transformation", "https://e/x", "--command", ""),
        ("--file", str(path)),
    ):
        assert run(capsys, panda, "submit", *argv)[0] == 0
    found = [job.definition for job in panda.store.jobs()]
    assert [d.get("container_name", "") for d in found] == ["stack:w", "", "", ""]
    assert [d["transformation"] for d in found] == ["", f"{panda.url}/trf/demo", "https://e/x", ""]
    assert found[3]["maxWalltime"] == 5


def test_one_job_closely_and_its_logs(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    panda_id = panda.store.submit({"jobName": "n"})
    panda.store.acquire({"site_name": "LOCAL"})
    failed = {
        "pilot_error_code": 1305,
        "pilot_error_diag": "no flat",
        "trans_exit_code": 3,
        "max_rss": 204_800,
    }
    panda.store.update({"job_id": panda_id, "job_status": "failed", **failed})
    shown = run(capsys, panda, "status", str(panda_id))[1]
    words = dict(line.split(maxsplit=1) for line in shown.splitlines() if not line.startswith("exit"))
    assert (words["state"], words["error"], words["memory"]) == ("failed", "1305 no flat", "200 MB")
    assert "exit code  3\n" in shown
    code, _, err = run(capsys, panda, "logs", str(panda_id))
    assert code == 1
    assert "is failed" in err
    folder = panda.folder / "logs" / "LOCAL" / f"PandaJob_{panda_id}"
    folder.mkdir(parents=True)
    (folder / "payload.stdout").write_text("".join(f"line {n}\n" for n in range(50)))
    out = run(capsys, panda, "logs", str(panda_id), "--lines", "2")[1]
    assert out.splitlines()[1:] == ["line 48", "line 49"] or out.splitlines()[1:] == [
        "line 48",
        "line 49",
        "",
    ]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("submit",), "what is the job?"),
        (("submit", "--file", "/nonexistent/job.json"), "/nonexistent/job.json: [Errno 2]"),
        (("status", "12"), "there is no job 12"),
        (("status", "--url", "http://127.0.0.1:9"), "is `pilot-local serve` running?"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], panda: LocalPanda, argv: tuple[str, ...], words: str
) -> None:
    code, out, err = run(capsys, panda, *argv)
    assert (code, out) == (1, "")
    assert err.startswith("pilot-local: ")
    assert words in err
    assert err.count("\n") == 1


def test_logs_of_the_last_job(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    assert "there is no job yet" in run(capsys, panda, "logs")[2]
    panda.store.submit({})
    last = panda.store.submit({})
    assert f"job {last} is activated" in run(capsys, panda, "logs")[2]


def test_no_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", "--folder", str(tmp_path / "none")]) == 1
    assert "start one with `pilot-local serve`" in capsys.readouterr().err
