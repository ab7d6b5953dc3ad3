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


def test_foreign_text_does_not_pass_for_a_line_of_this_log(tmp_path: Path) -> None:
    forged = "2026-11-21 08:51:00,123 | INFO     | job definition = {'PandaID': 1}"
    with file_log(tmp_path / "log", debug=False, redactor=Redactor()):
        logging.getLogger("test").warning("payload.%s\n%s", f"\n{forged}", "text\n  more")
    first, second, *rest = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("| payload.")
    assert (second, rest) == (f" {forged}", ["text", "  more"])
