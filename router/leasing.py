"""A lease that a router keeps for as long as it works."""

from __future__ import annotations

import asyncio

from common.meta.interface import Metadata


class KeptLease:
    """Redis is asked only when it is time to renew it.

    Args:
        meta: knows the leases.
        name: of the lease.
        holder: who wants it.
        lease_ms: after which it runs out; it is renewed after a third of that.
    """

    def __init__(self, meta: Metadata, name: str, holder: str, lease_ms: int) -> None:
        self._meta = meta
        self._name = name
        self._holder = holder
        self._lease_ms = lease_ms
        self._renew_s = lease_ms / 3000
        self._renew_at = 0.0

    async def held(self) -> bool:
        """Take it or keep it; False while somebody else has it.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        now = asyncio.get_running_loop().time()
        if now < self._renew_at:
            return True
        self._renew_at = 0.0
        if not await self._meta.leases.acquire(self._name, self._holder, self._lease_ms):
            return False
        self._renew_at = now + self._renew_s
        return True
