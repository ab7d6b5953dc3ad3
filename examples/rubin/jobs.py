"""PURE: quanta in, job definitions out, as BPS and its PanDA plug-in make
them.

::

    quanta -> pipetask command -> runner (docker run, or a process)
           -> base64 -> jobPars

A job is one task's quanta; whoever submits the next job waits for the one
before it.
"""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOG_FILE", "Payload", "Quantum", "Step", "definition", "payload_command", "plan", "read_quanta"]

LOG_FILE = "payload-log.json"
"""REALTIME_LOGFILES: `pipetask` writes its records there, the pilot reads
them.
"""
DARK_EXPOSURE = 20260115002
"""Has no stars, so measureSeeing fails on it: see lsst.labcam.observe."""

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Quantum:
    """One execution of one task: its unit of work in the graph."""

    task: str
    exposure: int
    detector: int
    id: str


@dataclass(frozen=True, slots=True)
class Payload:
    """Where jobs run.

    Attributes
    ----------
    data
        Folder with `repo/` and `labcam.qg`; the same path for everybody.
    image
        Container image; empty to run as a process.
    venv
        Environment with `pipetask` where there is no image.
    """

    data: Path
    image: str = ""
    venv: Path | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One job: its quanta (none: it writes what tasks share), and how it must
    end.
    """

    name: str
    quanta: tuple[Quantum, ...]
    exit_code: int = 0

    @property
    def state(self) -> str:
        """The job's final state."""
        return "failed" if self.exit_code else "finished"


def read_quanta(text: str) -> list[Quantum]:
    """The lines of `quanta.jsonl`."""
    return [Quantum(**json.loads(line)) for line in text.splitlines()]


def plan(quanta: Sequence[Quantum]) -> list[Step]:
    """The jobs in the order of the pipeline; the last one is there to fail."""
    steps = [Step("initialise", ())]
    for task in ("subtractBias", "findStars", "measureSeeing"):
        mine = [quantum for quantum in quanta if quantum.task == task]
        if task != "measureSeeing":
            steps.append(Step(task, tuple(mine)))
            continue
        steps.append(Step(task, tuple(q for q in mine if q.exposure != DARK_EXPOSURE)))
        # pipetask exits with 1 when a quantum failed.
        steps.append(Step(f"{task}-dark", tuple(q for q in mine if q.exposure == DARK_EXPOSURE), exit_code=1))
    return steps


def payload_command(payload: Payload, step: Step) -> str:
    """What runs in the container, or in the job directory: `pipetask` under
    `prmon`.
    """
    repo, graph = payload.data / "repo", payload.data / "labcam.qg"
    options = ["--long-log", "--log-level=VERBOSE", "--log-file", LOG_FILE, "--log-label", f"REPO={repo}"]
    if step.quanta:
        verb = ["run-qbb", str(repo), str(graph), "--qgraph-node-id", ",".join(q.id for q in step.quanta)]
    else:
        verb = ["pre-exec-init-qbb", str(repo), str(graph)]
    # The log file is mounted into the container's /tmp. What a job adds to the
    # repository stays open to all: its user is not who will want to remove it.
    where = "umask 000; cd /tmp; " if payload.image else ""
    watch = "prmon -i 1 -f ${logDir}/prmon.txt -j ${logDir}/prmon.json -- "
    return f"{where}ls -al; {watch}{shlex.join(['pipetask', *options, *verb])}"


def runner(payload: Payload, step: Step) -> str:
    """The script that the transformation decodes and runs."""
    name = "runner-docker.sh" if payload.image else "runner-process.sh"
    values = {
        "@IMAGE@": shlex.quote(payload.image),
        "@DATA@": shlex.quote(str(payload.data)),
        "@VENV@": shlex.quote(str(payload.venv)),
        "@COMMAND@": shlex.quote(payload_command(payload, step)),
    }
    lines = (_HERE / name).read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    for place, value in values.items():
        text = text.replace(place, value)
    return text


def definition(
    payload: Payload, step: Step, *, panda_id: int, transformations: str, task_id: int
) -> Mapping[str, object]:
    """What is submitted to the PanDA server; the rest of a job's fields it
    fills in.

    Parameters
    ----------
    panda_id
        A number nobody else on this node has: the shared folder is named by
        it.
    transformations
        Base URL that serves `bash-c-enc`.
    """
    return {
        "PandaID": panda_id,
        "jobName": f"labcam_{step.name}",
        "taskID": task_id,
        "transformation": f"{transformations.rstrip('/')}/bash-c-enc",
        "jobPars": base64.b64encode(runner(payload, step).encode()).decode(),
        "prodUserID": "LabCam",
        "minRamCount": 2048,
        "coreCount": 1,
        "resource_type": "SCORE",
    }
