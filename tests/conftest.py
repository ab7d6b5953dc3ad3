"""What this machine can test: a missing part skips, or fails where
PILOT_TEST_REQUIRE names it.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


# Recorded data from the field is not part of this repository. Where a folder
# beside it holds some, tests find it without being told.
def _beside(pattern: str) -> str:
    found = sorted(Path(__file__).resolve().parents[2].glob(pattern))
    return str(found[0]) if found else ""


for _variable, _folder in (
    ("PILOT_SHARED_DATA", _beside("*/data/payload-log")[: -len("/payload-log")]),
    ("PILOT_RUBIN_TOY", _beside("*/rubin-toy")),
):
    if _folder:
        os.environ.setdefault(_variable, _folder)


@functools.cache
def docker_answers() -> str:
    """Why Docker cannot be used; empty if it can."""
    client = shutil.which("docker")
    if client is None:
        return "no docker client on PATH"
    try:
        done = subprocess.run([client, "info"], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "docker info did not answer in 20 s"
    return "" if done.returncode == 0 else "no Docker engine answers"


@functools.cache
def emulator_there() -> str:
    """Why the GCS emulator cannot be used; empty if it can."""
    there = importlib.util.find_spec("gcp_storage_emulator") is not None
    return "" if there else "package gcp-storage-emulator is not installed"


@functools.cache
def recipe_there() -> str:
    """Why the image of a real Rubin payload cannot be made; empty if it can."""
    folder = os.environ.get("PILOT_RUBIN_TOY", "")
    if not folder:
        return "PILOT_RUBIN_TOY names no folder with the recipe of a real Rubin payload's image"
    return "" if os.path.isdir(folder) else f"PILOT_RUBIN_TOY={folder!r} is no folder"


@functools.cache
def moto_there() -> str:
    """Why moto's S3 server cannot be used; empty if it can."""
    return "" if importlib.util.find_spec("moto") is not None else "package moto is not installed"


@functools.cache
def rucio_there() -> str:
    """Why Rucio's client library cannot be used; empty if it can."""
    return "" if importlib.util.find_spec("rucio") is not None else "package rucio-clients is not installed"


def programs(*names: str) -> Callable[[], str]:
    """A check that says which of these programs are missing."""

    def missing() -> str:
        gone = [name for name in names if shutil.which(name) is None]
        return f"no {', '.join(gone)} on PATH" if gone else ""

    return missing


@functools.cache
def gfal_runs() -> str:
    """Why the gfal programs cannot be used; empty if they can."""
    client = shutil.which("gfal-copy")
    if client is None:
        return "no gfal-copy on PATH"
    # Its scripts look for a Python that has gfal2: GFAL_PYTHONBIN names one.
    done = subprocess.run([client, "--version"], capture_output=True, timeout=20, check=False)
    return "" if done.returncode == 0 else "gfal-copy finds no Python with gfal2 (GFAL_PYTHONBIN)"


PARTS = {
    "docker": docker_answers,
    "gcs": emulator_there,
    "gfal": gfal_runs,
    "rubin": recipe_there,
    "rucio": rucio_there,
    "s3": moto_there,
    "xrootd": programs("xrootd", "xrdcp", "xrdfs"),
}
REQUIRED = {part for part in os.environ.get("PILOT_TEST_REQUIRE", "").split(",") if part}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose part is missing, or fail it where the part is
    required.
    """
    for part, missing in PARTS.items():
        if item.get_closest_marker(part) is None:
            continue
        why = missing()
        if why and part in REQUIRED:
            pytest.fail(f"{part} is required here: {why}", pytrace=False)
        if why:
            pytest.skip(why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out and why."""
    left_out: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        left_out[why] = left_out.get(why, 0) + 1
    terminalreporter.section("left out")
    for why, count in sorted(left_out.items()):
        terminalreporter.write_line(f"{count} tests: {why.removeprefix('Skipped: ')}")
    if not left_out:
        terminalreporter.write_line("nothing")


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """A test that leaves a thread of ours running fails."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.is_alive() and not t.daemon]
    assert not left, f"threads left behind: {left}"
