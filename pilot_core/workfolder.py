"""A job's work directory with the pilot's log in it, whatever a payload beside
the pilot does to both: it may rename its directory, remove it, or put a link
in its place.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pilot_core.base.logs import FileLog, file_log
from pilot_core.base.redact import Redactor
from pilot_core.errors import NodeError
from pilot_core.model.codes import ErrorCode

__all__ = ["WorkFolder"]

log = logging.getLogger(__name__)

_MODE = 0o770
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class WorkFolder:
    """Made and held by `opened`, set right again by `mend`.

    Parameters
    ----------
    path
        The work directory.
    log_file
        The pilot's log of this job, in it.
    """

    def __init__(self, path: Path, log_file: Path) -> None:
        self._path = path
        self._log_file = log_file
        self._log: FileLog | None = None
        self._fd = -1

    @contextlib.contextmanager
    def opened(self, *, debug: bool, redactor: Redactor) -> Iterator[None]:
        """Make it and keep the pilot's log there while the block lasts.

        Raises
        ------
        NodeError
            It cannot be made.
        """
        with contextlib.ExitStack() as stack:
            try:
                self._path.mkdir(mode=_MODE, parents=True, exist_ok=True)
                self._fd = os.open(self._path, _OPEN)
                stack.callback(self._let_go)
                self._log = stack.enter_context(file_log(self._log_file, debug=debug, redactor=redactor))
            except OSError as err:
                code = ErrorCode.NOLOCALSPACE if err.errno == errno.ENOSPC else ErrorCode.MKDIR
                raise NodeError(f"{err.filename}: {err.strerror}", code) from err
            yield

    def mend(self) -> str:
        """After the payload: bring directory and log back to where they belong.

        Returns
        -------
        str
            What the payload's files were lost by, in words; empty if nothing
            is lost. Never raises: what cannot be mended is said, too.
        """
        try:
            lost = self._mend_folder()
            if self._log is not None and self._log.restore():
                log.warning("the payload removed the pilot's log, which is written anew")
        except OSError as err:
            lost = f"its work directory is out of reach: {err.strerror or err}"
        if lost:
            log.error("the payload has lost its files: %s", lost)
        return lost

    def _mend_folder(self) -> str:
        ours = os.fstat(self._fd)
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(self._path)
            if os.path.samestat(ours, found):
                return ""
            if stat.S_ISDIR(found.st_mode):
                # Made anew by the payload: what it wrote there is its output.
                log.warning("the payload has put a new directory in the place of %s", self._path)
                self._adopt()
                return ""
            # A link: its target is not the job's, and stays as it is.
            self._path.unlink()
        if ours.st_nlink > 0:
            # The kernel knows where an open directory has got to.
            moved_to = os.readlink(f"/proc/self/fd/{self._fd}")
            with contextlib.suppress(OSError):
                os.rename(moved_to, self._path)
                log.warning("the payload had moved its work directory to %s: moved back", moved_to)
                return ""
            lost = f"it moved its work directory to {moved_to}"
        else:
            lost = "it removed its work directory"
        self._path.mkdir(mode=_MODE, parents=True, exist_ok=True)
        self._adopt()
        return lost

    def _adopt(self) -> None:
        fresh = os.open(self._path, _OPEN)
        self._let_go()
        self._fd = fresh

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
