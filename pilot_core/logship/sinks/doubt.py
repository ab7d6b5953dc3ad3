"""Is it this entry that a service refuses, or would it refuse every entry?

A wrong port, path, log name or resource is a 400 for whatever is sent. An
entry is given up only where the service has just taken something else.
"""

import time
from collections.abc import Callable, Sequence

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind

__all__ = ["PROBE", "STUBBORN", "Doubt"]

#: What a service without a dry run is asked to store, once in a while.
PROBE = "the pilot's log shipper: a record was refused, is this one?"
#: So many refusals of one entry, while its neighbours were stored, are enough.
STUBBORN = 6

# A yes proves so long that the setting is right.
_PROVEN_S = 5.0
_LEAST_S = 0.5


class Doubt:
    """Second thoughts on a refusal.

    Parameters
    ----------
    probe
        Sends something harmless within so many seconds, and says what the
        service said; may raise what the sink's own requests raise.
    """

    def __init__(self, probe: Callable[[float], Outcome]) -> None:
        self._probe = probe
        self._proven_at = float("-inf")
        self._refusals: dict[str, int] = {}

    def settle(self, outcome: Outcome, entries: Sequence[Entry], end: float) -> Outcome:
        """The outcome of a batch; DENIED where it is a setting that is wrong.

        `end` is when the batch's time is over, by `time.monotonic`.
        """
        now = time.monotonic()
        if outcome.kind is OutcomeKind.DELIVERED:
            self._proven_at = now
            self._refusals.clear()
        if outcome.kind is not OutcomeKind.TOO_LARGE or len(entries) > 1:
            return outcome
        said = self._ask(end)
        if said.kind is OutcomeKind.DELIVERED:
            return outcome
        return Outcome(OutcomeKind.DENIED, detail=f"every request is refused: {said.detail}")

    def insist(self, outcome: Outcome, entries: Sequence[Entry], end: float) -> Outcome:
        """The outcome of a batch of which some entries (`rejected`) shall come
        again, and the others are stored.

        An entry that comes again for ever would keep back what is behind it.
        """
        for index in outcome.rejected:
            uid = entries[index].insert_id
            self._refusals[uid] = self._refusals.get(uid, 0) + 1
        enough = all(self._refusals[entries[index].insert_id] >= STUBBORN for index in outcome.rejected)
        stored = len(entries) - len(outcome.rejected)
        if enough and (stored or self._ask(end).kind is OutcomeKind.DELIVERED):
            self._refusals.clear()
            return Outcome(OutcomeKind.DELIVERED, rejected=outcome.rejected, detail=outcome.detail)
        return Outcome(outcome.kind, detail=outcome.detail, retry_after_s=outcome.retry_after_s)

    def _ask(self, end: float) -> Outcome:
        """DELIVERED where the service takes harmless entries."""
        now = time.monotonic()
        if now - self._proven_at < _PROVEN_S:
            return Outcome(OutcomeKind.DELIVERED)
        said = self._probe(max(_LEAST_S, end - now))
        if said.kind is OutcomeKind.DELIVERED:
            self._proven_at = now
        return said
