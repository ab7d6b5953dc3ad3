"""Insist until a sink has taken the entries: in order, none lost for a 429 or
401.

Retry policy, beside its call: `RETRY` answers and time-outs are repeated after
full jitter up to 30 s for as long as there is time (0.5, 1, 2, ... 30 s);
`DENIED` is probed up to once a minute, because somebody has to mend it and
nothing is lost until then. `BUSY` widens the gap between all requests and
`FULL` makes them smaller as well, see `Pace`. Where the service asks for a
longer wait it gets it. When the end is near a third of what time is left is
waited at most, and nothing where nothing was ever let in: a node without
credentials does not keep each job waiting for them.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy
from pilot_core.logship.batch import request, weight
from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, ShipCounts, Sink
from pilot_core.logship.pace import FIRST_S, Pace
from pilot_core.logship.plain import as_text

__all__ = ["CROWD_S", "HOPELESS_S", "Delivery", "DeliveryPolicy"]

log = logging.getLogger(__name__)

# A wait is looked into so often: told to stop, it ends within this time.
_SLICE_S = 0.25
_SHORTEST_S = 0.05
#: The quota of a crowded service is there again in a minute, not in 50 ms.
CROWD_S = 2.0
#: Who was refused for so long and never let in is not helped by more seconds.
HOPELESS_S = 15.0
_CROWDED = (OutcomeKind.BUSY, OutcomeKind.FULL)
# Refusals and failures are said at most so often.
_SAY_EVERY_S = 60.0

RETRY = RetryPolicy(attempts=0, first_s=0.5, factor=2.0, cap_s=30.0)
DENIED = RetryPolicy(attempts=0, first_s=5.0, factor=2.0, cap_s=60.0)


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How the sink is asked.

    Attributes
    ----------
    request_s
        Time for one request.
    busy_s
        First gap between requests where the service has too many.
    retry, denied
        Waits after an unclear failure, and where a permission is missing.
    """

    request_s: float = 10.0
    busy_s: float = FIRST_S
    retry: RetryPolicy = RETRY
    denied: RetryPolicy = DENIED


class Delivery:
    """Sends entries to one sink.

    Parameters
    ----------
    sink, policy, clock
        Where to, how, and the source of time.
    wake
        Ends a wait early: the request is then sent at once.
    time_left
        Seconds until delivery has to be given up; asked again and again.
    meanwhile
        Called from time to time during a wait: a file may be rotated twice
        in an outage.
    """

    def __init__(
        self,
        sink: Sink,
        policy: DeliveryPolicy,
        *,
        clock: Clock,
        wake: threading.Event,
        time_left: Callable[[], float],
        meanwhile: Callable[[], None],
    ) -> None:
        self.counts = ShipCounts()
        self.pace = Pace(policy.busy_s)
        self._sink = sink
        self._policy = policy
        self._clock = clock
        self._wake = wake
        self._time_left = time_left
        self._meanwhile = meanwhile
        self._said_at = float("-inf")
        self._failures = 0
        self._barred_at = math.inf
        self._hopeless = False
        self._next_at = -math.inf
        self._soonest_s = _SHORTEST_S

    def deliver(self, entries: Sequence[Entry]) -> Iterator[int]:
        """Send in order; yields how many of the entries are settled so far.

        Ends early, without an exception, when the time is over.
        """
        limits = self._sink.limits
        at_most = most = limits.batch_entries or len(entries)
        settled = tried = 0
        while settled < len(entries) and not self._hopeless and (left := self._turn()) > 0.0:
            size = min(limits.batch_bytes or math.inf, self.pace.share_bytes)
            part = request(entries, settled, most=most, size=size)
            again = max(0, min(tried - settled, len(part)))
            self.counts = replace(self.counts, repeated=self.counts.repeated + again)
            outcome = self._ask(part, left)
            if outcome.kind is OutcomeKind.TOO_LARGE and len(part) == 1:
                outcome = self._in_other_words(part[0], outcome)
            if outcome.kind not in (OutcomeKind.DELIVERED, OutcomeKind.TOO_LARGE):
                tried = max(tried, settled + len(part))
                self._failed(part, outcome)
                continue
            self._answered()
            if outcome.kind is OutcomeKind.TOO_LARGE and len(part) > 1:
                most = len(part) // 2
                continue
            self.pace.accepted(hurry=self._time_left() < math.inf)
            self._next_at = self._clock.monotonic() + self.pace.apart_s()
            self._soonest_s = CROWD_S
            self._settle(part, outcome)
            most = min(at_most, 2 * most)
            settled += len(part)
            yield settled

    def _in_other_words(self, entry: Entry, outcome: Outcome) -> Outcome:
        """What becomes of an entry that was refused, sent once more as text."""
        text = as_text(entry)
        if text is None or (left := self._time_left()) <= 0.0:
            return outcome
        return self._ask([text], left)

    def _ask(self, part: Sequence[Entry], left: float) -> Outcome:
        try:
            return self._sink.write(part, timeout_s=min(self._policy.request_s, left))
        except Exception as err:
            # With this thread the job's log would end.
            log.debug("%s failed", self._sink.name, exc_info=True)
            return Outcome(OutcomeKind.RETRY, detail=f"{type(err).__name__}: {err}")

    def backlog_s(self) -> float:
        """Seconds until the next request is due."""
        return max(0.0, self._next_at - self._clock.monotonic())

    def idle_s(self) -> float:
        """The same where there is no backlog: a full service is then asked
        rarely.
        """
        return self.backlog_s() or self.pace.wait_s()

    def at_once(self) -> None:
        """The next request waits for nothing."""
        self._next_at = -math.inf

    def _answered(self) -> None:
        if self._failures:
            log.info("%s takes entries again after %d failures", self._sink.name, self._failures)
        self._failures, self._barred_at = 0, math.inf

    def _failed(self, part: Sequence[Entry], outcome: Outcome) -> None:
        self._failures += 1
        self.counts = replace(self.counts, last_error=outcome.detail)
        self._say("%s does not take entries (%s): kept, tried again", self._sink.name, outcome.detail)
        now = self._clock.monotonic()
        barred = outcome.kind is OutcomeKind.DENIED and not self.counts.sent
        self._barred_at = min(self._barred_at, now) if barred else math.inf
        self._hopeless = self._time_left() < math.inf and now - self._barred_at >= HOPELESS_S
        self._next_at = now + max(outcome.retry_after_s, self._wait_s(part, outcome.kind))
        self._soonest_s = CROWD_S if outcome.kind in _CROWDED else _SHORTEST_S

    def _wait_s(self, part: Sequence[Entry], kind: OutcomeKind) -> float:
        if kind is OutcomeKind.BUSY:
            self.pace.too_many_requests()
            return self.pace.wait_s()
        if kind is OutcomeKind.FULL:
            self.pace.too_many_bytes(weight(part))
            return self.pace.wait_s()
        policy = self._policy.denied if kind is OutcomeKind.DENIED else self._policy.retry
        return policy.wait_s(self._failures)

    def _settle(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        refused = {i: why for i, why in sorted(outcome.rejected.items()) if 0 <= i < len(entries)}
        if outcome.kind is OutcomeKind.TOO_LARGE:
            refused = {0: outcome.detail}
        self.counts = replace(
            self.counts,
            sent=self.counts.sent + len(entries) - len(refused),
            rejected=self.counts.rejected + len(refused),
        )
        if refused:
            index, why = next(iter(refused.items()))
            self.counts = replace(self.counts, last_error=why)
            self._say(
                "%s refused %d of %d entries for good; the first is %s: %s",
                self._sink.name,
                len(refused),
                len(entries),
                entries[index].insert_id,
                why,
            )

    def _turn(self) -> float:
        """Wait until the next request is due; the seconds left for it.

        Leaves time for another try where time is short.
        """
        end = self._next_at
        while (left := self._time_left()) > 0.0:
            now = self._clock.monotonic()
            # The end can move nearer while we wait: a job that ends, a
            # SIGTERM.
            end = min(end, now + max(left / 3, self._soonest_s))
            if now >= end:
                return left
            if self._clock.wait(self._wake, min(_SLICE_S, end - now)):
                self._wake.clear()
                return self._time_left()
            self._meanwhile()
        return 0.0

    def _say(self, message: str, *args: object) -> None:
        now = self._clock.monotonic()
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            log.error(message, *args)
