"""A GCS emulator (PyPI gcp-storage-emulator) in a process of its own."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

AVAILABLE = find_spec("gcp_storage_emulator") is not None
BUCKET = "drp-us-central1-logging"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def make_bucket(url: str, bucket: str = BUCKET) -> None:
    """Create a bucket; one that exists stays."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=test",
        data=json.dumps({"name": bucket}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as err:
        if err.code != 409:
            raise


@contextlib.contextmanager
def gcs_emulator(folder: Path, *, bucket: str = BUCKET, start_s: float = 20.0) -> Iterator[str]:
    """Run an emulator with one empty bucket while the block lasts.

    Parameters
    ----------
    folder
        For its log; objects are kept in memory.

    Yields
    ------
    str
        Its URL, fit for STORAGE_EMULATOR_HOST.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    command += ["--in-memory", f"--default-bucket={bucket}", "--quiet"]
    said = folder / "gcs-emulator.log"
    with (
        said.open("wb") as out,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder) as process,
    ):
        try:
            end = time.monotonic() + start_s
            while not _answers(f"{url}/storage/v1/b/{bucket}"):
                assert process.poll() is None, f"the emulator ended: {said.read_text()}"
                assert time.monotonic() < end, f"the emulator does not answer: {said.read_text()}"
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
