"""Deletions, files without a byte and aborts reach putters that were away."""

from __future__ import annotations

import asyncio

from common.limits import MIB
from common.membership import Decision
from common.meta.handoff import Lacking
from common.records import ANYONE, Abort, BucketSettings, CommitRecord, Tombstone, Version
from router.handoff import debtors_of
from tests.router_kit import SimPutter, Store, metric, payload
from tests.unit.router.test_repair import back, lose, repair, with_store


def bare(putter: SimPutter, kind: type[CommitRecord] | tuple[type, ...]) -> set[str]:
    """The keys of the records without an object that a putter holds, of a kind."""
    return {
        record.key
        for record in putter.records
        if isinstance(record, kind)
        and not getattr(record, "objects", ())
        and not getattr(record, "object_id", "")
    }


async def lacking(store: Store) -> dict[str, int]:
    return {node: each.records for node, each in (await store.meta.handoff.lacking()).items()}


def test_a_putter_that_was_away_gets_the_deletions_it_missed() -> None:
    async def scene(store: Store) -> None:
        for n in range(30):
            await store.write(payload(50, n), f"k{n}")
        await lose(store, 0)
        for n in range(30):
            assert await store.router.writes.delete("photos", f"k{n}")
        owed = await store.meta.handoff.missed("p0", 100)
        assert 5 < len(owed) < 30, "those that its share of the names is"
        assert await lacking(store) == {"p0": len(owed)}
        refill = store.router.repair.refills
        assert not bare(store.putters[0], Tombstone)
        await store.router.repair.round()
        assert refill()["p0"].lacking == Lacking(len(owed), sum(len(e.body) for e in owed))
        assert metric(store.router.metrics, "putter_owed_records") == len(owed)

        await back(store, 0)
        await repair(store)
        assert await lacking(store) == {}
        assert refill() == {}
        assert len(bare(store.putters[0], Tombstone)) == len(owed), "just what it missed"
        assert metric(store.router.metrics, "putter_handed_records_total") == len(owed)
        assert metric(store.router.metrics, "putter_owed_records") == 0
        await store.clean()
        for putter in store.putters:
            assert not putter.tickets, "and what was deleted is freed there, too"

    with_store(scene)


def test_more_than_one_message_holds_is_given_in_several() -> None:
    async def scene(store: Store) -> None:
        await lose(store, 0)
        for n in range(40):
            await store.router.configure.change(f"b{n:02}", {"words": "x" * 250_000})
        owed = (await store.meta.handoff.lacking())["p0"]
        assert owed.size > 4 * MIB
        await back(store, 0)
        await repair(store)
        assert await lacking(store) == {}
        kept = [each for each in store.putters[0].records if isinstance(each, BucketSettings)]
        assert len(kept) == owed.records

    with_store(scene)


def test_nothing_is_owed_while_all_are_there() -> None:
    async def scene(store: Store) -> None:
        for n in range(10):
            await store.write(payload(50, n), f"k{n}")
            await store.router.writes.delete("photos", f"k{n}")
            await store.write(b"", f"e{n}")
        assert await lacking(store) == {}
        held = [bare(putter, (Tombstone, Version)) for putter in store.putters]
        assert sum(map(len, held)) == 2 * 20

    with_store(scene)


def test_a_file_without_a_byte() -> None:
    async def scene(store: Store) -> None:
        await lose(store, 0)
        for n in range(20):
            await store.write(b"", f"e{n}")
        owed = {each.stamp for each in await store.meta.handoff.missed("p0", 100)}
        assert owed
        versions = [await store.router.reads.resolve("photos", f"e{n}") for n in range(20)]
        for version in versions:
            expected = ["p0"] if version.stamp in owed else []
            assert await debtors_of(store.meta, "photos", version.stamp) == expected
        await back(store, 0)
        await repair(store)
        missed = {version.key for version in versions if version.stamp in owed}
        assert bare(store.putters[0], Version) == missed
        for n in range(20):
            assert await store.read(f"e{n}") == b""

    with_store(scene)


def test_an_abort_of_a_file_without_a_byte() -> None:
    async def scene(store: Store) -> None:
        await lose(store, 0)
        for n in range(12):
            version = Version("photos", f"k{n}", 5 + n, 0, "e", 0, ())
            await store.router.writes.take_back([version])
        owed = await lacking(store)
        assert set(owed) == {"p0"}
        await back(store, 0)
        await repair(store)
        assert await lacking(store) == {}
        assert len(bare(store.putters[0], Abort)) == owed["p0"]

    with_store(scene)


def test_the_abort_of_an_object_is_not_owed() -> None:
    """It goes with the object, wherever that was freed."""

    async def scene(store: Store) -> None:
        written = await store.write(b"x", "cat")
        await lose(store, 0)
        await store.router.writes.take_back([written.version])
        assert await lacking(store) == {}
        assert sum(isinstance(r, Abort) for p in store.putters for r in p.records) >= 1

    with_store(scene)


def test_one_putter_that_was_alone_shares_what_it_has() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(50, 1), "cat")
        await lose(store, 1)
        assert await store.router.writes.delete("photos", "cat")
        await store.write(b"", "empty")
        assert await lacking(store) == {"p1": 2}
        await back(store, 1)
        await repair(store)
        for putter in store.putters:
            assert bare(putter, Tombstone) == {"cat"}
            assert bare(putter, Version) == {"empty"}

    with_store(scene, putters=2)


def test_a_second_putter_that_comes_for_the_first_time() -> None:
    async def scene(store: Store) -> None:
        await lose(store, 1)
        store.meta.wipe("another-run")  # as if nobody had ever heard of it
        await store.router.catch_up.ensure(60_000)
        await store.write(b"", "empty")
        found = await lacking(store)
        assert sum(found.values()) == 1
        await back(store, 1)
        await repair(store)
        assert await lacking(store) == {}
        assert bare(store.putters[1], Version) == {"empty"}

    with_store(scene, putters=2)


def test_what_a_putter_that_is_gone_missed_goes_to_another_one() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"x", "cat")
        await lose(store, 0)
        await lose(store, 1)
        for n in range(12):
            await store.write(b"", f"e{n}")
        before = await lacking(store)
        assert set(before) <= {"p0", "p1"}
        assert sum(before.values()) >= 12
        await back(store, 1)
        assert await store.meta.members.declare("p0", Decision.GONE)
        await asyncio.sleep(3)
        await store.router.vacate.round()
        await repair(store)
        assert await lacking(store) == {}
        for putter in store.putters[1:]:
            assert bare(putter, Version) == {f"e{n}" for n in range(12)}

    with_store(scene)


def test_nothing_is_forgotten_that_a_putter_does_not_take() -> None:
    async def scene(store: Store) -> None:
        await lose(store, 0)
        for n in range(12):
            await store.write(b"", f"e{n}")
        before = await lacking(store)
        assert set(before) == {"p0"}
        while await store.router.repair.round():
            pass
        assert await lacking(store) == before

    with_store(scene)


def test_debts_to_nobody_in_particular_wait_for_a_further_putter() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"", "empty")
        assert await lacking(store) == {ANYONE: 1}
        await store.router.repair.round()
        assert await lacking(store) == {ANYONE: 1}

    with_store(scene, putters=1)


def test_deleted_stays_deleted_although_who_kept_the_deletion_is_lost() -> None:
    """The old version is on the putter that was away; the others know that it was deleted."""

    async def scene(store: Store) -> None:
        for n in range(12):
            await store.write(payload(50, n), f"k{n}")
        await lose(store, 0)
        for n in range(12):
            await store.router.writes.delete("photos", f"k{n}")
        await back(store, 0)
        await repair(store)
        # Whoever is lost now, the others know of each deletion.
        for number in (1, 2):
            left = [p for p in store.putters if p is not store.putters[number]]
            known = set().union(*(bare(putter, Tombstone) for putter in left))
            assert known == {f"k{n}" for n in range(12)}

    with_store(scene)
