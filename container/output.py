"""A file that takes what a payload prints."""

import logging
import os
from pathlib import Path

__all__ = ["OutputFile"]

log = logging.getLogger(__name__)


class OutputFile:
    """Appends raw bytes; what cannot be written is counted and said once.

    A full disk must not stop the reader: a payload whose output nobody reads
    stands still for ever.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, data: memoryview) -> None:
        """Write all of it, in as many calls as the system takes."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError as err:
                if not self.dropped:
                    log.error("%s: output of the payload is lost from here on: %s", self.path, err.strerror)
                self.dropped += len(data)
                return

    def close(self) -> None:
        """Close it, and say how much is missing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self.dropped:
                log.error("%s: %d bytes could not be written", self.path, self.dropped)
