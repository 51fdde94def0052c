"""Names that conditional writes claim, in Redis."""

from __future__ import annotations

from typing import Final

from common.meta.calls import BucketVerb, Calls
from common.meta.claims import Claim, ClaimOutcome, condition
from common.meta.values import token

CLAIM_OUTCOMES: Final = {
    ord("C"): ClaimOutcome.CLAIMED,
    ord("R"): ClaimOutcome.REFUSED,
    ord("B"): ClaimOutcome.BUSY,
}


class RedisClaims:
    """`common.meta.claims.Claims` in Redis."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._take = BucketVerb("claim", registers=True)
        self._drop = BucketVerb("unclaim")

    async def take(self, item: Claim) -> ClaimOutcome:
        """Take a name for a conditional write, or keep it for another lease."""
        args = (item.key, token(item.holder), item.lease_ms, condition(item.if_match))
        return CLAIM_OUTCOMES[await self._calls.gather(self._take, item.bucket, args)]

    async def drop(self, bucket: str, key: str, holder: str) -> None:
        """Let the name go, if ``holder`` has it."""
        await self._calls.gather(self._drop, bucket, (key, holder))
