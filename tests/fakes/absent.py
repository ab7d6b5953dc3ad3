"""A process in which a package is not installed."""

import subprocess
import sys
from pathlib import Path

__all__ = ["put_without"]

_SCRIPT = """
import sys
sys.modules[{package!r}] = None
from pathlib import Path
from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.errors import StorageError
from {module} import {tool}
clock = SystemClock()
try:
    {tool}(clock=clock).put(Path(__file__), {url!r}, budget=Budget(clock, 10, "upload"))
except StorageError as err:
    print(int(err.code), err.diag)
"""


def put_without(package: str, tool: type, url: str, *, folder: Path) -> str:
    """What a copy tool says that would store a file; code and diagnosis."""
    script = folder / "script.py"
    script.write_text(_SCRIPT.format(package=package, module=tool.__module__, tool=tool.__name__, url=url))
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout
