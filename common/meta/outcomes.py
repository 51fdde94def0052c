"""What became of a change, and on what conditions a version may be deleted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What `Objects.commit` and `Files.delete` did."""

    PUBLISHED = "published"
    """The name holds this version now (also if it already did)."""
    SUPERSEDED = "superseded"
    """A change with a higher stamp was there first: this one counts as overwritten."""
    INCOMPLETE = "incomplete"
    """Not every ticket is acknowledged; nothing changed."""
    GONE = "gone"
    """The object is not ``writing``; nothing changed."""
    REFUSED = "refused"
    """The condition does not hold; nothing changed."""
    ELSEWHERE = "elsewhere"
    """Its bucket keeps versions in another way than the writer thought; nothing changed."""
    OVER_QUOTA = "over quota"
    """Its bucket would hold more than it may; nothing changed."""
    ABSENT = "absent"
    """The name held nothing; the tombstone's stamp counts as its last change all the same."""
    LOCKED = "locked"
    """Its lock keeps the version; nothing changed."""


class Rank(StrEnum):
    """What a version has to be among those of its key, to be deleted."""

    ANY = ""
    OLDER = "N"
    """The name holds a newer one now."""
    ALONE = "A"
    """There is no other one."""


@dataclass(frozen=True)
class Guard:
    """On what conditions a version may be deleted; they are looked at in the same step.

    Attributes:
        bypass: whether a lock for ``GOVERNANCE`` does not count.
        rank: what it has to be; only of a tombstone of one version alone.
    """

    bypass: bool = False
    rank: Rank = Rank.ANY

    @property
    def word(self) -> str:
        """As scripts read it."""
        return self.rank.value + ("G" if self.bypass else "")


UNGUARDED: Final = Guard()
"""Any version may be deleted that no lock keeps."""
