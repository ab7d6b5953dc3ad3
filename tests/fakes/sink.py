"""A log service in memory: stores what it takes, and says what it is told to
say.
"""

from collections.abc import Callable, Sequence

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, SinkLimits

YES = Outcome(OutcomeKind.DELIVERED)
AGAIN = Outcome(OutcomeKind.RETRY, detail="not now")
LOST_ANSWER = Outcome(OutcomeKind.RETRY, detail="the answer was lost")


class MemorySink:
    """Takes everything unless `mood` says otherwise.

    Parameters
    ----------
    mood
        Asked before each write; LOST_ANSWER stores and says RETRY.
    """

    def __init__(
        self, mood: Callable[[Sequence[Entry]], Outcome] = lambda _: YES, limits: SinkLimits | None = None
    ) -> None:
        self.name = "memory"
        self.limits = limits or SinkLimits()
        self.mood = mood
        self.stored: list[Entry] = []
        self.batches: list[int] = []
        self.closed = 0

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        assert timeout_s > 0
        outcome = self.mood(entries)
        if outcome.kind is OutcomeKind.DELIVERED or outcome is LOST_ANSWER:
            self.stored += [e for i, e in enumerate(entries) if i not in outcome.rejected]
            self.batches.append(len(entries))
        return outcome

    def close(self) -> None:
        self.closed += 1

    def visible(self) -> list[Entry]:
        """Each entry once, in the order of the first arrival."""
        unique: dict[tuple[str, str], Entry] = {}
        for entry in self.stored:
            unique.setdefault((entry.timestamp, entry.insert_id), entry)
        return list(unique.values())
