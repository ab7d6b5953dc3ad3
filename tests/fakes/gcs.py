"""A GCS emulator (PyPI gcp-storage-emulator) in a process of its own."""

import contextlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tests.fakes.serve import answers, free_port, program

AVAILABLE = find_spec("gcp_storage_emulator") is not None
BUCKET = "drp-us-central1-logging"


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
def gcs_emulator(folder: Path, *, bucket: str = BUCKET) -> Iterator[str]:
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
    with program(command, folder, ready=lambda: answers(f"{url}/storage/v1/b/{bucket}")):
        yield url
