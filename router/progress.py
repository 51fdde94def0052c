"""How far the answers to one transmission of a parcel have come. Pure."""

from __future__ import annotations


class Front:
    """How far the acks of one transmission have come.

    They come in order: only what continues the front counts, so that two transmissions of a run
    can never add up to a whole.
    """

    __slots__ = ("reached", "worst")

    def __init__(self) -> None:
        self.reached = 0
        self.worst = 0

    def advance(self, low: int, high: int, status: int) -> bool:
        """Acks from ticket ``low`` to before ``high`` of the run; whether they count."""
        if low > self.reached:
            return False
        self.reached = max(self.reached, high)
        self.worst = max(self.worst, status)
        return True


class Tally:
    """How many records of a parcel are unanswered, and the worst answer so far."""

    __slots__ = ("left", "worst")

    def __init__(self, left: int) -> None:
        self.left = left
        self.worst = 0

    def count(self, status: int) -> bool:
        """One more answer; whether it was the last."""
        self.left -= 1
        self.worst = max(self.worst, status)
        return self.left == 0
