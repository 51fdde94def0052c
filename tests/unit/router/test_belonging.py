"""What names a putter that does not belong to the cluster any more does not wait for it."""

from __future__ import annotations

import asyncio

from common.membership import Decision
from tests.router_kit import Store
from tests.unit.router.test_vacate import (
    AWAY_MS,
    all_paid,
    filled,
    nodes_of,
    version_of,
    with_store,
)


def surplus_on(store: Store, node: str) -> list[str]:
    buckets = store.meta.snapshot().buckets.values()
    return [each for bucket in buckets for home, each in bucket.surplus if home == node]


def test_the_surplus_of_one_that_is_gone_is_forgotten() -> None:
    async def scene(store: Store) -> None:
        await filled(store)
        await store.putters[0].crash()
        await asyncio.sleep(AWAY_MS / 1000 + 20)
        await all_paid(store)
        assert surplus_on(store, "p0")
        await asyncio.sleep(120)
        await store.router.repair.round()
        assert surplus_on(store, "p0"), "it may come back"
        assert await store.meta.members.declare("p0", Decision.GONE)
        await asyncio.sleep(10)
        await store.router.repair.round()
        assert not surplus_on(store, "p0")

    with_store(scene)


def test_one_that_nobody_knows_is_replaced_and_not_waited_for() -> None:
    """As after a rebuild without it."""

    async def scene(store: Store) -> None:
        data = await filled(store)
        await store.putters[0].crash()
        await store.meta.members.leave("p0")
        await store.meta.recovery.forget("p0")
        for key in ("k00", "k01", "k02", "k03"):
            assert await store.router.writes.delete("photos", key)
            del data[key]
        await asyncio.sleep(AWAY_MS / 2000)
        await store.router.janitor.round()
        assert await store.meta.objects.to_free(10)
        assert await store.meta.repairs.debts() == {}
        await asyncio.sleep(AWAY_MS / 1000 + 20)
        await all_paid(store)
        await store.router.janitor.round()
        assert await store.meta.objects.to_free(10) == []
        for key, body in data.items():
            assert nodes_of(await version_of(store, key)) == {"p1", "p2"}
            assert await store.read(key) == body

    with_store(scene)


def test_one_that_nobody_knew_may_come_back() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        await store.putters[0].crash()
        await store.meta.members.leave("p0")
        await store.meta.recovery.forget("p0")
        assert await store.router.writes.delete("photos", "k00")
        del data["k00"]
        await asyncio.sleep(AWAY_MS / 1000 + 20)
        await all_paid(store)
        await store.router.janitor.round()
        await store.putters[0].start()
        await asyncio.sleep(20)
        await all_paid(store)
        page = await store.meta.files.list("photos", "", "", 100)
        assert {entry.key for entry in page.entries} == data.keys()
        for key, body in data.items():
            assert await store.read(key) == body
        await store.write(b"new", "new")

    with_store(scene)
