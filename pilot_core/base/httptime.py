"""PURE. What the headers `Date` and `Retry-After` of an answer say."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST_RETRY_AFTER_S", "epoch_s", "retry_after"]

#: A front end that asks for more is not obeyed: PanDA fails a job after two
#: hours without an update.
LONGEST_RETRY_AFTER_S = 3_600.0


def retry_after(value: str, *, date: str) -> float | None:
    """Seconds of a Retry-After header; None without one, 0 if it says nothing.

    Parameters
    ----------
    value
        A number of seconds, or a date (RFC 9110, 10.2.3).
    date
        The answer's Date header: the server's idea of now, since its clock is
        the one that the other date was made with.
    """
    text = value.strip()
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
