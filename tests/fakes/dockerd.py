"""A Docker daemon of a test's own, which may be restarted without harm to
anybody.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.patience import stated

__all__ = ["NoDaemon", "OwnDaemon", "own_daemon"]


class NoDaemon(Exception):
    """A second daemon cannot run here; says why."""


class OwnDaemon:
    """`dockerd` with socket, storage and state of its own, and no network.

    Parameters
    ----------
    folder
        For all of it; short, since a socket's path may have 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'docker.sock'}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # A network namespace of its own: a daemon without a bridge
                    # deletes the one of its namespace, which is the node's.
                    *("unshare", "--net", "dockerd"),
                    *("--host", self.url, "--pidfile", str(self._folder / "pid")),
                    *("--data-root", str(self._folder / "data"), "--exec-root", str(self._folder / "exec")),
                    *("--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"),
                    # Its storage lies on whatever the tests' folder is on.
                    *("--storage-driver", "vfs", "--cgroup-parent", "/pilot-test"),
                    *("--shutdown-timeout", "2"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end, pause = time.monotonic() + stated(30), threading.Event()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                last = (self._folder / "log").read_text(errors="replace").splitlines()[-1:]
                self.stop()
                raise NoDaemon(f"a second dockerd does not start here: {' '.join(last)}")
            pause.wait(0.1)

    def stop(self) -> None:
        """As `systemctl stop docker` does: SIGTERM, upon which it stops its
        containers.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(stated(30))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def load(self, image: str) -> None:
        """Copy an image from the node's own daemon."""
        packed = subprocess.run(["docker", "save", image], capture_output=True, timeout=60, check=True)
        done = self._ask("load", stdin=packed.stdout)
        if done.returncode:
            raise NoDaemon(f"docker load: {done.stderr.decode(errors='replace').strip()}")

    def _answers(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._ask("version").returncode == 0
        return False

    def _ask(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": self.url}
        return subprocess.run(
            ["docker", *arguments], env=environment, input=stdin, capture_output=True, timeout=60, check=False
        )


@contextlib.contextmanager
def own_daemon() -> Iterator[OwnDaemon]:
    """A running daemon; raises NoDaemon if there can be none."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "unshare"))):
        raise NoDaemon("a second dockerd needs root and the programs dockerd and unshare")
    folder = Path(tempfile.mkdtemp(prefix="pilot-dockerd-"))
    daemon = OwnDaemon(folder)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        # The network namespace is pinned there, by a mount for each start.
        pinned = ["umount", "--lazy", str(folder / "exec" / "netns" / "default")]
        while subprocess.run(pinned, capture_output=True, timeout=10, check=False).returncode == 0:
            pass
        shutil.rmtree(folder, ignore_errors=True)
