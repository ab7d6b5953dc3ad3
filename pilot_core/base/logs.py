"""The pilot's own log: UTC, in the line shape that today's starter, wrapper
and monitor parse.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pilot_core.base.redact import RedactingFilter, Redactor

__all__ = ["FileLog", "file_log", "line_formatter", "setup_logging"]

# Both shapes are pilot3's: the long one with -d, as Rubin runs it.
DEBUG_FORMAT = "%(asctime)s | %(levelname)-8s | %(name)-32s | %(funcName)-25s | %(message)s"
PLAIN_FORMAT = "%(asctime)s | %(levelname)-8s | %(message)s"

# Libraries that would write tokens, headers or a line per request at DEBUG,
# and one that warns at each request of what our own line says once a minute.
_QUIET = dict.fromkeys(("urllib3", "google", "docker", "requests", "grpc", "asyncio"), logging.WARNING)
_QUIET["google.auth"] = logging.ERROR


# What a line of this log begins with.
_DATED = re.compile(r"\n(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\b)")


class _Formatter(logging.Formatter):
    """Keeps foreign text from passing for lines of this log.

    A payload's command, its output and the names of its files may hold line
    ends, and the starter learns from this log which job the worker is at.
    """

    def format(self, record: logging.LogRecord) -> str:
        return _DATED.sub("\n ", super().format(record))


def line_formatter(*, debug: bool) -> logging.Formatter:
    """What makes a record a line of this log."""
    formatter = _Formatter(DEBUG_FORMAT if debug else PLAIN_FORMAT)
    formatter.converter = time.gmtime
    return formatter


class _StreamHandler(logging.StreamHandler[TextIO]):
    """Passes over what nobody reads any more: the starter died, or its disk is
    full.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class FileLog(logging.FileHandler):
    """Says once that a disk is full, where `logging` would print a stack for
    each line; can be written anew where somebody has removed it.
    """

    refused = False

    def handleError(self, record: logging.LogRecord) -> None:
        err = sys.exception()
        if not isinstance(err, OSError):
            super().handleError(record)
        elif not self.refused:
            self.refused = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"log file {self.baseFilename} is incomplete: {err.strerror}\n")

    def restore(self) -> bool:
        """Have the log under its name again, all of it, if something else or
        nothing is there; True if so.

        Raises
        ------
        OSError
            It cannot be written there.
        """
        name = self.baseFilename
        with self.lock or contextlib.nullcontext():
            if self.stream is None:
                return False
            number = self.stream.fileno()
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.lstat(name)):
                    return False
                os.rename(name, f"{name}.{uuid.uuid4().hex[:8]}")
            # A file without a name can be read as long as we have it open.
            with open(f"/proc/self/fd/{number}", "rb") as old, open(name, "xb") as new:
                shutil.copyfileobj(old, new)
            self.stream.close()
            self.stream = self._open()
        return True


def setup_logging(*, debug: bool, redactor: Redactor) -> None:
    """Send the process's log to stdout, where wrapper and starter read it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As in `file_log`; a plain C locale would lose the whole line.
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = _StreamHandler(sys.stdout)
    handler.setFormatter(line_formatter(debug=debug))
    handler.addFilter(RedactingFilter(redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def file_log(path: Path, *, debug: bool, redactor: Redactor) -> Iterator[FileLog]:
    """Copy the log to a file while the block lasts; appended, flushed at each
    line.

    A payload's or a library's text may hold a lone surrogate: it is written
    as an escape rather than lost.
    """
    handler = FileLog(path, mode="a", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(line_formatter(debug=debug))
    handler.addFilter(RedactingFilter(redactor))
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        # On a full disk what is still in the buffer is lost, and nothing else.
        with contextlib.suppress(OSError):
            handler.close()
