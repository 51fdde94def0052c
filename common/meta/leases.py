"""Work that one process at a time does, in Redis."""

from __future__ import annotations

from common.meta.calls import Calls
from common.meta.link import Command
from common.meta.schema import lease_key
from common.meta.scripts import script


class RedisLeases:
    """`common.meta.interface.Leases` in Redis."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def acquire(self, name: str, holder: str, ttl_ms: int) -> bool:
        """Take or extend the lease; False while somebody else holds it."""
        command = Command((1, lease_key(name), holder, ttl_ms), script("acquire"))
        return bool(await self._calls.run(command))

    async def release(self, name: str, holder: str) -> None:
        """Give it back if it is held by ``holder``."""
        await self._calls.run(Command((1, lease_key(name), holder), script("giveback")))
