"""What every coordinator promises about access keys."""

from __future__ import annotations

import msgspec

from tests.metadata_kit import World, access_key


async def test_there_are_none_at_first(world: World) -> None:
    assert await world.store.access.get("AK") is None
    assert await world.store.access.every() == []


async def test_whoever_asks_gets_the_latest(world: World) -> None:
    access = world.store.access
    first = access_key(10)
    assert await access.change(first)
    assert await world.other.access.get("AK") == first
    second = access_key(12, sealed=b"", owner="")
    assert await world.other.access.change(second)
    assert await world.other.access.change(second), "once more is no change"
    assert not await access.change(access_key(11))
    assert await access.get("AK") == second
    assert await access.get("ak") is None


async def test_all_keys_by_id(world: World) -> None:
    keys = [access_key(10 + n, name) for n, name in enumerate(["ZZ", "a.b_c-d", "MM"])]
    for each in keys:
        assert await world.store.access.change(each)
    assert await world.other.access.every() == [keys[2], keys[0], keys[1]]


async def test_they_are_in_no_bucket_that_anybody_sees(world: World) -> None:
    await world.store.access.change(access_key(10))
    assert await world.store.files.buckets() == []
    assert await world.store.buckets.names() == []
    assert await world.store.buckets.configured() == []


async def test_an_old_secret_is_kept_with_its_end(world: World) -> None:
    record = msgspec.structs.replace(
        access_key(10), former=b"\0former", former_with="0a1b2c3d", former_until_ms=2**45
    )
    assert await world.store.access.change(record)
    assert await world.other.access.get("AK") == record
