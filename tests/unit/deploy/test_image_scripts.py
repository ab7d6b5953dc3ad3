"""The image's own scripts: the daemon's starter, the registry's helper, the
SBOM.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WITH_DOCKERD = ROOT / "deploy/image/with-dockerd.sh"
HELPER = ROOT / "deploy/image/docker-credential-google"
SBOM = ROOT / "scripts/images/sbom.py"

Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Puts a shell script on the PATH of the test."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return write


def with_dockerd(folder: Path, *command: str, seconds: int = 20) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "PILOT_DOCKERD_SECONDS": str(seconds),
        "PILOT_DOCKERD_LOG": str(folder / "dockerd.log"),
    }
    return subprocess.run(
        [WITH_DOCKERD, *command], env=environment, cwd=folder, capture_output=True, text=True, timeout=30
    )


def test_command_starts_once_the_daemon_answers(program: Program, tmp_path: Path) -> None:
    # Answers at the third time of asking, and not before the daemon was
    # started.
    program("docker", "echo x >>asked; [ -e up ] && [ $(wc -l <asked) -ge 3 ]")
    program("dockerd", "touch up; exec sleep 20")
    done = with_dockerd(tmp_path, "sh", "-c", "wc -l <asked; kill $(pgrep -P $$) 2>/dev/null; exit 3")
    assert (done.returncode, done.stdout.strip()) == (3, "3"), done.stderr


def test_a_daemon_that_dies_is_told_and_nothing_starts(program: Program, tmp_path: Path) -> None:
    program("dockerd", "echo no cgroups here >&2; exit 1")
    program("docker", "exit 1")
    done = with_dockerd(tmp_path, "touch", "started")
    assert done.returncode == 90
    assert "no cgroups here" in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_daemon_that_never_answers_is_given_up(program: Program, tmp_path: Path) -> None:
    program("dockerd", "echo $$ >pid; exec sleep 20")
    program("docker", "exit 1")
    done = with_dockerd(tmp_path, "touch", "started", seconds=1)
    assert done.returncode == 90
    assert "no Docker daemon after 1 s" in done.stderr
    assert not (tmp_path / "started").exists()
    pid = (tmp_path / "pid").read_text().strip()
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, "the daemon was left running"
        time.sleep(0.02)


def helper(tmp_path: Path, key: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GOOGLE_APPLICATION_CREDENTIALS": key,
        "NO_GCE_CHECK": "true",
    }
    return subprocess.run(
        [sys.executable, HELPER, "get"],
        env=environment,
        input="gcr.io\n",
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_helper_without_credentials_lets_docker_go_on(tmp_path: Path) -> None:
    """These words and no others make Docker's clients ask the registry
    anonymously.
    """
    done = helper(tmp_path, "/nowhere.json")
    assert (done.returncode, done.stdout) == (1, "credentials not found in native keychain\n")


def test_helper_with_a_broken_key_says_so(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text("{}")
    done = helper(tmp_path, str(key))
    assert done.returncode == 1
    assert done.stderr.startswith("docker-credential-google: ")
    assert done.stdout == "credentials not found in native keychain\n"


def test_sbom() -> None:
    packages = "deb libc6 2.36-9+deb12u14 amd64\ndeb git 1:2.39 amd64\npypi pyasn1_modules 0.4.2 -\n"
    done = subprocess.run(
        [sys.executable, SBOM, "pilot:1"], input=packages, capture_output=True, text=True, timeout=30
    )
    document = json.loads(done.stdout)
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "pilot:1"
    assert [component["purl"] for component in document["components"]] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64",
        "pkg:deb/debian/git@1%3A2.39?arch=amd64",
        "pkg:pypi/pyasn1-modules@0.4.2",
    ]
