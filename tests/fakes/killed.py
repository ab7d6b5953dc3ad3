"""A child process for tests of kill -9: it uploads a file and dies on the way.

`upload` calls this file with tool, settings, source, target and bytes.
"""

import json
import os
import signal
import subprocess
import sys
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
    arguments = [tool, json.dumps(dict(settings)), str(source), target, str(deadly)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


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
    tool.put(Path(source), target, budget=Budget(clock, 60, "upload"), progress=progress)


if __name__ == "__main__":
    main()
