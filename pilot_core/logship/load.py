"""What is read and not yet delivered, and what is remembered once it is."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pilot_core.logship.contract import Entry, RecordMaker
from pilot_core.logship.tailed import Commit, TailedFile

__all__ = ["Load"]


@dataclass(slots=True)
class Load:
    """Entries on their way, and which positions are reached after how many of
    them.

    Attributes
    ----------
    read_bytes
        Of one read: the grain in which positions move.
    most_bytes
        Bytes of lines after which it is full.
    """

    read_bytes: int
    most_bytes: float
    entries: list[Entry] = field(default_factory=list)
    commits: deque[tuple[int, TailedFile, Commit]] = field(default_factory=deque)
    size: int = 0
    busy: bool = False

    def full(self) -> bool:
        """True if no more is to be read."""
        return self.size >= self.most_bytes

    def take(self, file: TailedFile, maker: RecordMaker, entries: Sequence[Entry]) -> None:
        """Add what a file's maker has made."""
        self.entries += entries
        self.commits.append((len(self.entries), file, file.reached(maker.mark())))
        self.busy = True

    def reach(self, settled: int) -> None:
        """So many entries are settled: move the positions behind them."""
        while self.commits and self.commits[0][0] <= settled:
            _, file, commit = self.commits.popleft()
            file.commit(commit)
