"""A kubelet for `kube_api.py`: runs a pod's container as a local process group
and tells of it the way a real one does.

Images that the node cannot have are known by their name:

=================  ===========================================================
127.0.0.1:9/...    the registry has no such image
flaky/...          the registry does not answer at the first attempt
never/...          the registry never answers
=================  ===========================================================

Paths are not mapped: a mount must have the same path in the pod and here.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["RunningPod", "expand", "rfc3339"]

Pod = dict[str, Any]
#: Told of each change of a pod's status.
Update = Callable[[dict[str, Any]], None]

BACK_OFF_S = 0.2


def rfc3339(nanoseconds: int) -> str:
    """As a kubelet stamps lines: UTC with nine digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09d}Z"


def expand(text: str, variables: dict[str, str]) -> str:
    """Kubernetes' expansion (third_party/forked/golang/expansion): `$$` is
    `$`, `$(NAME)` a variable's value if there is one.
    """
    out, at = "", 0
    while at < len(text):
        if text.startswith("$$", at):
            out, at = out + "$", at + 2
        elif text.startswith("$(", at) and ")" in text[at:]:
            name = text[at + 2 : text.index(")", at)]
            out += variables.get(name, f"$({name})")
            at += len(name) + 3
        else:
            out, at = out + text[at], at + 1
    return out


class RunningPod:
    """One pod on the node, from the pull of its image to its end.

    Parameters
    ----------
    update
        Takes the new status.
    ended
        Called once nothing of it runs.
    cgroup_root
        Where to leave the files that a kernel would have for it.
    """

    def __init__(self, pod: Pod, *, update: Update, ended: Callable[[], None], cgroup_root: Path) -> None:
        self._container = pod["spec"]["containers"][0]
        self._uid = pod["metadata"]["uid"]
        self._deadline_s = pod["spec"].get("activeDeadlineSeconds")
        self._update = update
        self._ended = ended
        self._cgroup_root = cgroup_root
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._reason = ""
        self._pod_reason: dict[str, str] = {}
        self._dies_at: float | None = None
        self.lines: list[bytes] = []
        self.changed = threading.Condition()
        self.over = False
        threading.Thread(target=self._live, daemon=True).start()

    # --- what a test, or the API server, does to it --------------------------

    def stop(self, grace_s: float) -> None:
        """SIGTERM to its first process, SIGKILL to all after the grace."""
        first = not self._stopped.is_set()
        self._stopped.set()
        at = time.monotonic() + grace_s
        self._dies_at = at if self._dies_at is None else min(at, self._dies_at)
        if self._process is not None and first:
            self._signal(signal.SIGTERM)

    def kill(self, why: str = "", **pod_status: str) -> None:
        """SIGKILL to all of it; `why` is the container's reason, the rest the
        pod's status.
        """
        self._reason, self._pod_reason = why, pod_status
        self._stopped.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            send = os.killpg if number == signal.SIGKILL else os.kill
            send(process.pid, number)

    # --- its life -----------------------------------------------------------

    def _live(self) -> None:
        try:
            if self._pulled() and self._started():
                self._run()
            elif self._stopped.is_set():
                self._update({"phase": "Failed"})
        finally:
            with self.changed:
                self.over = True
                self.changed.notify_all()
            self._ended()

    def _pulled(self) -> bool:
        image = self._container["image"]
        tries = {"127.0.0.1:9": 1 << 30, "never": 1 << 30, "flaky": 1}.get(image.split("/")[0], 0)
        self._wait("ContainerCreating", "")
        for _ in range(tries):
            why = "not found" if image.startswith("127.0.0.1:9") else "dial tcp: i/o timeout"
            self._wait("ErrImagePull", f'failed to pull and unpack image "{image}": {why}')
            if self._stopped.wait(BACK_OFF_S):
                return False
            self._wait("ImagePullBackOff", f'Back-off pulling image "{image}"')
            if self._stopped.wait(BACK_OFF_S):
                return False
        return not self._stopped.is_set()

    def _wait(self, reason: str, message: str) -> None:
        self._update(self._status("Pending", {"waiting": {"reason": reason, "message": message}}))

    def _status(self, phase: str, state: dict[str, Any], **more: str) -> dict[str, Any]:
        status: dict[str, Any] = {"name": self._container["name"], "state": state}
        if "waiting" not in state:
            status["containerID"] = f"containerd://{self._id}"
        return {"phase": phase, "containerStatuses": [status], "qosClass": "Burstable", **more}

    @property
    def _id(self) -> str:
        return (self._uid.replace("-", "") * 2)[:64]

    def _started(self) -> bool:
        variables: dict[str, str] = {}
        for row in self._container.get("env") or ():
            variables[row["name"]] = expand(row.get("value", ""), variables)
        command = [expand(word, variables) for word in self._container.get("args") or ()]
        try:
            self._process = subprocess.Popen(
                command,
                env=variables,
                cwd=self._container.get("workingDir") or "/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as err:
            message = f'failed to create containerd task: exec: "{command[0]}": {err.strerror}'
            state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": message}}
            self._update(self._status("Failed", state))
            return False
        self._make_cgroup()
        self._update(self._status("Running", {"running": {"startedAt": rfc3339(time.time_ns())}}))
        if self._stopped.is_set():
            self._signal(signal.SIGTERM)
        return True

    def _run(self) -> None:
        process = self._process
        assert process is not None
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        deadline = time.monotonic() + self._deadline_s if self._deadline_s else float("inf")
        while process.poll() is None:
            if time.monotonic() > min(deadline, self._dies_at or float("inf")):
                if time.monotonic() > deadline:
                    message = "Pod was active on the node longer than the specified deadline"
                    self._pod_reason = {"reason": "DeadlineExceeded", "message": message}
                self._signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join(5)
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        reason = self._reason or ("Completed" if code == 0 else "Error")
        self._drop_cgroup()
        state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": rfc3339(time.time_ns())}}
        with self.changed:
            self.over = True
            self.changed.notify_all()
        self._update(self._status("Failed" if code else "Succeeded", state, **self._pod_reason))

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                # The runtime ends a last line that has no end.
                content = line if line.endswith(b"\n") else line + b"\n"
                with self.changed:
                    self.lines.append(rfc3339(time.time_ns()).encode() + b" " + content)
                    self.changed.notify_all()

    # --- what the kernel would show -----------------------------------------

    @property
    def _cgroup(self) -> Path:
        pod = f"kubepods-burstable-pod{self._uid.replace('-', '_')}.slice"
        return (
            self._cgroup_root
            / f"kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{self._id}.scope"
        )

    def _make_cgroup(self) -> None:
        self._cgroup.mkdir(parents=True)
        (self._cgroup_root / "cgroup.controllers").touch()
        for name, text in {
            "cpu.stat": "usage_usec 1500000\n",
            "memory.stat": "anon 4096000\nfile 1000\n",
            "cgroup.procs": "0\n0\n",
        }.items():
            (self._cgroup / name).write_text(text)

    def _drop_cgroup(self) -> None:
        for path in self._cgroup.iterdir():
            path.unlink()
        self._cgroup.rmdir()
