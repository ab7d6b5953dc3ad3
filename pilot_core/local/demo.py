"""PURE: the four jobs that show what the pilot does, and how each should end."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilot_core.local.definition import make
from pilot_core.local.shared import SHARED

__all__ = ["DemoJob", "demo_jobs"]

WORK_S = 20
LINES = 20_000
LOG = "payload-log.json"


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job and what should become of it.

    Attributes
    ----------
    title
        For humans.
    state, exit_code
        As it should end; None where any exit code will do.
    records, exact
        Log records that should arrive: just so many, or at least.
    cancel
        To be cancelled once it runs.
    """

    title: str
    definition: Mapping[str, object]
    state: str
    exit_code: int | None
    records: int
    exact: bool = True
    cancel: bool = False

    def complaint(self, *, state: str, exit_code: int | None, records: int) -> str:
        """What is not as it should be; empty if nothing is."""
        if state != self.state:
            return f"ended as {state}, not {self.state}"
        if self.exit_code is not None and exit_code != self.exit_code:
            return f"exit code {exit_code}, not {self.exit_code}"
        if records != self.records if self.exact else records < self.records:
            return f"{records} log records, not {'' if self.exact else 'at least '}{self.records}"
        return ""


def demo_jobs(url: str, *, image: str = "", shared: Path = SHARED, queue: str = "LOCAL") -> Sequence[DemoJob]:
    """The jobs.

    Parameters
    ----------
    url
        The local server, which serves the transformations.
    image
        Container image to use; empty to run everything as a plain process.
        With it, two jobs are started in the image by the pilot, and two start
        a container themselves, as Rubin's jobs do.
    shared
        Folder that has the same path in containers.
    """

    def job(name: str, arguments: str, *, own_container: bool) -> Mapping[str, object]:
        common: dict[str, Any] = {"queue": queue, "name": f"demo_{name}", "task_id": 4711, "request_id": 42}
        if not image:
            return make(transformation=f"{url}/trf/demo", parameters=arguments, **common)
        if own_container:
            runner = f"{shlex.quote(str(shared))} {image} demo {arguments}"
            return make(transformation=f"{url}/trf/demo-runner", parameters=runner, **common)
        return make(image=image, parameters=f"exec demo {arguments}", **common)

    return (
        DemoJob(
            f"works for {WORK_S} s",
            job("work", f"work {WORK_S}", own_container=True),
            "finished",
            0,
            2 * WORK_S + 1,
        ),
        DemoJob("fails with exit code 3", job("fail", "fail", own_container=False), "failed", 3, 2),
        DemoJob(
            "is cancelled while it runs",
            job("wait", "wait 120", own_container=True),
            "cancelled",
            None,
            1,
            exact=False,
            cancel=True,
        ),
        DemoJob(
            f"writes {LINES} lines", job("lines", f"lines {LINES}", own_container=False), "finished", 0, LINES
        ),
    )
