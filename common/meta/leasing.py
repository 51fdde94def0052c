"""The seam to leases."""

from __future__ import annotations

from typing import Protocol


class Leases(Protocol):
    """Work that one process at a time does."""

    async def acquire(self, name: str, holder: str, ttl_ms: int) -> bool:
        """Take or extend the lease; False while somebody else holds it."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give it back if it is held by ``holder``."""
        ...
