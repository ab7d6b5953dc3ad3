"""`pilot-local` against a server in the same process: what a user sees."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core import __version__
from pilot_core.base.scope import Scope
from pilot_core.local.cli import main
from pilot_core.local.server import LocalPanda
from pilot_core.local.views import job_folder
from tests.fakes.pki import make_pki


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path) as server:
        yield server


def run(capsys: pytest.CaptureFixture[str], panda: LocalPanda, *argv: str) -> tuple[int, str, str]:
    command, *rest = argv
    # An option that comes twice counts the second time.
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
    titles = ["PandaID", "queue", "state", "time", "exit", "code", "name", "error"]
    assert table.splitlines()[0].split() == titles
    assert table.splitlines()[1].split() == [str(panda_id), "LOCAL", "activated", "-", "-", "-", "mine"]
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
    assert " sent, being cancelled " in run(capsys, panda, "status")[1]
    assert "sent, being cancelled\n" in run(capsys, panda, "status", str(panda_id))[1]
    panda.store.update({"job_id": panda_id, "job_status": "failed", "pilot_error_code": 1144})
    assert " cancelled  " in run(capsys, panda, "status")[1]


def test_submit_image_transformation_and_file(
    capsys: pytest.CaptureFixture[str], panda: LocalPanda, tmp_path: Path
) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"transformation": "https://e/y", "jobName": "old", "maxWalltime": 5}))
    for argv in (
        ("--image", "stack:w", "--command", "ls"),
        ("--transformation", "demo", "--command", "fail"),
        ("--transformation", "https://e/x", "--command", ""),
        ("--file", str(path), "--name", "new", "--queue", "DOMA_LSST_DEV"),
    ):
        code, _, err = run(capsys, panda, "submit", *argv)
        assert (code, err) == (0, "")
    jobs = panda.store.jobs()
    found = [job.definition for job in jobs]
    assert [d.get("container_name", "") for d in found] == ["stack:w", "", "", ""]
    trf = ["", f"{panda.url}/trf/demo", "https://e/x", "https://e/y"]
    assert [d["transformation"] for d in found] == trf
    assert found[3]["maxWalltime"] == 5
    assert (jobs[3].name, jobs[3].queue) == ("new", "DOMA_LSST_DEV")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no json", ["job.json is not JSON: Expecting value"]),
        (b"\xff{}", ["job.json is not JSON: no text in UTF-8"]),
        (b"[]", ["job.json is no job definition"]),
        (b"{}", ["transformation='': missing"]),
        (b'{"transformation": "x", "maxWalltime": "ten"}', ["maxWalltime='ten': not a whole number"]),
        (b'{"transformation": "x", "computingSite": "NOPE"}', ["no queue 'NOPE'", "LOCAL"]),
        (b'{"transformaton": "x"}', ["no pilot reads 'transformaton': is it 'transformation'?"]),
        (b'{"transformation": "x", "PandaID": 4}', ["PandaID=4 is taken"]),
    ],
)
def test_what_is_not_submitted(
    capsys: pytest.CaptureFixture[str], panda: LocalPanda, tmp_path: Path, content: bytes, words: list[str]
) -> None:
    panda.store.submit({"PandaID": 4})
    path = tmp_path / "job.json"
    path.write_bytes(content)
    code, out, err = run(capsys, panda, "submit", "--file", str(path))
    assert (code, out) == (1, "")
    assert all(word in err for word in words), err
    assert len(panda.store.jobs()) == 1


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
    assert (words["state"], words["error"], words["memory"]) == (
        "failed",
        "1305 PAYLOADEXECUTIONFAILURE no flat",
        "200 MB",
    )
    assert "exit code  3\n" in shown
    assert run(capsys, panda, "status")[1].endswith("  3     1305  n     no flat\n")
    code, _, err = run(capsys, panda, "logs", str(panda_id))
    assert code == 1
    assert "(failed) left no logs in " in err
    folder = panda.folder / "logs" / "LOCAL" / f"PandaJob_{panda_id}"
    folder.mkdir(parents=True)
    (folder / "payload.stdout").write_text("".join(f"line {n}\n" for n in range(50)))
    out = run(capsys, panda, "logs", str(panda_id), "--lines", "2")[1]
    assert out.splitlines()[1:] == ["line 48", "line 49"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("submit",), "what is the job?"),
        (("submit", "--file", "/nonexistent/job.json"), "/nonexistent/job.json: No such file"),
        (("submit", "--command", " "), "--command is empty"),
        (("submit", "--command", "true", "--queue", "NOPE"), "no queue 'NOPE'"),
        (("submit", "--command", "true", "--image", "bad image!"), "--image 'bad image!' is no name of a"),
        (("submit", "--command", "true", "--image", ""), "--image '' is no name of a"),
        (("submit", "--command", "x", "--transformation", "~/script.sh"), "'~/script.sh' is a path"),
        (("work", "--queue", "NOPE"), "no queue 'NOPE'"),
        (("run", "--folder", "/dev/null/x"), "--folder /dev/null/x: Not a directory"),
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


def test_a_folder_of_a_pilot_that_cannot_be(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    assert main(["work", "--url", panda.url, "--folder", "/dev/null/x"]) == 1
    assert capsys.readouterr().err == "pilot-local: /dev/null/x/work/tmp: Not a directory\n"


def test_logs_of_the_last_job(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    assert "there is no job yet" in run(capsys, panda, "logs")[2]
    panda.store.submit({})
    last = panda.store.submit({})
    assert f"job {last} is activated: its logs come when it has ended" in run(capsys, panda, "logs")[2]


def test_a_job_that_runs_here_is_seen_at_work(capsys: pytest.CaptureFixture[str], panda: LocalPanda) -> None:
    panda_id = panda.store.submit({})
    assert "folder" not in run(capsys, panda, "status", str(panda_id))[1]
    work = panda.folder / "work" / f"PanDA_Pilot-{panda_id}"
    work.mkdir(parents=True)
    (work / "payload.stdout").write_text("so far\n")
    (work / "payload.stderr").touch()
    (work / "payload-log.json").symlink_to(panda.folder / "nowhere")
    (work / "an-output.fits").touch()
    assert f"folder     {work}\n" in run(capsys, panda, "status", str(panda_id))[1]
    shown = run(capsys, panda, "logs")[1].splitlines()
    assert shown == [
        f"==> {work}/payload.stderr (0 bytes)",
        f"==> {work}/payload.stdout (7 bytes)",
        "so far",
    ]


def test_a_job_of_the_demonstration_is_found(tmp_path: Path) -> None:
    work = tmp_path / "worker" / "tmp" / "panda_x1" / "PanDA_Pilot-7"
    assert job_folder({"id": 7}, tmp_path) is None
    work.mkdir(parents=True)
    assert job_folder({"id": 7}, tmp_path) == work


def test_no_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", "--folder", str(tmp_path / "none")]) == 1
    assert "start one with `pilot-local serve`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ("serve", "--port", "99999"),
        ("serve", "--port", "x"),
        ("status", "--url", "notaurl"),
        ("status", "--url", "http://127.0.0.1:abc"),
        ("logs", "--lines", "-1"),
        ("work", "--jobs", "ten"),
    ],
)
def test_bad_values_are_named_with_their_option(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert f"argument {argv[1]}: {argv[2]!r} is no " in capsys.readouterr().err


def test_an_option_that_is_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["logs", "--lnes=4"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --lnes=4: is it --lines?\n")
    with pytest.raises(SystemExit, match="2"):
        main(["status", "--xyzzy"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --xyzzy\n")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_what_is_no_panda(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answers = {b"SSH-2.0-OpenSSH\r\n": "BadStatusLine", b"HTTP/1.0 200 OK\r\n\r\n<html>": "<html>"}
    for answer, words in answers.items():
        with socket.create_server(("127.0.0.1", 0)) as server, Scope("stranger") as scope:

            def speak(server: socket.socket = server, answer: bytes = answer) -> None:
                server.settimeout(20)
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(20)
                    connection.recv(4096)
                    connection.sendall(answer)

            scope.spawn("stranger", speak)
            code = main(["status", "--url", f"http://127.0.0.1:{server.getsockname()[1]}"])
        err = capsys.readouterr().err
        assert code == 1
        assert "is no local PanDA" in err
        assert words in err


def test_files_of_tls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pki, bad = make_pki(tmp_path), tmp_path / "bad.pem"
    bad.write_text("no certificate")
    cert, key = ("--tls-cert", str(pki.tls.cert)), ("--tls-key", str(pki.tls.key))
    for argv, words in (
        (cert, "needs both --tls-cert and --tls-key"),
        (("--tls-client-ca", str(pki.ca)), "needs both --tls-cert and --tls-key"),
        ((*cert, "--tls-key", "/nope"), "--tls-key /nope: No such file"),
        ((*cert, "--tls-key", str(bad)), f"--tls-key {bad}: no PEM"),
        ((*cert, *key, "--tls-client-ca", str(bad)), f"--tls-client-ca {bad}: no PEM"),
    ):
        assert main(["serve", "--folder", str(tmp_path / "f"), "--port", "0", *argv]) == 1
        assert words in capsys.readouterr().err
