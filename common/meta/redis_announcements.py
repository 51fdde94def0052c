"""Objects that are announced before anybody sent them, in Redis."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from common.errors import ObjectGone
from common.meta.announcements import Announcement
from common.meta.calls import Args, BucketVerb, Calls
from common.meta.values import pack_nodes, token

_ANNOUNCED: Final = ord("b")


class RedisAnnouncements:
    """`common.meta.announcements.Announcements` in Redis."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._announce = BucketVerb("announce", registers=True, translate=_announced)
        self._withdraw = BucketVerb("withdraw")

    def announce(self, item: Announcement) -> Awaitable[None]:
        """``— → writing``, on its way at once."""
        ids = ",".join(item.object_ids)
        args = (token(item.router), item.lease_ms, pack_nodes(item.nodes), item.first, ids)
        return self._calls.submit(self._announce, item.bucket, args)

    async def withdraw(self, bucket: str, object_ids: tuple[str, ...]) -> None:
        """``writing → —``."""
        await self._calls.gather(self._withdraw, bucket, (",".join(object_ids),))


def _announced(answer: int, args: Args) -> ObjectGone | None:
    if answer == _ANNOUNCED:
        return None
    return ObjectGone(f"one of the objects {args[4]!s} was begun by another router")
