"""One allowance of time shared by a series of steps."""

from pilot_core.base.clock import Clock

__all__ = ["Budget", "BudgetSpent"]


class BudgetSpent(Exception):
    """The time allotted to a step is over.

    No `TimeoutError`, which is an `OSError`: who puts up with a disk or a
    network that fails must not take this for one.

    Parameters
    ----------
    name
        What the time was for.
    seconds
        How much there was.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name}: {seconds:.1f} s are over")
        self.name = name
        self.seconds = seconds


class Budget:
    """Seconds that may be spent on something; a part never outlives the whole.

    Parameters
    ----------
    clock
        Source of time.
    seconds
        The allowance, counted from now.
    name
        What it is for; appears in `BudgetSpent`.
    """

    def __init__(self, clock: Clock, seconds: float, name: str, parent: "Budget | None" = None) -> None:
        self.name = name
        self.seconds = seconds
        self.clock = clock
        self._parent = parent
        self._end = clock.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that remain, never negative."""
        own = self._end - self.clock.monotonic()
        if self._parent is not None:
            own = min(own, self._parent.left)
        return max(0.0, own)

    @property
    def spent(self) -> bool:
        """True when nothing is left."""
        return self.left <= 0.0

    def part(self, seconds: float, name: str) -> "Budget":
        """An allowance for one step: `seconds`, or what is left if that is
        less.
        """
        return Budget(self.clock, min(seconds, self.left), name, parent=self)

    def timeout(self, at_most: float) -> float:
        """Seconds one blocking call may take.

        Raises
        ------
        BudgetSpent
            If nothing is left.
        """
        left = self.left
        if left <= 0.0:
            raise BudgetSpent(self.name, self.seconds)
        return min(at_most, left)

    def shorten(self, seconds: float) -> None:
        """Leave at most `seconds` from now; never lengthens.

        Called from the main thread while another one spends the budget: the
        assignment is atomic, and the spender sees it at its next look.
        """
        self._end = min(self._end, self.clock.monotonic() + seconds)
