"""Settings of a bucket, changed: durable first, one after the other, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.errors import MetadataUnavailable, NodesUnavailable, UsageError, WriteConflict
from common.membership import Decision
from common.records import BucketSettings
from router.configure import Configure
from router.quorum import Policy
from tests.node_kit import play, until
from tests.router_kit import Store
from tests.simulation.loop import World


def with_store(scene: Callable[[Store], Awaitable[None]], putters: int = 3, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **({"policy": Policy(2, 2)} | options)).start(2)
        await scene(store)
        await store.stop()

    play(main)


def configure(store: Store, router: int = 0) -> Configure:
    return store.routers[router].configure


def kept(store: Store) -> list[BucketSettings]:
    """The records of settings that putters hold, each as often as it is held."""
    found = [each for putter in store.putters for each in putter.records]
    return [each for each in found if isinstance(each, BucketSettings)]


def test_a_change_is_durable_before_it_counts() -> None:
    async def scene(store: Store) -> None:
        done = await configure(store).change("photos", {"replicas": 3})
        assert done is not None
        assert done.record.settings == {"replicas": 3}
        assert kept(store) == [done.record] * 2
        held = await store.meta.buckets.get("photos")
        assert held is not None
        assert held.record == done.record
        assert (await store.router.policies.of("photos")).replicas == 3, "at once, in this router"

    with_store(scene)


def test_what_is_not_named_stays_also_what_nobody_here_knows() -> None:
    async def scene(store: Store) -> None:
        stamp = await store.router.numbers.stamp()
        later = {"lifecycle": [{"days": 7}], "replicas": 3, "consistency": "strict"}
        await store.meta.buckets.change(BucketSettings("photos", stamp, 0, later))
        done = await configure(store).change("photos", {"replicas": None, "write_quorum": 1})
        assert done is not None
        assert done.record.settings == {
            "lifecycle": [{"days": 7}],
            "consistency": "strict",
            "write_quorum": 1,
        }
        assert done.record.stamp > stamp

    with_store(scene)


def test_what_no_file_follows_starts_no_walk() -> None:
    async def scene(store: Store) -> None:
        async def followed() -> bool:
            held = await store.meta.buckets.get("photos")
            assert held is not None
            return held.followed == held.record.stamp

        done = await configure(store).change("photos", {"words": 1})
        assert done is not None
        assert not await followed(), "nobody looked at its files yet"
        await store.meta.buckets.followed("photos", done.record.stamp)
        done = await configure(store).change("photos", {"words": 2})
        assert done is not None
        assert done.followed == done.record.stamp
        assert await followed()
        await configure(store).change("photos", {"words": 3, "replicas": 3})
        assert not await followed()
        await configure(store).change("photos", {"words": 4})
        assert not await followed(), "the change before is still to be followed"

    with_store(scene)


def test_a_change_that_changes_nothing_writes_nothing() -> None:
    async def scene(store: Store) -> None:
        assert await configure(store).change("photos", {"replicas": None}) is None
        assert kept(store) == []
        first = await configure(store).change("photos", {"replicas": 3})
        assert await configure(store).change("photos", {"replicas": 3}) == first
        assert len(kept(store)) == 2

    with_store(scene)


@pytest.mark.parametrize(
    "changes", [{"write_quorum": 3}, {"replicas": 1, "read_quorum": 2}, {"replicas": 0}]
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    async def scene(store: Store) -> None:
        with pytest.raises(UsageError):
            await configure(store).change("photos", changes)
        assert kept(store) == []
        assert await store.meta.buckets.get("photos") is None

    with_store(scene)


def test_what_contradicts_what_was_set_before_is_refused() -> None:
    async def scene(store: Store) -> None:
        await configure(store).change("photos", {"replicas": 3, "write_quorum": 3})
        with pytest.raises(UsageError, match="write_quorum 3 is more than the bucket's replicas 2"):
            await configure(store).change("photos", {"replicas": 2})

    with_store(scene)


def test_changes_at_the_same_time_through_several_routers_all_count() -> None:
    async def scene(store: Store) -> None:
        changes = [{"replicas": 3}, {"write_quorum": 1}, {"consistency": "strict"}, {"other": 7}]
        await asyncio.gather(
            *(configure(store, n % 2).change("photos", each) for n, each in enumerate(changes))
        )
        held = await store.meta.buckets.get("photos")
        assert held is not None
        assert held.record.settings == {k: v for each in changes for k, v in each.items()}
        assert len({each.stamp for each in kept(store)}) == 4

    with_store(scene)


def test_whoever_changes_them_for_ever_is_not_waited_for() -> None:
    async def scene(store: Store) -> None:
        assert await store.meta.leases.acquire("bucket/photos", "somebody", 10**6)
        with pytest.raises(WriteConflict, match="another change"):
            await configure(store).change("photos", {"replicas": 3})
        assert kept(store) == []

    with_store(scene)


def test_with_too_few_putters_a_strict_store_refuses() -> None:
    async def scene(store: Store) -> None:
        await store.putters[0].crash()
        await until(lambda: len(store.router.fleet.up()) == 1)
        with pytest.raises(NodesUnavailable):
            await configure(store).change("photos", {"replicas": 1})
        assert await store.meta.buckets.get("photos") is None

    with_store(scene, 2, policy=Policy(2, 2, "strict"))


def test_a_putter_that_is_away_gets_the_record_later() -> None:
    async def scene(store: Store) -> None:
        await store.putters[1].crash()
        await until(lambda: len(store.router.fleet.up()) == 1)
        done = await configure(store).change("photos", {"replicas": 1})
        assert done is not None
        assert kept(store) == [done.record]
        await store.putters[1].start()
        await until(lambda: len(store.router.fleet.up()) == 2, 30)
        await store.router.repair.round()
        assert kept(store) == [done.record] * 2

    with_store(scene, 2)


def test_a_change_that_redis_did_not_hear_of_is_not_lost() -> None:
    """It is durable, so it comes true: nobody can tell whether somebody was told of it."""

    async def scene(store: Store) -> None:
        change = store.meta.buckets.change

        async def away(record: BucketSettings) -> bool:
            raise MetadataUnavailable("away")

        store.meta.buckets.change = away  # type: ignore[method-assign]
        with pytest.raises(MetadataUnavailable):
            await configure(store).change("photos", {"replicas": 3})
        store.meta.buckets.change = change  # type: ignore[method-assign]
        assert await store.meta.buckets.get("photos") is None
        [record, *_] = kept(store)
        watermark = store.router.watermark
        while not await watermark.round():
            await asyncio.sleep(5)
        held = await store.meta.buckets.get("photos")
        assert held is not None
        assert held.record == record

    with_store(scene)


def test_a_putter_that_is_emptied_hands_its_record_on() -> None:
    async def scene(store: Store) -> None:
        done = await configure(store).change("photos", {"replicas": 3})
        assert done is not None
        holder = next(each for each in store.putters if done.record in each.records)
        assert await store.meta.members.declare(holder.name, Decision.DRAINING)
        await asyncio.sleep(2)
        await store.router.vacate.round()
        others = [each for each in store.putters if each is not holder]
        assert [done.record in each.records for each in others] == [True, True]

    with_store(scene)


def test_after_redis_lost_everything_the_settings_are_back() -> None:
    async def scene(store: Store) -> None:
        await configure(store).change("photos", {"replicas": 3, "other": [1, None]})
        await configure(store).change("files", {"replicas": 1})
        last = await configure(store).change("photos", {"consistency": "strict"})
        assert last is not None
        store.meta.wipe("run-2")
        await store.router.catch_up.ensure(30_000)
        held = await store.meta.buckets.get("photos")
        assert held is not None
        assert held.record == last.record
        assert await store.meta.buckets.names() == ["files", "photos"]
        done = await configure(store).change("photos", {"replicas": 2})
        assert done is not None
        assert done.record.stamp > last.record.stamp

    with_store(scene)
