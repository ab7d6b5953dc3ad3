"""PURE. The time of an entry: the record's own, in the range the service
stores.
"""

from datetime import UTC, datetime, timedelta

__all__ = ["RENEW_S", "Stamps"]

# Older than the default retention (30 d) is accepted and not stored, more than
# a day ahead of its arrival is refused (Cloud Logging, quotas page and
# log_entry.proto).
#
# Both bounds are counted from `since` and not from the present: what is sent
# again must have the same time, a minute later and with the clock set back.
# Nothing arrives before `since`, so nothing up to 23 hours after it is refused;
# the last hour is for clocks that differ. A record of local time without a zone
# is up to 14 hours ahead of it. So that the records of a long job stay below
# the bound, the tail gives a file a new `since` every `RENEW_S`, at a moment
# when all that was sent is confirmed.
_OLDEST = timedelta(days=29)
_NEWEST = timedelta(hours=23)
#: Seconds after which a file gets a new `since`.
RENEW_S = 8 * 3600.0


class Stamps:
    """Turns `asctime` into an RFC 3339 time in UTC.

    A record without a usable time gets that of the record before it, so that
    the same line has the same time however often it is read.

    Parameters
    ----------
    last
        Time of the record before the first one, RFC 3339; what is none counts
        as empty.
    since
        When the file was seen first, epoch seconds: the time before the first
        record where `last` is empty; bounds what a record may say.
    """

    def __init__(self, last: str, since: float) -> None:
        began = datetime.fromtimestamp(since, UTC)
        self._oldest, self._newest = began - _OLDEST, began + _NEWEST
        self._second = ""
        self.last = last if _parsed(last) is not None else _shown(began)

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
        if moment is not None and self._oldest <= moment <= self._newest:
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
