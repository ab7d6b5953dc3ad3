"""What a worker's log says last of what went wrong, in one line."""

import os
import re
from pathlib import Path

__all__ = ["complaint_in", "last_complaint"]

# How much of a log's end is enough.
_TAIL_BYTES = 64 * 1024

# Both shapes of `base/logs.py`; the wrapper's own end; a pilot that does not
# understand its options.
_COMPLAINT = re.compile(
    r"^(?:[\d-]{10} [\d:,]{12} \| (?:ERROR|CRITICAL) +\| (?:[\w.]+ +\| [\w<>]+ +\| )?"
    r"|[^|\n]*\bFATAL: |pilot\.py: )(?P<message>.*\S)",
    re.MULTILINE,
)


def last_complaint(log: bytes) -> str:
    """Message of the last line of ERROR or worse, by pilot or wrapper; empty
    if there is none.
    """
    found = ""
    for match in _COMPLAINT.finditer(log.decode("utf-8", "replace")):
        found = match["message"]
    return found


def complaint_in(path: Path) -> str:
    """The same of the end of a file of our own; empty if it cannot be read."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return last_complaint(log.read(_TAIL_BYTES))
    except OSError:
        return ""
