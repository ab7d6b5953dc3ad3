"""PURE. What the headers `Date` and `Retry-After` of an answer say."""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

__all__ = ["LONGEST_RETRY_AFTER_S", "epoch_s", "retry_after"]

#: A front end that asks for more is not obeyed: PanDA fails a job after two
#: hours without an update.
LONGEST_RETRY_AFTER_S = 3_600.0


class Headers(Protocol):
    """Those of any library."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names, in any case, and values."""
        ...


def retry_after(headers: Headers) -> float | None:
    """Seconds that an answer asks for; None if it does not, 0 if it says
    nothing.

    `Retry-After` is a number of seconds, or a date (RFC 9110, 10.2.3). Then
    `Date` is the server's idea of now, since its clock is the one that the
    other was made with.
    """
    found = {name.lower(): str(value).strip() for name, value in headers.items()}
    text, date = found.get("retry-after", ""), found.get("date", "")
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    until, since = epoch_s(text), epoch_s(date)
    if until is None or since is None:
        return 0.0
    return min(max(0.0, until - since), LONGEST_RETRY_AFTER_S)


def epoch_s(text: str) -> float | None:
    """Epoch seconds of an HTTP date, None if it is none."""
    try:
        when: datetime = parsedate_to_datetime(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
