"""`pilot.py`: the pilot's command line, copied to the top of `pilot3.tar.gz`."""

import os
import sys


def main() -> int:
    """Run a pilot; returns the exit code of the process (see
    `model/codes.py`).
    """
    # Wrappers take whatever python3 comes first on PATH. Of all files this is
    # the one that an older Python can read, as far back as 3.6.
    if sys.version_info < (3, 11):  # noqa: UP036 - that is what is found out here
        version = ".".join(str(part) for part in sys.version_info[:3])
        sys.stderr.write(f"pilot.py: Python 3.11 or newer is needed, {sys.executable} is {version}\n")
        return 65
    # Imported here, so that the file works both as a console script and as
    # `python3 pilot3/pilot.py`, where its own folder is the first on the path.
    from pilot_core.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path[0] == here and os.path.exists(os.path.join(here, "__init__.py")):
        # `python3 pilot_core/pilot.py` in a checkout: the packages are one up,
        # and modules of this folder would be taken for others of their names.
        sys.path[0] = os.path.dirname(here)
    sys.exit(main())
