"""What can be asked of the server, whatever the dialect: each call by its v1
name.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.base.files import UnsafeName, safe_join, write_atomic
from pilot_core.local.auth import Tokens
from pilot_core.local.exchange import Identity, Upload
from pilot_core.local.rows import WorkerRow
from pilot_core.local.rules import Verdict
from pilot_core.local.store import Store

__all__ = ["RESOURCE_TYPES", "Desk", "NotGiven"]

WORKER_STATES = ("started", "finished")
RESOURCE_TYPES = [
    {
        "resource_name": "Undefined",
        "mincore": 1,
        "maxcore": None,
        "minrampercore": None,
        "maxrampercore": None,
    }
]
MEGABYTE = 1024 * 1024
#: Largest file in the cache; sandboxes (`sources.*`) may be larger.
FILE_LIMIT, SANDBOX_LIMIT = 100 * MEGABYTE, 768 * MEGABYTE


class NotGiven(Exception):
    """A credential that is not handed out; the text is the server's."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The server behind its two dialects.

    Attributes
    ----------
    cache
        Folder of uploaded files, served at `/cache/`.
    token_key
        What a client must know to have its token renewed.
    """

    store: Store
    tokens: Tokens
    cache: Path
    clock: Clock
    token_key: str = "local-token-key"

    def acquire(self, args: Mapping[str, object]) -> list[Mapping[str, object]]:
        """Jobs for a pilot; none if there are none."""
        return [{"StatusCode": 0, **job} for job in self.store.acquire(args)]

    def update(self, args: Mapping[str, object], *, dialect: str) -> tuple[Verdict, dict[str, object]]:
        """A pilot's update; with the verdict, the reply's fields in their
        order.
        """
        verdict = self.store.update(args, dialect=dialect)
        reply: dict[str, object] = {"StatusCode": verdict.code}
        if verdict.code:
            if verdict.message.startswith("Failed"):
                reply["ErrorDiag"] = verdict.message
            return verdict, reply
        if "debug" in verdict.command.split(","):
            job = self.store.job(int(str(args["job_id"])))
            # The server sends them as text, not as an object.
            reply["pilotSecrets"] = str(job.definition.get("pilotSecrets") or "{}")
        reply["command"] = verdict.command
        return verdict, reply

    def worker_status(self, args: Mapping[str, object]) -> str:
        """A worker started or finished; empty, or what is wrong with its
        message.
        """
        if args.get("status") not in WORKER_STATES:
            return f"Invalid worker state. The worker state has to be in {WORKER_STATES}"
        worker_id = str(args.get("worker_id"))
        if not re.fullmatch(r"\d+", worker_id):
            return "Failed to update worker status"
        words = {name: str(args.get(name) or "") for name in ("harvester_id", "status", "node_id", "site")}
        self.store.worker(
            WorkerRow(
                self.clock.time(),
                words["harvester_id"],
                worker_id,
                words["status"],
                words["node_id"],
                words["site"],
            )
        )
        return ""

    def status_of(self, ids: Sequence[int]) -> list[dict[str, object]]:
        """Status and attempt of jobs, `not found` for those that do not exist."""
        found = []
        for panda_id in ids:
            job = self.store.find(panda_id)
            found.append(
                {
                    "job_id": panda_id,
                    "status": "not found" if job is None else job.status,
                    "attempt_number": 0 if job is None else job.attempt,
                }
            )
        return found

    def commands_of(self, ids: Sequence[int]) -> list[dict[str, object] | None]:
        """Status and pending command of jobs."""
        jobs = [self.store.find(panda_id) for panda_id in ids]
        return [
            None if job is None else {"command": job.command or None, "status": job.status} for job in jobs
        ]

    def kill(self, ids: Sequence[object], *, code: int | None, who: Identity) -> list[bool]:
        """Kill jobs; only for operators."""
        return [who.production and self.store.kill(int(str(i)), code=code, who=who.name) for i in ids]

    def access_token(self, args: Mapping[str, object], who: Identity) -> str:
        """A fresh token for a client.

        Raises
        ------
        NotGiven
        """
        client = str(args.get("client_name"))
        if client != "pilot_server":
            raise NotGiven(f"'token' not found for {client}")
        if args.get("token_key") != self.token_key:
            raise NotGiven(f"failed since token key is invalid for {client}")
        return self.tokens.issue(now=self.clock.time(), name=who.name)

    def proxy(self, who: Identity) -> str:
        """The proxy of the user, from `proxy.pem` in the server's folder.

        Raises
        ------
        NotGiven
        """
        path = self.cache.parent / "proxy.pem"
        if not path.is_file():
            raise NotGiven(f"'proxy' not found for {who.name}")
        return path.read_text()

    def upload(self, files: Sequence[Upload]) -> str:
        """Store an uploaded file; empty, or the server's complaint."""
        if not files:
            return "ERROR: no file"
        upload = files[0]
        try:
            path = safe_join(self.cache, Path(upload.filename).name)
        except UnsafeName as err:
            return f"ERROR: {err}"
        limit = SANDBOX_LIMIT if path.name.startswith("sources.") else FILE_LIMIT
        if len(upload.data) > limit:
            return (
                f"ERROR: upload failure. Exceeded size limit {len(upload.data)}>{limit} {limit // MEGABYTE}MB"
            )
        if path.exists() and not path.name.endswith("__ow__"):
            return "ERROR: cannot overwrite file"
        write_atomic(path, upload.data)
        return ""

    def job_view(self, panda_id: int) -> dict[str, object] | None:
        """A job for the console."""
        job = self.store.find(panda_id)
        if job is None:
            return None
        code, diag = job.pilot_error
        ddm_code, ddm_diag = job.ddm_error
        updates = self.store.updates(panda_id)
        # Reports name an exit code even where no payload was started: 0.
        ran = job.final == "finished" or any(update.status == "running" for update in updates)
        return {
            "id": job.panda_id,
            "name": job.name,
            "queue": job.queue,
            "state": job.status,
            "created_s": job.created_s,
            "started_s": job.started_s,
            "ended_s": job.ended_s,
            "seconds": job.seconds(self.clock.time()),
            "exit_code": job.payload_code if ran or job.exit_code else None,
            "command": job.command,
            "error_code": code or ddm_code,
            "error": diag or ddm_diag or str(job.columns.get("jobDispatcherErrorDiag") or ""),
            "log_url": job.log_url,
            "node": job.columns.get("modificationHost") or "",
            "max_rss_kb": job.columns.get("maxRSS"),
            "cpu_s": job.columns.get("cpuConsumptionTime"),
            "stdout": job.stdout,
            "updates": len(updates),
        }

    def submit_text(self, text: bytes) -> int:
        """Submit a definition in JSON; `ValueError` says what is wrong with
        it.
        """
        job = json.loads(text)
        if not isinstance(job, dict):
            raise ValueError("a job definition is a JSON object")
        return self.store.submit(job)
