"""A child process for tests of kill -9: it uploads a file and dies on the way.

`upload` and `upload_for` call this file with tool, settings, source, target and
bytes.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.storage.contract import CopyTool
from pilot_core.storage.gcs import GcsTool
from pilot_core.storage.https import HttpsTool
from pilot_core.storage.local import LocalTool
from pilot_core.storage.s3 import S3Tool
from pilot_core.storage.xrdcp import XrdcpTool

_ROOT = Path(__file__).resolve().parents[2]

TOOLS: dict[str, type[CopyTool]] = {
    "gs": GcsTool,
    "https": HttpsTool,
    "local": LocalTool,
    "s3": S3Tool,
    "xrdcp": XrdcpTool,
}


def upload(
    tool: str, settings: Mapping[str, str], source: Path, target: str, deadly: int
) -> "subprocess.CompletedProcess[str]":
    """Upload in a child that kills itself when `deadly` bytes have been read."""
    return subprocess.run(
        _command(tool, settings, source, target, deadly),
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def upload_for(tool: str, settings: Mapping[str, str], source: Path, target: str, seconds: float) -> float:
    """Upload in a child that is killed after so many seconds of it.

    Returns
    -------
    float
        How long the upload lived; less than `seconds` if it came to its end.
    """
    with subprocess.Popen(
        _command(tool, settings, source, target, 1 << 60),
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        # Everything is imported: from here on it uploads.
        assert child.stdout.read(1) == b"."
        started = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        lived = time.monotonic() - started
        child.kill()
    return lived


def _command(tool: str, settings: Mapping[str, str], source: Path, target: str, deadly: int) -> list[str]:
    arguments = [tool, json.dumps(dict(settings)), str(source), target, str(deadly)]
    return [sys.executable, __file__, *arguments]


def main() -> None:
    name, settings, source, target, deadly = sys.argv[1:]

    def progress(done: int, total: int) -> None:
        if done >= int(deadly):
            os.kill(os.getpid(), signal.SIGKILL)

    options = json.loads(settings)
    if "ca" in options:
        options["ca"] = Path(options["ca"])
    clock = SystemClock()
    tool = TOOLS[name](clock=clock, **options)
    # What the tool imports on first use.
    tool.public_url(target)
    if name in ("gs", "s3"):
        importlib.import_module(f"pilot_core.storage.{'gcs' if name == 'gs' else 's3'}_client")
    sys.stdout.write(".")
    sys.stdout.flush()
    tool.put(Path(source), target, budget=Budget(clock, 60, "upload"), progress=progress)


if __name__ == "__main__":
    main()
