"""Sizes of the payload's stdout and stderr."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["OutputMonitor"]


class OutputMonitor:
    """Two stat calls a look. Rubin's output is in stderr, so both count.

    Parameters
    ----------
    stdout, stderr
        Files that receive the payload's output.
    """

    name = "output"

    def __init__(self, stdout: Path, stderr: Path) -> None:
        self._files = {"stdout_bytes": stdout, "stderr_bytes": stderr}

    def measure(self, now: float) -> Mapping[str, float | int | str]:  # noqa: ARG002 - the contract's
        found: dict[str, float | int | str] = {}
        for field, path in self._files.items():
            try:
                found[field] = path.stat().st_size
            except OSError:
                continue  # not there yet, or no longer
        return found
