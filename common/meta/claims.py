"""Names that conditional writes claim: the part of the seam to the coordinator for these.

Of several writes that want a name to be what it is now, one at a time may go on to make its record
durable. It holds a claim meanwhile, for a short time: one that died does not block the others. A
claim gives no right to publish: changes without a condition neither need nor respect it, which is
why `common.meta.interface.Objects.commit` checks the condition once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class Claim:
    """A conditional write that wants a name for itself.

    Attributes:
        bucket, key: the name.
        holder: who wants it; every write is somebody else.
        lease_ms: after this the claim ends by itself.
        if_match: the condition, as in `common.meta.interface.Commit`.
    """

    bucket: str
    key: str
    holder: str
    lease_ms: int
    if_match: str


class ClaimOutcome(StrEnum):
    """What `Claims.take` did."""

    CLAIMED = "claimed"
    """The holder has the name until the lease ends."""
    REFUSED = "refused"
    """The condition does not hold."""
    BUSY = "busy"
    """The condition holds, but another holder has the name."""


class Claims(Protocol):
    """Who has which name. Calls made in the same moment travel together."""

    async def take(self, item: Claim) -> ClaimOutcome:
        """Take a name for a conditional write, or keep it for another lease.

        The claim ends with the lease, with `drop`, or when a version with a condition is
        published under the name.
        """
        ...

    async def drop(self, bucket: str, key: str, holder: str) -> None:
        """Let the name go, if ``holder`` has it."""
        ...


def condition(if_match: str) -> str:
    """A condition as the scripts want it."""
    if if_match == "":
        return "-"
    return "*" if if_match == "*" else "=" + if_match
