"""`pilot.py`: the pilot's command line. Copied to the top of `pilot3.tar.gz` as it is."""

import sys


def main() -> int:
    """Run a pilot; returns the exit code of the process (see `model/codes.py`)."""
    # Imported here, so that the file works both as a console script and as
    # `python3 pilot3/pilot.py`, where its own folder is the first on the path.
    from pilot_core.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
