"""The pilot's images, built from this tree once for all tests that run them."""

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PILOT", "PILOT_USER", "pilot_images"]

ROOT = Path(__file__).resolve().parents[2]
#: As on a pod with the node's socket; and the same without root. Tags of
#: tests: another checkout on this machine may use them, too.
PILOT, PILOT_USER = "pilot-test/pilot:1", "pilot-test/pilot:user"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SOURCES = ("Dockerfile", "setup.cfg", "deploy/image", "scripts/images")
_PACKAGES = ("container", "pilot_core", "pilot_starter")


def pilot_images() -> None:
    """Build both, unless the last ones that were built here are of this tree.

    Docker's cache knows what has not changed, but the wheels would be made
    anew.
    """
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with (build / "test-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wanted = build / "test-images", _fingerprint()
        if stamp.exists() and stamp.read_text() == f"{wanted} {_ids()}":
            return
        _run(str(ROOT / "scripts/images/pilot.sh"), PILOT)
        _run(
            *("docker", "build", "--network=host", "--target=pilot", "--build-arg=USER=10001"),
            *(f"--tag={PILOT_USER}", str(ROOT)),
        )
        stamp.write_text(f"{wanted} {_ids()}")


def _run(*command: str) -> None:
    environment = {"PATH": _PATH, "PIP": f"{sys.prefix}/bin/pip"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def _ids() -> str:
    """What the daemon has under these names now."""
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", PILOT, PILOT_USER]
    return " ".join(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.split())


def _files() -> Iterator[Path]:
    for name in (*_SOURCES, *_PACKAGES):
        place = ROOT / name
        yield from sorted(place.rglob("*")) if place.is_dir() else [place]


def _fingerprint() -> str:
    """Of all that goes into the image, apart from its base."""
    digest = hashlib.sha256()
    for path in _files():
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode:o} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
