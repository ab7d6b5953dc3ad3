"""The Rubin middleware and a repository to run on: in an image, or in a venv."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs import Payload

from pilot_core.local.client import Unanswered
from pilot_core.local.image import DockerCli, ImageProblem
from pilot_core.local.shared import SHARED, make_shared

__all__ = ["NoStack", "make_payload"]

IMAGE = "rubin-example:local"

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent

# A download of 120 MB, a venv, a debootstrap: minutes, on a slow line more.
INSTALL_S = 1_800.0
PREPARE_S = 300.0

Say = Callable[[str], None]


class NoStack(Exception):
    """Software or data of the payload could not be made; says why."""


def make_payload(folder: Path, *, cache: Path, engine: str, say: Say) -> Payload:
    """Everything the jobs need, before there are jobs.

    Parameters
    ----------
    folder
        Of this run; the repository is made in `folder/data`.
    cache
        What is kept for the next run: wheels and venv.
    engine
        `docker`, `process`, or `auto`: Docker if it can be used.

    Raises
    ------
    NoStack
    """
    data = folder / "data"
    data.mkdir(parents=True)
    # The container's user is not who runs this.
    data.chmod(0o777)
    if engine != "process":
        try:
            _need_image(data, cache=cache, say=say)
        except (ImageProblem, NoStack, Unanswered) as err:
            if engine == "docker":
                raise NoStack(str(err)) from err
            say(f"payload   as processes: {err}")
        else:
            return _in_image(data)
    return _in_venv(data, cache=cache, say=say)


def _need_image(data: Path, *, cache: Path, say: Say) -> None:
    """Build the image, unless it is there; make sure its containers see our
    files.
    """
    docker = DockerCli(os.environ)
    version = docker.version()
    say(f"payload   in containers: Docker {version}, image {IMAGE} (building it takes 1 to 2 min)")
    log = data.parent / "image.log"
    _run([str(CHECKOUT / "scripts/images/rubin.sh"), "--wheels", str(cache / "wheels")], log, INSTALL_S)
    # The runner mounts it; the engine must see the same files there as we do.
    make_shared(SHARED)
    for mounted in (SHARED, data):
        docker.check_mount(IMAGE, mounted)


def _in_image(data: Path) -> Payload:
    container = ["docker", "run", "--rm", "-i", "-v", f"{data}:{data}", IMAGE]
    log = data.parent / "prepare.log"
    _run([*container, "bash", "-s", str(data)], log, PREPARE_S, script=HERE / "prepare.sh")
    return Payload(data, image=IMAGE)


def _in_venv(data: Path, *, cache: Path, say: Say) -> Payload:
    venv = cache / "rubin" / "venv"
    _install(venv, data.parent / "venv.log", wheels=cache / "wheels" / "example", say=say)
    path = f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    _run([str(HERE / "prepare.sh"), str(data)], data.parent / "prepare.log", PREPARE_S, path=path)
    return Payload(data, venv=venv)


def _install(venv: Path, log: Path, *, wheels: Path, say: Say) -> None:
    """Make the venv unless it holds just this; uses `wheels` made earlier."""
    requirements, package = HERE / "requirements.txt", HERE / "package"
    content = hashlib.sha256()
    for path in [requirements, *sorted(package.rglob("*.py")), *sorted(package.rglob("*.[ty]*ml"))]:
        content.update(path.read_bytes())
    stamp = venv / "installed"
    if stamp.is_file() and stamp.read_text() == content.hexdigest():
        say(f"payload   venv {venv}")
        return
    say(f"payload   venv {venv} (installing takes 1 to 2 min)")
    _run([sys.executable, "-m", "venv", str(venv)], log, INSTALL_S)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    links = ["--find-links", str(wheels)] if wheels.is_dir() else []
    _run([*pip, *links, "-r", str(requirements)], log, INSTALL_S)
    with tempfile.TemporaryDirectory() as scratch:
        # pip builds a package where it lies: a copy keeps the checkout clean.
        copy = shutil.copytree(package, Path(scratch) / "package")
        _run([*pip, "--no-deps", "--force-reinstall", str(copy)], log, INSTALL_S)
    stamp.write_text(content.hexdigest())


def _run(
    argv: Sequence[str], log: Path, timeout_s: float, *, script: Path | None = None, path: str | None = None
) -> None:
    """Run a command, its output into `log`, the file `script` as its input."""
    environment = {**os.environ, **({"PATH": path} if path else {})}
    with log.open("ab") as out, contextlib.ExitStack() as stack:
        stdin = stack.enter_context(script.open("rb")) if script else subprocess.DEVNULL
        try:
            done = subprocess.run(
                argv, stdin=stdin, stdout=out, stderr=out, env=environment, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as err:
            raise NoStack(f"{Path(argv[0]).name} took more than {timeout_s:.0f} s, see {log}") from err
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise NoStack(f"{Path(argv[0]).name} failed: {' '.join(last)} (see {log})")
