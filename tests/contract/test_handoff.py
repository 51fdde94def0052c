"""What every coordinator promises about records without an object that putters missed."""

from __future__ import annotations

import pytest

from common.meta.handoff import Lacking, Missed
from tests.metadata_kit import BUCKET, World


def missed(node: str, stamp: int, body: bytes = b"a record", bucket: str = BUCKET) -> Missed:
    return Missed(node, bucket, stamp, ("n8", "n9"), body)


async def test_nobody_lacks_anything(world: World) -> None:
    assert await world.store.handoff.lacking() == {}
    assert await world.store.handoff.missed("n1", 10) == []
    await world.store.handoff.note([])
    await world.store.handoff.given([missed("n1", 5)])
    assert await world.store.handoff.lacking() == {}


async def test_what_is_noted_is_there_until_it_was_given(world: World) -> None:
    binary = bytes(range(256))
    noted = [missed("n1", 12, binary), missed("n1", 9), missed("n2", 9), missed("*", 9, b"")]
    await world.store.handoff.note(noted)
    assert await world.other.handoff.lacking() == {
        "n1": Lacking(2, 264),
        "n2": Lacking(1, 8),
        "*": Lacking(1, 0),
    }
    assert await world.other.handoff.missed("n1", 10) == [noted[1], noted[0]]
    assert await world.other.handoff.missed("*", 10) == [noted[3]]
    assert await world.other.handoff.missed("n", 10) == []
    await world.other.handoff.given([noted[1], noted[2]])
    assert await world.store.handoff.lacking() == {"n1": Lacking(1, 256), "*": Lacking(1, 0)}
    assert await world.store.handoff.missed("n1", 10) == [noted[0]]
    await world.other.handoff.given([noted[0], noted[0], noted[3]])
    assert await world.store.handoff.lacking() == {}


async def test_what_is_noted_twice_counts_once(world: World) -> None:
    await world.store.handoff.note([missed("n1", 5), missed("n1", 5)])
    await world.other.handoff.note([missed("n1", 5, b"as found elsewhere")])
    assert await world.store.handoff.lacking() == {"n1": Lacking(1, 8)}
    assert await world.store.handoff.missed("n1", 10) == [missed("n1", 5)]


async def test_who_holds_a_record_may_be_nobody(world: World) -> None:
    alone = Missed("n1", BUCKET, 5, (), b"x")
    await world.store.handoff.note([alone])
    assert await world.store.handoff.missed("n1", 1) == [alone]


async def test_pages_go_through_buckets_and_stamps_in_order(world: World) -> None:
    # As text 10 would come before 9.
    noted = [missed("n1", stamp, bucket=b) for b in ("cats", BUCKET, "zoo") for stamp in (9, 10)]
    await world.store.handoff.note(noted[::-1])
    found: list[Missed] = []
    after = ""
    while page := await world.other.handoff.missed("n1", 2, after):
        found += page
        after = page[-1].place
    assert found == noted
    assert await world.other.handoff.missed("n1", 100, noted[2].place) == noted[3:]
    assert await world.other.handoff.missed("n1", 100, f"{BUCKET} {8:020}") == noted[2:]


async def test_more_than_one_call_looks_at(world: World) -> None:
    noted = [missed("n1", stamp, b"") for stamp in range(1, 1_203)]
    await world.store.handoff.note(noted)
    assert await world.other.handoff.missed("n1", 5_000) == noted
    assert await world.other.handoff.missed("n1", 1_001) == noted[:1_001]
    await world.store.handoff.given(noted[:-1])
    assert await world.store.handoff.lacking() == {"n1": Lacking(1, 0)}


async def test_a_limit_and_a_putter_make_sense(world: World) -> None:
    with pytest.raises(ValueError, match="limit"):
        await world.store.handoff.missed("n1", 0)
    with pytest.raises(ValueError, match="identity"):
        await world.store.handoff.note([missed("n 1", 5)])


async def test_it_is_lost_with_everything_else(world: World) -> None:
    await world.store.handoff.note([missed("n1", 5)])
    world.lose()
    standing = await world.store.recovery.standing()
    assert await world.store.recovery.begin(standing.epoch, "now")
    assert await world.store.recovery.complete(standing, 0, "now")
    assert await world.store.handoff.lacking() == {}
