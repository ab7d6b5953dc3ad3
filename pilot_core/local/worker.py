"""A worker as Harvester would start it: environment, configuration, the
starter.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.base.procs import group_members, signal_group
from pilot_core.local.shared import SHARED

__all__ = ["Worker", "WorkerPlan", "config_text", "worker_environment"]

#: What a worker may know of the environment it is started from.
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "USER",
    "LOGNAME",
    "TZ",
    "VIRTUAL_ENV",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LD_LIBRARY_PATH",
)


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One worker.

    Attributes
    ----------
    url
        PanDA server.
    folder
        Everything of the worker is below it.
    heartbeat_s
        Between updates: a cancelled job learns of it in a reply.
    jobs
        The pilot ends after so many.
    shared
        Folder that has the same path for containers and for the pilot.
    environment
        The caller's own; only `INHERITED` of it is passed on.
    """

    url: str
    folder: Path
    queue: str = "LOCAL"
    engine: str = "auto"
    worker_id: int = 1
    heartbeat_s: int = 2
    jobs: int = 0
    logfiles: str = "payload-log.json"
    shared: Path = SHARED
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def records(self) -> Path:
        """Where the real-time log goes, one JSON record a line."""
        return self.folder / "records.jsonl"

    @property
    def output(self) -> Path:
        """What starter, wrapper and pilot say."""
        return self.folder / "worker.log"


def config_text(plan: WorkerPlan) -> str:
    """INI file for the pilot, keys as in pilot3's `default.cfg`."""
    return f"[Pilot]\nheartbeat: {plan.heartbeat_s}\ndebug_heartbeat: {plan.heartbeat_s}\n"


def worker_environment(plan: WorkerPlan) -> dict[str, str]:
    """Environment of the starter: what Harvester sets, and what Rubin's pod
    adds.
    """
    temporary = str(plan.folder / "tmp")
    # The packages beside this one, installed or not.
    path = [str(Path(__file__).resolve().parents[2]), plan.environment.get("PYTHONPATH", "")]
    options = ["--realtime-interval", "0.5"]
    if plan.jobs:
        options += ["--max-jobs", str(plan.jobs)]
    return {
        **{name: plan.environment[name] for name in INHERITED if plan.environment.get(name)},
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        # Harvester's
        "computingSite": plan.queue,
        "pandaQueueName": plan.queue,
        "resourceType": "SCORE",
        "prodSourceLabel": "managed",
        "jobType": "managed",
        "pilotType": "PR",
        "submit_mode": "PULL",
        "HARVESTER_ID": "local",
        "workerID": str(plan.worker_id),
        "HARVESTER_WORKER_ID": str(plan.worker_id),
        "PANDA_JSID": "harvester-local",
        "logs_frontend_w": f"{plan.url}/api/v1/file_server",
        "logs_frontend_r": f"{plan.url}/cache",
        "TMPDIR": temporary,
        # Rubin's pod
        "USE_REALTIME_LOGGING": "yes",
        "REALTIME_LOGGING_SERVER": f"file;{plan.records}",
        "REALTIME_LOGNAME": "Panda-RubinLog",
        "REALTIME_LOGFILES": plan.logfiles,
        "PILOT_NOKILL": "True",
        "WORKERLOG_LOGGING_SERVER": f"file;{plan.folder / 'worker-records.jsonl'}",
        # ours
        "PILOT_SOURCE": "image",
        "PILOT_WORKER_LOG": str(plan.folder / "wrapper-wid.log"),
        "PILOT_TERMINATION_LOG": str(plan.folder / "termination-log"),
        "PANDA_SERVER_URL": plan.url,
        "PANDA_BASE_URLS": f"{plan.url}/trf",
        "PILOT_CRIC_URL": plan.url,
        "PILOT_ENGINE": plan.engine,
        "PILOT_SHARED_ROOT": str(plan.shared),
        "PILOT_EXTRA_OPTIONS": " ".join(options),
        "HARVESTER_PILOT_CONFIG": str(plan.folder / "pilot.cfg"),
    }


class Worker:
    """The starter and everything below it, in a process group of its own."""

    def __init__(self, plan: WorkerPlan, *, command: Sequence[str] | None = None) -> None:
        self.plan = plan
        self._command = list(command or [sys.executable, "-m", "pilot_starter"])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the configuration and start."""
        (self.plan.folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self.plan.folder / "pilot.cfg").write_text(config_text(self.plan))
        with self.plan.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.plan.folder,
                env=worker_environment(self.plan),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self, grace_s: float = 20.0) -> int | None:
        """Ask it to end as Kubernetes does, then kill all of it; the exit
        code.
        """
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                signal_group(process.pid, signal.SIGKILL)
                process.wait(5.0)
        if group_members(process.pid):
            signal_group(process.pid, signal.SIGKILL)
        return process.returncode
