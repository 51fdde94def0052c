"""The register in memory and the one in Redis judge any history of signs of life alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import fakeredis
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import ManualClock
from common.membership import Decision
from common.meta import members, memory_members
from common.meta.interface import Member, Metadata
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Mark
from common.meta.redis_store import RedisMetadata
from tests.metadata_kit import LONG_MS, complete

Step = Callable[[Metadata], Awaitable[Any]]
NODES = st.sampled_from(["n1", "n1", "n2"])
INSTANCES = st.sampled_from(["i1", "i2", "i3"])
SMALL = st.integers(0, 3)


def _beat(node: str, instance: str, host: str, starts: int, records: int, asks: bool) -> Step:
    member = Member(node, "putter", instance, host, 5000, starts=starts, records=records)
    return lambda store: store.members.heartbeat(member, asks=asks)


def _leave(node: str, instance: str) -> Step:
    return lambda store: store.members.leave(node, instance)


def _declare(node: str, decision: Decision | None) -> Step:
    return lambda store: store.members.declare(node, decision)


def _mark(node: str, number: int, here: bool) -> Step:
    async def mark(store: Metadata) -> bool:
        epoch = (await store.recovery.standing()).epoch
        mark = Mark(number, epoch if here else "")
        return await store.recovery.mark(epoch, {node: mark})

    return mark


STEPS = st.one_of(
    st.builds(_beat, NODES, INSTANCES, st.sampled_from("ab"), SMALL, SMALL, st.booleans()),
    st.builds(_beat, NODES, INSTANCES, st.sampled_from("ab"), SMALL, SMALL, st.booleans()),
    st.builds(_leave, NODES, INSTANCES | st.just("")),
    st.builds(_declare, NODES, st.sampled_from([None, *Decision])),
    st.builds(_mark, NODES, SMALL, st.booleans()),
)


async def everything(store: Metadata) -> list[Any]:
    """All that can be asked, but the time."""
    seen = await store.members.seen()
    marks = (await store.recovery.standing()).marks
    return [
        [(each.member, each.decision, each.applied) for each in seen],
        await store.members.decisions(),
        {node: mark.number for node, mark in marks.items()},
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_twins(steps: list[Step]) -> None:
    async def compare() -> None:
        memory = MemoryMetadata(ManualClock())
        fake = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(server_type="valkey"))
        redis = RedisMetadata(fake)
        await complete(redis)
        for step in steps:
            assert await step(memory) == await step(redis)
            assert await everything(memory) == await everything(redis)
        await redis.close()

    # However slow the machine is, nobody is lost while this runs.
    with (
        mock.patch.object(members, "MEMBER_LOST_MS", LONG_MS),
        mock.patch.object(memory_members, "MEMBER_LOST_MS", LONG_MS),
    ):
        asyncio.run(compare())
