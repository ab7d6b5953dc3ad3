"""The log file and a disk that is full."""

import contextlib
import io
import logging
from pathlib import Path

from pilot_core.base.logs import file_log
from pilot_core.base.redact import Redactor


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    # logging says on stderr what it could not write.
    with (
        contextlib.redirect_stderr(io.StringIO()),
        file_log(Path("/dev/full"), debug=False, redactor=Redactor()),
    ):
        logging.getLogger("test").warning("lost")
    assert root.handlers == before
