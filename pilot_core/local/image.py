"""A container image of a few programs of this machine, in case no registry is
near.
"""

import io
import re
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["DockerCli", "ImageProblem"]

#: What the demonstration payloads call; the first two are looked for as
#: shells.
PROGRAMS = ("sh", "bash", "cat", "date", "env", "ls", "mkdir", "printf", "sed", "sleep", "test", "touch")
NAME = "panda-pilot-demo"
LABEL = "org.panda.local=demo"


class ImageProblem(Exception):
    """Docker is not there, does not answer, or does not see this machine's
    files.
    """


class DockerCli:
    """The `docker` command, for as long as a demonstration takes.

    Parameters
    ----------
    environment
        Passed on to it: PATH, DOCKER_HOST and the like.
    timeout_s
        Longest single command.
    """

    def __init__(self, environment: Mapping[str, str], *, timeout_s: float = 60.0) -> None:
        self._environment = dict(environment)
        self._timeout_s = timeout_s
        self._program = shutil.which("docker", path=self._environment.get("PATH"))

    def version(self) -> str:
        """Version of the engine.

        Raises
        ------
        ImageProblem
            Saying why it cannot be used.
        """
        return self._run(["version", "--format", "{{.Server.Version}}"], timeout_s=15.0).strip()

    def import_image(self, scripts: Sequence[Path]) -> str:
        """Make an image with `PROGRAMS` and `scripts` in `/bin`; returns its
        name.
        """
        # A name of its own: whoever makes an image may remove it.
        name = f"{NAME}:{uuid.uuid4().hex[:12]}"
        self._run(["import", "--change", f"LABEL {LABEL}", "-", name], stdin=_tar(scripts))
        return name

    def remove_image(self, name: str) -> None:
        """Remove the image again; harmless while somebody else uses it."""
        try:
            self._run(["image", "rm", name])
        except ImageProblem:
            return

    def check_mount(self, image: str, folder: Path) -> None:
        """Make sure that the engine sees the same files under `folder` as we
        do.

        Raises
        ------
        ImageProblem
            If it runs on another machine, or in front of another file system.
        """
        probe = folder / f".probe-{uuid.uuid4().hex[:12]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
        except OSError as err:
            raise ImageProblem(f"{folder}: {err.strerror}") from err
        mount = f"{folder}:{folder}"
        try:
            self._run(["run", "--rm", "--label", LABEL, "-v", mount, image, "test", "-f", str(probe)])
        except ImageProblem as err:
            raise ImageProblem(f"a container does not see the files of {folder}: {err}") from err
        finally:
            probe.unlink()

    def _run(self, arguments: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None) -> str:
        if self._program is None:
            raise ImageProblem("there is no docker command")
        try:
            done = subprocess.run(
                [self._program, *arguments],
                input=stdin,
                capture_output=True,
                timeout=timeout_s or self._timeout_s,
                env=self._environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ImageProblem(f"docker {arguments[0]} did not answer") from None
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise ImageProblem(words.splitlines()[-1])
        return done.stdout.decode(errors="replace")


def _tar(scripts: Sequence[Path]) -> bytes:
    """A root file system as a tar archive, the same bytes for the same
    programs.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("tmp", "bin"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for target, source in sorted(_files(scripts).items()):
            data = source.read_bytes()
            entry = tarfile.TarInfo(target.lstrip("/"))
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _files(scripts: Sequence[Path]) -> dict[str, Path]:
    """Files of the image: path inside, path here."""
    found = {f"/bin/{script.name}": script for script in scripts}
    for name in PROGRAMS:
        program = shutil.which(name)
        if program is None:
            continue
        found[f"/bin/{name}"] = Path(program).resolve()
        found |= {library: Path(library).resolve() for library in _libraries(program)}
    return found


def _libraries(program: str) -> Iterator[str]:
    """Shared libraries of a program, loader included; none if it is static."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=30, check=False)
    for line in listed.stdout.splitlines():
        match = re.search(r"(?:=>\s*)?(/\S+)\s+\(0x", line)
        if match:
            yield match.group(1)
