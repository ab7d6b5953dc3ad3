"""A job's processes and containers on this node, found without the pilot's
help.
"""

import contextlib
from pathlib import Path
from typing import Any

import docker

__all__ = ["Traces"]

#: Variable that a payload of these tests exports first of all.
VARIABLE = "TRACE_OF"


class Traces:
    """Looks for one job on the node and at its Docker daemon.

    Parameters
    ----------
    token
        A word that is in the environment or the command line of each process
        of the job, and of no other: the payload begins with `mark()`.
    shared
        The job's shared folder, which its containers mount.
    base_url
        The daemon; None for the node's own.
    """

    def __init__(self, token: str, shared: Path, *, base_url: str | None = None) -> None:
        self._token = token.encode()
        self._shared = str(shared)
        self._base_url = base_url

    def mark(self) -> str:
        """Shell text that a payload must begin with."""
        return f"export {VARIABLE}={self._token.decode()}; "

    def processes(self) -> list[str]:
        """Living processes of the job, inside containers and out: pid and
        command line.
        """
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                if self._token in line or self._token in (folder / "environ").read_bytes():
                    words = line.replace(b"\0", b" ").decode(errors="replace")
                    # A zombie has neither command line nor environment.
                    found.append(f"process {folder.name}: {words[:80]}")
        return found

    def containers(self, job: int) -> list[str]:
        """Containers of the job in any state; an absent daemon has none to
        show.
        """
        client = docker.APIClient(base_url=self._base_url, timeout=20)
        try:
            rows: list[dict[str, Any]] = client.containers(all=True)
        finally:
            client.close()
        return [f"container {row['Id'][:12]}" for row in rows if self._ours(row, job)]

    def _ours(self, row: dict[str, Any], job: int) -> bool:
        if str(job) in (row.get("Labels") or {}).values():
            return True
        sources = [str(mount.get("Source") or "") for mount in row.get("Mounts") or ()]
        return any(source == self._shared or source.startswith(f"{self._shared}/") for source in sources)
