"""Records that putters missed, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.meta.handoff import Lacking, Missed
from common.meta.memory_state import State, Visited
from common.meta.values import token


class MemoryHandOff:
    """`common.meta.handoff.HandOff` in memory."""

    def __init__(self, store: Visited) -> None:
        self._store = store

    async def note(self, missed: Sequence[Missed]) -> None:
        """Putters lack records."""
        for each in missed:
            token(each.node)

        def effect(state: State) -> None:
            for each in missed:
                state.bucket(each.bucket).missed.setdefault((each.node, each.stamp), each)

        await self._store.visit(effect)

    async def lacking(self) -> Mapping[str, Lacking]:
        """How much each putter lacks; only those that lack something."""

        def effect(state: State) -> Mapping[str, Lacking]:
            found: dict[str, Lacking] = {}
            for bucket in state.buckets.values():
                for each in bucket.missed.values():
                    so_far = found.get(each.node, Lacking())
                    found[each.node] = Lacking(so_far.records + 1, so_far.size + len(each.body))
            return found

        return await self._store.visit(effect)

    async def missed(self, node: str, limit: int, after: str = "") -> list[Missed]:
        """Some of what a putter lacks, by bucket and stamp in their order."""
        if limit < 1:
            raise ValueError(f"a limit is 1 or more, not {limit}")

        def effect(state: State) -> list[Missed]:
            found = [
                each
                for bucket in state.buckets.values()
                for each in bucket.missed.values()
                if each.node == node and each.place.split(" ") > after.split(" ")
            ]
            return sorted(found, key=lambda each: each.place.split(" "))[:limit]

        return await self._store.visit(effect)

    async def given(self, missed: Sequence[Missed]) -> None:
        """Putters have these records now, or need them no more."""

        def effect(state: State) -> None:
            for each in missed:
                if each.bucket in state.buckets:
                    state.buckets[each.bucket].missed.pop((each.node, each.stamp), None)

        await self._store.visit(effect)
