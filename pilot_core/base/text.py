"""Text from options, variables and INI files into values; each raises
ValueError with what was expected.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "OneOf",
    "byte_count",
    "count",
    "flag",
    "gigabytes",
    "kilobytes",
    "listed",
    "names",
    "number",
    "one_of",
    "path",
    "port",
    "ratio",
    "resource_type",
    "seconds",
    "size_mb",
    "url",
    "whole_seconds",
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
    return _whole(text, "a whole number of kB") * 1024


def byte_count(text: str) -> int:
    """Bytes, not negative."""
    return _whole(text, "a whole number of bytes")


def seconds(text: str) -> float:
    """Seconds, not negative."""
    return _real(text, "a number of seconds")


def whole_seconds(text: str) -> int:
    """Seconds without a fraction, not negative."""
    return _whole(text, "a whole number of seconds")


def gigabytes(text: str) -> float:
    """GB, not negative."""
    return _real(text, "a number of GB")


def ratio(text: str) -> float:
    """A number, not negative."""
    return _real(text, "a number")


def count(text: str) -> int:
    """A whole number, not negative."""
    return _whole(text, "a whole number")


def port(text: str) -> int:
    """A port of TCP."""
    found = re.fullmatch(r"\s*(\d{1,5})\s*", text)
    if found is None or not 0 < int(found[1]) < 65536:
        raise ValueError("expected a port, 1 to 65535")
    return int(found[1])


def number(text: str) -> int:
    """A whole number."""
    return _integer(text, "a whole number")


def _integer(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected {what}") from None


def _whole(text: str, what: str) -> int:
    value = _integer(text, what)
    if value < 0:
        raise ValueError(f"expected {what}, not negative")
    return value


def _real(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected {what}") from None
    if not 0 <= value < float("inf"):
        raise ValueError(f"expected {what}, not negative")
    return value


def names(text: str) -> tuple[str, ...]:
    """File names separated by `:` or `,`, as in REALTIME_LOGFILES."""
    return tuple(part.strip() for part in re.split(r"[:,]", text) if part.strip())


def words(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def listed(text: str) -> tuple[str, ...]:
    """Words separated by commas, or a JSON list of them."""
    if not text.lstrip().startswith("["):
        return words(text)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
        raise ValueError("expected words separated by commas, or a JSON list of them")
    return tuple(found)


def path(text: str) -> Path:
    """A path; `~` is the home directory."""
    return Path(text).expanduser()


@dataclass(frozen=True, slots=True)
class OneOf:
    """A converter that takes one of these words, in any case."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        found = next((w for w in self.words if w.lower() == text.strip().lower()), None)
        if found is None:
            raise ValueError(f"expected one of {', '.join(self.words)}")
        return found


def url(text: str) -> str:
    """A URL, as it is: who uses it knows what it may look like."""
    return text


def one_of(*words: str) -> OneOf:
    """A converter that takes one of these words, in any case."""
    return OneOf(words)


def resource_type(text: str) -> str:
    """A PanDA resource type, or nothing."""
    if text and not re.match(r"(SCORE|MCORE)(_|$)", text):
        raise ValueError("expected SCORE, MCORE, SCORE_* or MCORE_*")
    return text
