"""A folder is one server's at a time, and can be looked at without any."""

from pathlib import Path

import pytest

from pilot_core.local.cli import main
from pilot_core.local.client import Unanswered
from pilot_core.local.folder import sole_server
from pilot_core.local.server import LocalPanda


def test_one_server_at_a_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with sole_server(tmp_path), LocalPanda(tmp_path) as panda:
        for command in ("serve", "run"):
            assert main([command, "--folder", str(tmp_path)]) == 1
            said = f"a server runs on {tmp_path} already, {panda.url}: give another --folder"
            assert said in capsys.readouterr().err
        assert (tmp_path / "url").read_text().strip() == panda.url
    with sole_server(tmp_path):
        assert not (tmp_path / "url").exists()


def test_a_folder_that_cannot_be() -> None:
    with (
        pytest.raises(Unanswered, match="--folder /proc/nothing: No such file"),
        sole_server(Path("/proc/nothing")),
    ):
        pass


def test_a_database_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "panda.sqlite").write_bytes(bytes(range(256)) * 32)
    for command in ("serve", "status"):
        assert main([command, "--folder", str(tmp_path)]) == 1
        assert f"--folder {tmp_path}: panda.sqlite: file is not a database" in capsys.readouterr().err


def test_jobs_and_logs_after_the_server_has_gone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with LocalPanda(tmp_path) as panda:
        panda_id = panda.store.submit({"jobName": "mine"})
        folder = tmp_path / "logs" / "LOCAL" / f"PandaJob_{panda_id}"
        folder.mkdir(parents=True)
        (folder / "payload.stdout").write_text("hello\n")
    # As a server leaves it that was killed: with an address.
    assert (tmp_path / "url").exists()
    for argv, words in (
        (["status"], "mine"),
        (["status", str(panda_id)], "mine"),
        (["logs"], "hello"),
    ):
        assert main([*argv, "--folder", str(tmp_path)]) == 0
        out, err = capsys.readouterr()
        assert words in out
        assert f"no server runs on {tmp_path}" in err
    assert main(["status", "12", "--folder", str(tmp_path)]) == 1
    assert "there is no job 12" in capsys.readouterr().err
    assert main(["submit", "--command", "true", "--folder", str(tmp_path)]) == 1
    assert "is `pilot-local serve` running?" in capsys.readouterr().err
