"""Text from options, variables and INI files into values; each raises
ValueError with what was expected.
"""

import re
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "count",
    "flag",
    "gigabytes",
    "kilobytes",
    "names",
    "number",
    "one_of",
    "path",
    "resource_type",
    "seconds",
    "size_mb",
    "words",
]


def flag(text: str) -> bool:
    """Yes or no in pilot3's spellings (`str2bool`)."""
    word = text.strip().lower()
    if word in ("yes", "true", "t", "y", "1", "on"):
        return True
    if word in ("no", "false", "f", "n", "0", "off"):
        return False
    raise ValueError("expected yes or no")


def size_mb(text: str) -> int:
    """`2 GB`, `500 MB` or plain MB."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(kB|MB|GB|TB)?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError("expected a size such as '2 GB'")
    factor = {"kb": 1 / 1024, "mb": 1, "gb": 1024, "tb": 1024**2}[(found[2] or "MB").lower()]
    return int(float(found[1]) * factor)


def kilobytes(text: str) -> int:
    """kB to bytes."""
    return int(text) * 1024


def seconds(text: str) -> float:
    """Seconds, not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("expected seconds, not negative")
    return value


def gigabytes(text: str) -> float:
    """GB, not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("expected GB, not negative")
    return value


def count(text: str) -> int:
    """A whole number, not negative."""
    value = int(text)
    if value < 0:
        raise ValueError("expected a number, not negative")
    return value


def number(text: str) -> int:
    """A whole number."""
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """File names separated by `:` or `,`, as in REALTIME_LOGFILES."""
    return tuple(part for part in re.split(r"[:,]", text.strip()) if part)


def words(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def path(text: str) -> Path:
    """A path; `~` is the home directory."""
    return Path(text).expanduser()


def one_of(*words: str) -> Callable[[str], str]:
    """A converter that takes one of these words, in any case."""

    def convert(text: str) -> str:
        found = next((w for w in words if w.lower() == text.strip().lower()), None)
        if found is None:
            raise ValueError(f"expected one of {', '.join(words)}")
        return found

    return convert


def resource_type(text: str) -> str:
    """A PanDA resource type, or nothing."""
    if text and not re.match(r"(SCORE|MCORE)(_|$)", text):
        raise ValueError("expected SCORE, MCORE, SCORE_* or MCORE_*")
    return text
