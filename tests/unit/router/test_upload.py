"""What one object under way tells Redis."""

from __future__ import annotations

import asyncio

import pytest

from common.meta.interface import Progress
from common.meta.memory_tables import MemoryObjects
from router.blocks import Block
from router.upload import Upload
from tests.node_kit import play
from tests.router_kit import Store, payload
from tests.simulation.loop import World


@pytest.mark.parametrize("delays", [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
def test_what_was_true_earlier_does_not_arrive_later(
    delays: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two detours of one object are announced; the first announcement travels slowly."""
    progress = MemoryObjects.progress
    pauses = list(delays)
    arrived: list[tuple[str, ...] | None] = []

    async def slow(self: MemoryObjects, item: Progress) -> bool:
        await asyncio.sleep(pauses.pop(0))
        arrived.append(item.nodes)
        return await progress(self, item)

    async def main(world: World) -> None:
        store = await Store(world, 2).start()
        writes = store.router.writes
        upload = Upload(writes, "photos", await writes.numbers.object_id(), store.policy)
        data = payload(5_000)
        await upload.begin(Block(memoryview(data), memoryview(data), None))
        monkeypatch.setattr(MemoryObjects, "progress", slow)
        await asyncio.gather(upload._announce("p8"), upload._announce("p9"))
        monkeypatch.undo()
        assert len(arrived) == 2
        state = await store.meta.objects.get(upload.object_id)
        assert state is not None
        assert set(state.nodes) == {"p0", "p1", "p8", "p9"}
        await upload.fail(forgotten=False)
        await store.stop()

    play(main, 1)
