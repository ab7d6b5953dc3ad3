"""The shared folder: open to every user where we make it, a clear word where it
is not ours.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_core.local.cli import main
from pilot_core.local.client import Unanswered
from pilot_core.local.server import LocalPanda
from pilot_core.local.shared import SHARED, check_shared, make_shared, shared_root

SCRIPT = """\
import os, sys
from pathlib import Path
from pilot_core.local.shared import make_shared
os.setgroups([]); os.setgid(65534); os.setuid(65534)
make_shared(Path(sys.argv[1]))
"""
DOCKER = "#!/bin/sh\necho 27.0\n"


def test_it_is_made_for_every_user(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_shared(tmp_path / "a" / "panda")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "panda").stat().st_mode) == 0o1777


def test_one_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_shared(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_the_option_counts_more_than_the_variable() -> None:
    variable = {"PILOT_SHARED_ROOT": "/scratch/mine"}
    assert shared_root(Path("/x"), variable) == Path("/x")
    assert shared_root(None, variable) == Path("/scratch/mine")
    assert shared_root(None, {"PILOT_SHARED_ROOT": ""}) == SHARED


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_elses_is_named_with_its_owner(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    shared = tmp_path / "panda"
    shared.mkdir(mode=0o755)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(shared)],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stderr.splitlines()[-1]
    assert f"{shared} belongs to root, and you may not write there" in said
    assert "--shared-root" in said


def test_no_job_is_asked_for_without_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {"PATH": str(docker.parent) + ":/bin:/usr/bin"}
    for engine in ("auto", "docker"):
        with pytest.raises(Unanswered, match=r"/dev/null/x/y: Not a directory: .*--shared-root"):
            check_shared(Path("/dev/null/x/y"), engine=engine, environment=environment)
    check_shared(Path("/dev/null/x/y"), engine="process", environment=environment)
    check_shared(Path("/dev/null/x/y"), engine="auto", environment={"PATH": str(tmp_path)})


def test_work_says_so_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with LocalPanda(tmp_path / "panda") as panda:
        folder = ["--folder", str(panda.folder)]
        assert main(["work", *folder, "--shared-root", "/dev/null/x/y"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pilot-local: /dev/null/x/y: Not a directory: give another with --shared-root")
