"""Which files tell that a payload still does something.

The walk in `disk.py` looks at every file anyhow and asks here; `limits.py`
decides. The pilot's own files, and those of prmon, which writes on beside a
hung payload, say nothing. Python sources are left out as pilot3 does it
(`user/rubin/loopingjob_definitions.py`): a script that was copied or compiled
is no progress. payload.stdout and payload.stderr do count.
"""

__all__ = ["counts_as_activity"]

_PREFIXES = (
    ".",  # temporary names of files that are written whole
    "heartbeat",
    "job_definition",
    "jobReport",
    "memory_monitor",
    "panda_secrets",
    "pilot_heartbeat",
    "pilotlog",
    "prmon",
)
_SUFFIXES = (".py", ".pyc", ".lib.tgz")


def counts_as_activity(name: str) -> bool:
    """True if a file of this name is written by the payload and means
    progress.
    """
    return not name.startswith(_PREFIXES) and not name.endswith(_SUFFIXES)
