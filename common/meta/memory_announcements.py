"""Objects that are announced before anybody sent them, in memory."""

from __future__ import annotations

from common.errors import ObjectGone
from common.meta.announcements import Announcement
from common.meta.memory_state import Object, State, Times, Visited
from common.meta.values import pack_nodes, token


class MemoryAnnouncements:
    """`common.meta.announcements.Announcements` in memory."""

    def __init__(self, store: Visited, times: Times) -> None:
        self._store = store
        self._times = times

    async def announce(self, item: Announcement) -> None:
        """``— → writing``."""
        router, packed = token(item.router), pack_nodes(item.nodes)
        nodes = tuple(packed.split(",")) if item.nodes else ()

        def effect(state: State) -> bool:
            objects = state.bucket(item.bucket).objects
            due_ms = self._times.clock.now_ms() + item.lease_ms
            for n, object_id in enumerate(item.object_ids):
                ranges = ((item.first + n, 1),)
                fresh = Object("writing", router, 0, ranges, nodes, due_ms)
                objects.setdefault(object_id, fresh)
            return all(objects[object_id].router == router for object_id in item.object_ids)

        if not await self._store.visit(effect):
            raise ObjectGone("one of the objects was begun by another router")

    async def withdraw(self, bucket: str, object_ids: tuple[str, ...]) -> None:
        """``writing → —``."""

        def effect(state: State) -> None:
            for object_id in object_ids:
                known = state.object(bucket, object_id)
                if known is not None and known.state == "writing":
                    del state.buckets[bucket].objects[object_id]

        await self._store.visit(effect)
