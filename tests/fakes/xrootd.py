"""A real XRootD server (Debian xrootd-server) in a process of its own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.serve import free_port

CONFIG = """\
xrd.port {port}
all.export /
oss.localroot {data}
all.adminpath {admin}
all.pidpath {admin}
"""


@dataclass(frozen=True)
class Xrootd:
    """A server and the folder that it serves."""

    url: str
    data: Path


@contextlib.contextmanager
def xrootd(*, checksums: bool = True, start_s: float = 20.0) -> Iterator[Xrootd]:
    """Run a server while the block lasts."""
    # Not below pytest's folder: the server drops root's rights and must get
    # there.
    folder = Path(tempfile.mkdtemp(prefix="xrd-"))
    data, admin, port = folder / "data", folder / "admin", free_port()
    data.mkdir()
    admin.mkdir()
    config = folder / "xrootd.cfg"
    text = CONFIG.format(port=port, data=data, admin=admin)
    config.write_text(text + ("xrootd.chksum max 2 adler32\n" if checksums else ""))
    command = ["xrootd", "-c", str(config), "-l", str(folder / "log")]
    if os.geteuid() == 0:
        for path in (folder, data, admin):
            shutil.chown(path, "nobody")
        command += ["-R", "nobody"]
    url = f"root://127.0.0.1:{port}"
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder) as process:
        try:
            end = time.monotonic() + start_s
            while not _answers(url):
                assert process.poll() is None, "xrootd ended"
                assert time.monotonic() < end, "xrootd does not answer"
                time.sleep(0.05)
            yield Xrootd(url, data)
        finally:
            process.kill()
            process.wait(timeout=5)
            shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    command = ["env", "XRD_CONNECTIONRETRY=1", "XRD_CONNECTIONWINDOW=2", "xrdfs", url, "ls", "/"]
    try:
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
