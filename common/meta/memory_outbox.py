"""Events that wait for their delivery, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from common.meta.memory_state import Bucket, State, Visited
from common.meta.outbox import Post, Queue, Waiting


class MemoryOutbox:
    """`common.meta.outbox.Outbox` in memory."""

    def __init__(self, store: Visited) -> None:
        self._store = store

    async def post(self, bucket: str, posts: Sequence[Post]) -> None:
        """Let events wait that come with no change."""

        def effect(state: State) -> None:
            for each in posts:
                state.post(bucket, each)

        await self._store.visit(effect)

    async def buckets(self) -> list[str]:
        """The buckets in which events wait, sorted."""
        return await self._store.visit(
            lambda state: sorted(name for name, each in state.buckets.items() if each.events)
        )

    async def queues(self, bucket: str) -> list[Queue]:
        """The targets for which events of a bucket wait, or had to go, by name."""

        def effect(state: State) -> list[Queue]:
            known = state.buckets.get(bucket, Bucket())
            waiting = Counter(target for target, _ in known.events)
            return [
                Queue(target, waiting[target], known.dropped.get(target, 0))
                for target in sorted({*waiting, *known.dropped})
            ]

        return await self._store.visit(effect)

    async def first(self, bucket: str, target: str, limit: int) -> list[Waiting]:
        """The events that wait for a target the longest, in order; they go on waiting."""

        def effect(state: State) -> list[Waiting]:
            events = sorted(state.buckets.get(bucket, Bucket()).events.items())
            mine = [Waiting(number, body) for (to, number), body in events if to == target]
            return mine[:limit]

        return await self._store.visit(effect)

    async def done(self, bucket: str, target: str, numbers: Sequence[int]) -> None:
        """Events are delivered: they wait no more."""

        def effect(state: State) -> None:
            events = state.buckets.get(bucket, Bucket()).events
            for number in numbers:
                events.pop((target, number), None)

        await self._store.visit(effect)

    async def forward(
        self, stream: str, entries: Sequence[Mapping[str, bytes]], length_max: int
    ) -> None:
        """Add entries to a stream of the coordinator itself, in order."""

        def effect(state: State) -> None:
            kept = [*state.streams.get(stream, []), *(dict(each) for each in entries)]
            state.streams[stream] = kept[-length_max:]

        await self._store.visit(effect)
