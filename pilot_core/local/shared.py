"""The folder that the pilot and its containers see under the same path."""

import contextlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from pilot_core.local.client import Unanswered
from pilot_core.local.image import DockerCli, ImageProblem

__all__ = ["SHARED", "check_shared", "make_shared", "shared_root"]

#: Rubin's runner mounts this folder under the same name everywhere.
SHARED = Path("/tmp/panda")


def shared_root(given: Path | None, environment: Mapping[str, str]) -> Path:
    """What the option says, else the variable that the pilot itself knows,
    else `SHARED`.
    """
    chosen = given or Path(environment.get("PILOT_SHARED_ROOT") or SHARED)
    return Path(os.path.abspath(chosen.expanduser()))


def make_shared(folder: Path) -> None:
    """Make it, open to every user of this machine as /tmp is, if it is not
    there.

    Raises
    ------
    Unanswered
        It cannot be made, or it is somebody else's and closed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            # The mode of a `mkdir` is cut down by the umask.
            folder.chmod(0o1777)
        if not folder.is_dir():
            raise NotADirectoryError(0, "Not a directory")
    except OSError as err:
        raise Unanswered(f"{folder}: {err.strerror}: {_OTHER}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        owner = _name(folder.stat().st_uid)
        raise Unanswered(f"{folder} belongs to {owner}, and you may not write there: {_OTHER}")


def check_shared(folder: Path, *, engine: str, environment: Mapping[str, str]) -> None:
    """Before a job is asked for: can Docker's payloads have their folder?

    Raises
    ------
    Unanswered
        Docker answers, and they cannot.
    """
    if engine == "process":
        return
    with contextlib.suppress(ImageProblem):
        DockerCli(environment).version()
        make_shared(folder)


_OTHER = "give another with --shared-root FOLDER, or do without Docker with --engine process"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
