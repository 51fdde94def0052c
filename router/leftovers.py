"""Removes parts whose upload is closed.

Whoever closes an upload removes its parts. A router that dies meanwhile does not, and a part may be
written while its upload is closed through another router. So one router at a time looks through the
parts now and then, an upload at a time, whatever the number of its parts.

An upload is durable before anybody knows its ID, and Redis answers only while it knows all that was
acknowledged: a part whose upload does not exist belongs to one that was closed. Parts of the last
hour are left alone all the same.
"""

from __future__ import annotations

from typing import Final

from common.clock import Clock
from common.limits import UPLOAD_LEFTOVER_MS
from common.logs import get_logger
from common.meta.interface import Metadata
from common.uploads import behind_parts, bucket_with_parts, parts_of, read_part_name
from router.rounds import Rounds
from router.uploads import KEY_HEADER, Uploads

_log = get_logger(__name__)
_LEASE: Final = "leftovers"
_LEASE_MS: Final = 60_000


class Leftovers:
    """One router's part in it; the one that holds the lease works.

    Args:
        meta: the coordinator.
        uploads: removes parts.
        clock: tells how old parts are.
        instance: of this router.
        age_ms: how old the parts of an upload must be.
    """

    def __init__(
        self,
        meta: Metadata,
        uploads: Uploads,
        clock: Clock,
        instance: str,
        age_ms: int = UPLOAD_LEFTOVER_MS,
    ) -> None:
        self._meta = meta
        self._uploads = uploads
        self._clock = clock
        self._instance = instance
        self._age_ms = age_ms
        self._rounds = Rounds(self.round, age_ms / 2000, "the search for parts without upload")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self._rounds.stop()

    async def round(self) -> int:
        """Look through all parts, if no other router does it.

        Returns:
            How many parts were removed.

        Raises:
            PutterError: Redis or the putters do not answer; the next round begins anew.
        """
        if not await self._lease():
            return 0
        removed = 0
        for place in await self._meta.files.buckets():
            bucket = bucket_with_parts(place)
            if bucket:
                removed += await self._look(bucket)
        if removed:
            _log.info("removed parts without upload", parts=removed)
        return removed

    # -- inside ----------------------------------------------------------------------------

    async def _lease(self) -> bool:
        return await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS)

    async def _look(self, bucket: str) -> int:
        removed, after = 0, ""
        place = parts_of(bucket)
        while await self._lease():
            page = await self._meta.files.list(place, "", after, 1)
            for entry in page.entries:
                upload, _ = read_part_name(entry.key)
                if await self._is_left(bucket, entry.key, upload):
                    removed += await self._uploads.remove_parts(bucket, upload)
                after = behind_parts(upload)
            if page.next_after is None:
                break
            after = max(after, page.next_after)
        return removed

    async def _is_left(self, bucket: str, name: str, upload: str) -> bool:
        part = await self._meta.files.resolve(parts_of(bucket), name)
        if part is None or self._clock.now_ms() - part.created_ms < self._age_ms:
            return False
        key = part.headers[KEY_HEADER]
        return await self._uploads.find(bucket, key, upload) is None
