"""The smallest image for tests, made here: there may be no registry to ask."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

__all__ = ["TEST_LABEL", "busybox_image"]

#: Label that marks what tests made.
TEST_LABEL = "pilot-test"
_NAME = "pilot-test/busybox:1"


def busybox_image() -> str:
    """Name of an image with `/bin/sh` and its tools; built if the daemon has
    none.

    Its content is Debian's `busybox-static` alone. It is left with the daemon:
    4 MB that the next test run needs again, and that another one may be using.
    """
    if _docker("image", "inspect", _NAME).returncode == 0:
        return _NAME
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RuntimeError("no busybox here to make a test image of: install busybox-static")
    done = _docker(
        "import", "--change", f"LABEL {TEST_LABEL}=image", "-", _NAME, stdin=_root_tar(Path(busybox))
    )
    if done.returncode:
        raise RuntimeError(f"docker import: {done.stderr.decode(errors='replace').strip()}")
    return _NAME


def _root_tar(busybox: Path) -> bytes:
    """A root file system as a tar: busybox and a link for each of its tools."""
    tools = subprocess.run([busybox, "--list"], capture_output=True, check=True, timeout=10).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = busybox.stat().st_size, 0o755
        with busybox.open("rb") as src:
            tar.addfile(program, src)
        for tool in tools:
            if tool != b"busybox":
                link = tarfile.TarInfo(f"bin/{tool.decode()}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return out.getvalue()


def _docker(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["docker", *arguments], input=stdin, capture_output=True, timeout=60)
