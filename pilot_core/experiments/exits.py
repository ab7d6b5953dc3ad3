"""PURE: what an exit code means."""

import signal

from pilot_core.base.procs import signal_name

__all__ = ["explain_exit"]

# Codes with a meaning of their own in the shell and in `docker run`
# (docs.docker.com, "Exit status"; POSIX sh, "Exit Status for Commands").
_MEANINGS = {
    125: "docker refused to run the container",
    126: "command found but not executable",
    127: "command not found",
}


def explain_exit(code: int) -> str:
    """An exit code in words: `exit code 139, killed by signal 11 (SIGSEGV)`."""
    if code in _MEANINGS:
        return f"exit code {code}, {_MEANINGS[code]}"
    number = code - 128
    if 0 < number <= signal.SIGRTMAX:
        name = signal_name(number)
        return f"exit code {code}, killed by signal {number}" + (f" ({name})" if name else "")
    return f"exit code {code}"
