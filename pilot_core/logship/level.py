"""PURE. Severity of a record, from the names and numbers that payloads use."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["LEVELS", "line_level", "severity"]

# VERBOSE (15) and TRACE (5) are Rubin's own; FATAL and WARN other people's.
LEVELS: Mapping[object, str] = {
    "TRACE": "DEBUG",
    "DEBUG": "DEBUG",
    "VERBOSE": "DEBUG",
    "INFO": "INFO",
    "INFORMATION": "INFO",
    "NOTICE": "NOTICE",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
    "CRITICAL": "CRITICAL",
    "FATAL": "CRITICAL",
    "ALERT": "ALERT",
    "EMERGENCY": "EMERGENCY",
}
_FLOORS = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (1, "DEBUG"))

# Rubin's text log: `LEVEL 2026-11-21T05:02:42.694+00:00 logger (...)`.
_LINE = re.compile(r"([A-Z]{4,11}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.,:+Z-]*) ")


def severity(record: Mapping[str, Any]) -> str:
    """LogSeverity of a record: its `levelname`, else its `levelno`, else what
    other people's loggers call `severity` or `level`.

    INFO where nothing is said, as pilot3 sends it, so that users'
    `severity>=INFO` goes on finding it.
    """
    name = record.get("levelname")
    known = LEVELS.get(name) if type(name) is str else None
    if known is not None:
        return known
    number = record.get("levelno")
    if isinstance(number, int | float) and not isinstance(number, bool):
        return next((found for floor, found in _FLOORS if number >= floor), "DEFAULT")
    names = (record.get(key) for key in ("levelname", "severity", "level"))
    named = (LEVELS.get(name.strip().upper()) for name in names if type(name) is str)
    return next(filter(None, named), "INFO")


def line_level(text: str) -> tuple[str, str | None]:
    """Severity and time that a text line begins with.

    A line without them is INFO, as pilot3 sends every line, so that users'
    `severity>=INFO` goes on finding it.
    """
    match = _LINE.match(text)
    if match is None or match[1] not in LEVELS:
        return "INFO", None
    return LEVELS[match[1]], match[2]
