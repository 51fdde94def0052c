"""A lease that is kept: few questions to Redis, and never two holders."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.errors import MetadataUnavailable
from common.meta.memory import MemoryMetadata
from router.leasing import KeptLease
from tests.node_kit import play
from tests.simulation.loop import World

LEASE_MS = 60_000


class Asked:
    """Counts the questions; answers none of them while Redis is away."""

    def __init__(self, leases: Any) -> None:
        self.leases = leases
        self.questions = 0
        self.away = False

    async def acquire(self, *args: Any) -> bool:
        self.questions += 1
        if self.away:
            raise MetadataUnavailable("Redis does not answer")
        return bool(await self.leases.acquire(*args))


def kept(asked: Asked, holder: str) -> KeptLease:
    meta: Any = type("Meta", (), {"leases": asked})
    return KeptLease(meta, "walk", holder, LEASE_MS)


def test_it_is_renewed_after_a_third_of_its_time() -> None:
    async def main(world: World) -> None:
        asked = Asked(MemoryMetadata(world.clock).leases)
        lease = kept(asked, "r0")
        for second in range(60):
            assert await lease.held()
            assert asked.questions == second // 20 + 1
            await asyncio.sleep(1)

    play(main)


def test_only_one_holds_it_and_the_next_gets_it_when_it_runs_out() -> None:
    async def main(world: World) -> None:
        asked = Asked(MemoryMetadata(world.clock).leases)
        one, other = kept(asked, "r0"), kept(asked, "r1")
        assert await one.held()
        assert not await other.held()
        await asyncio.sleep(19)
        assert await one.held()
        await asyncio.sleep(LEASE_MS / 1000 - 19 + 1)
        assert await other.held()
        assert not await one.held(), "it asks, as its time is over"

    play(main)


def test_what_could_not_be_renewed_is_asked_for_again() -> None:
    async def main(world: World) -> None:
        asked = Asked(MemoryMetadata(world.clock).leases)
        lease = kept(asked, "r0")
        assert await lease.held()
        await asyncio.sleep(20)
        asked.away = True
        with pytest.raises(MetadataUnavailable):
            await lease.held()
        asked.away = False
        assert await lease.held()
        assert asked.questions == 3

    play(main)
