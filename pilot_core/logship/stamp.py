"""PURE. The time of an entry: the record's own, in the range the service
stores.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["Stamps"]

# Older than the default retention (30 d) is accepted and not stored, more than
# a day ahead is refused (Cloud Logging, quotas page and log_entry.proto).
_OLDEST = timedelta(days=29)
_NEWEST = timedelta(hours=23)


class Stamps:
    """Turns `asctime` into an RFC 3339 time in UTC.

    A record without a usable time gets that of the record before it, so that
    the same line has the same time however often it is read.

    Parameters
    ----------
    last
        Time of the record before the first one, RFC 3339.
    since
        When the file was seen first, epoch seconds: the time before the first
        record where `last` is empty.
    now
        Wall clock, epoch seconds; bounds the future only.
    """

    def __init__(self, last: str, since: float, now: Callable[[], float]) -> None:
        self._now = now
        self._oldest = datetime.fromtimestamp(since, UTC) - _OLDEST
        self._second = ""
        self.last = last or _shown(datetime.fromtimestamp(since, UTC))

    def of(self, asctime: object) -> str:
        """The time of a record whose `asctime` is this."""
        if type(asctime) is not str:
            return self.last
        # Most records fall into the same second as the one before; that second
        # has been checked, and only the fraction is left to look at.
        if (
            asctime[:20] == self._second
            and asctime[26:] == "Z"
            and asctime[20:26].isdecimal()
            and asctime.isascii()
        ):
            self.last = asctime
            return asctime
        moment = _parsed(asctime)
        newest = datetime.fromtimestamp(self._now(), UTC) + _NEWEST
        if moment is not None and self._oldest <= moment <= newest:
            self.last = _shown(moment)
            self._second = self.last[:20]
        return self.last


def _parsed(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        # No zone is UTC: that is what Rubin's formatter means by it.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
