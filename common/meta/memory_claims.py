"""Names that conditional writes claim, in memory."""

from __future__ import annotations

from common.meta.claims import Claim, ClaimOutcome
from common.meta.memory_state import State, Times, Visited
from common.meta.memory_tables import holds
from common.meta.memory_versions import current
from common.meta.values import token


class MemoryClaims:
    """`common.meta.claims.Claims` in memory."""

    def __init__(self, store: Visited, times: Times) -> None:
        self._store = store
        self._times = times

    async def take(self, item: Claim) -> ClaimOutcome:
        """Take a name for a conditional write, or keep it for another lease."""
        token(item.holder)

        def effect(state: State) -> ClaimOutcome:
            bucket = state.bucket(item.bucket)
            now_ms = self._times.clock.now_ms()
            if not holds(item.if_match, current(state, item.bucket, item.key)):
                return ClaimOutcome.REFUSED
            holder, until_ms = bucket.claims.get(item.key, (item.holder, 0))
            if holder != item.holder and until_ms > now_ms:
                return ClaimOutcome.BUSY
            bucket.claims[item.key] = (item.holder, now_ms + item.lease_ms)
            return ClaimOutcome.CLAIMED

        return await self._store.visit(effect)

    async def drop(self, bucket: str, key: str, holder: str) -> None:
        """Let the name go, if ``holder`` has it."""

        def effect(state: State) -> None:
            claims = state.bucket(bucket).claims
            if claims.get(key, ("", 0))[0] == holder:
                del claims[key]

        await self._store.visit(effect)
