"""Walks through everything that is stored, to find what has to move.

A putter that shall be emptied, or is not expected back, is named by extents that somebody else
has to hold instead. One router at a time walks through all names and notes that as debts; paying
them is the business of `router.repair`. A walk that is cut short is made again from the start, and
finds what was noted before as it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from contextlib import aclosing
from typing import Final

from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.repairs import Described
from common.records import Extent
from router.debts import kept, vacated, with_extents
from router.walk import pages, redescribe

_log = get_logger(__name__)
_LEASE: Final = "census"
_LEASE_MS: Final = 60_000
_RENEW_S: Final = _LEASE_MS / 3000
_WRITING_MAX: Final = 1_000


class Census:
    """One router's part in it; the one that holds the lease walks.

    Args:
        meta: the coordinator.
        instance: of this router.
    """

    def __init__(self, meta: Metadata, instance: str) -> None:
        self._meta = meta
        self._instance = instance
        self._renew_at = 0.0

    async def walk(self, leaving: Collection[str]) -> Counter[str] | None:
        """Note what others have to hold in the place of putters that leave.

        Args:
            leaving: the putters; empty to take back what was noted for some that stay.

        Returns:
            How many names hold something on each of them; None while another router walks.

        Raises:
            PutterError: Redis does not answer.
        """
        if not await self._lease():
            return None
        found: Counter[str] = Counter()
        async with aclosing(pages(self._meta)) as everything:
            async for _, page in everything:
                late = asyncio.get_running_loop().time() >= self._renew_at
                if late and not await self._lease():
                    return None
                for nodes in await asyncio.gather(*(self._note(each, leaving) for each in page)):
                    found.update(nodes)
        await self._meta.leases.release(_LEASE, self._instance)
        _log.info("looked for what has to move", leaving=sorted(leaving), names=dict(found))
        return found

    async def named(self) -> frozenset[str]:
        """All putters that some name says hold something, or should.

        Raises:
            PutterError: Redis does not answer.
        """
        found: set[str] = set()
        async with aclosing(pages(self._meta)) as everything:
            async for _, page in everything:
                for each in page:
                    for stored in each.version.objects:
                        for extent in stored.extents:
                            found.update(extent.nodes, extent.owed)
        return frozenset(found)

    async def under_way(self, leaving: Collection[str]) -> Counter[str]:
        """How many objects that are being written may have some bytes on each of these putters.

        Ask before a walk: what is published meanwhile may be behind it.

        Raises:
            PutterError: Redis does not answer.
        """
        if not leaving:
            return Counter()
        writing = await self._meta.recovery.writing(_WRITING_MAX)
        if writing is None:
            return Counter(dict.fromkeys(leaving, 1))  # too many to ask for each
        found: Counter[str] = Counter()
        for _, object_id in writing:
            state = await self._meta.objects.get(object_id)
            if state is not None and state.state == "writing":
                found.update(node for node in state.nodes if node in leaving)
        return found

    # -- inside ----------------------------------------------------------------------------

    async def _lease(self) -> bool:
        self._renew_at = asyncio.get_running_loop().time() + _RENEW_S
        return await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS)

    async def _note(self, each: Described, leaving: Collection[str]) -> set[str]:
        """The putters that leave and that a version is on; its debts are noted then."""

        def change(extent: Extent) -> Extent:
            return vacated(kept(extent, leaving, each.version.replicas), leaving)

        await redescribe(self._meta, each, with_extents(each.version, change))
        return {
            node
            for stored in each.version.objects
            for extent in stored.extents
            for node in extent.nodes
            if node in leaving
        }
