"""Tags of files that are there: durable, described anew, undone by nobody."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import msgspec
import pytest

from common.errors import NodesUnavailable, NotFound, WriteConflict
from common.locks import UNLOCKED, Lock
from common.meta.outbox import Post
from common.meta.repairs import Described
from common.records import Acl, Version
from router import relock
from router.quorum import Consistency, Policy
from tests.router_kit import FRAME, SimPutter, Store, payload
from tests.unit.router.test_repair import (
    back,
    lose,
    nodes_of,
    owed_of,
    repair,
    version_of,
    with_store,
)

SIZES = [0, FRAME, 200_000]
NOTHING: tuple[dict[str, str], Lock] = ({}, UNLOCKED)


def described(putter: SimPutter, key: str = "cat") -> list[Version]:
    found = [each for each in putter.records if isinstance(each, Version) and each.key == key]
    return sorted(found, key=lambda each: each.tagged)


async def tag(store: Store, router: int = 0, key: str = "cat", **tags: str) -> Version:
    return await store.routers[router].retag.change(lambda: version_of(store, key), tags)


async def change(store: Store, what: str) -> Version:
    """A change of tags, or of the lock."""
    if what == "tags":
        return await tag(store, a="1")
    retag = store.router.retag
    return await retag.describe(
        lambda: version_of(store, "cat"), lambda version, stamp: relock.held(version, "ON", stamp)
    )


def said(version: Version) -> tuple[dict[str, str], Lock]:
    return version.tags, version.lock


async def share(store: Store, acl: str, router: int = 0, key: str = "cat") -> Version:
    def described(version: Version, stamp: int) -> Version:
        return msgspec.structs.replace(version, acl=Acl(acl, stamp))

    return await store.routers[router].retag.describe(lambda: version_of(store, key), described)


async def rebuilt(store: Store) -> None:
    """Redis lost everything, and has it again."""
    store.meta.wipe(f"anew-{store.world.clock.monotonic_ms()}")
    while not (await store.meta.recovery.standing()).complete:
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("size", SIZES)
def test_a_change_is_durable_and_changes_nothing_else(size: int) -> None:
    async def scene(store: Store) -> None:
        body = payload(size)
        before = (await store.write(body, tags={"a": "1"})).version
        assert before.tags == {"a": "1"}
        tickets = [putter.tickets for putter in store.putters]
        after = await tag(store, b="2")
        assert after == msgspec.structs.replace(before, tags={"b": "2"}, tagged=after.tagged)
        assert after.tagged > before.stamp
        assert await version_of(store, "cat") == after
        assert [described(putter)[-1] for putter in store.putters] == [after, after]
        assert [putter.tickets for putter in store.putters] == tickets
        again = await tag(store, b="2")
        assert again == after, "the same once more writes nothing"
        assert len(described(store.putters[0])) == 2
        for tags in ({}, {"c": "3"}):
            last = await tag(store, **tags)
            await rebuilt(store)
            assert await version_of(store, "cat") == last
            assert await store.read() == body

    with_store(scene, putters=2)


def test_a_name_that_holds_nothing_gets_none() -> None:
    async def scene(store: Store) -> None:
        with pytest.raises(NotFound):
            await tag(store, a="1")
        await store.write(b"x")
        await store.router.writes.delete("photos", "cat")
        with pytest.raises(NotFound):
            await tag(store, a="1")

    with_store(scene, putters=2)


def test_records_go_with_the_object() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(FRAME))
        await lose(store, 0)
        await tag(store, a="1")
        await back(store, 0)
        await repair(store)
        await store.router.writes.delete("photos", "cat")
        await store.clean()
        for putter in store.putters:
            assert described(putter) == []

    with_store(scene, putters=3)


def test_changes_at_the_same_time_through_two_routers_leave_the_last_one() -> None:
    async def scene(store: Store) -> None:
        await store.add_router()
        await store.write(payload(FRAME))
        done = await asyncio.gather(*(tag(store, n % 2, n=str(n)) for n in range(4)))
        held = await version_of(store, "cat")
        assert held == max(done, key=lambda each: each.tagged)
        assert sorted(each.tags["n"] for each in done) == ["0", "1", "2", "3"]
        await rebuilt(store)
        assert await version_of(store, "cat") == held

    with_store(scene, putters=2)


def test_a_name_that_others_change_for_ever_is_given_up() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(FRAME))
        at = store.meta.repairs.at

        async def at_once_other(bucket: str, key: str) -> Described | None:
            found = await at(bucket, key)
            await store.write(payload(FRAME))
            return found

        with patch.object(store.meta.repairs, "at", at_once_other), pytest.raises(WriteConflict):
            await tag(store, a="1")
        assert (await version_of(store, "cat")).tags == {}

    with_store(scene, putters=2)


@pytest.mark.parametrize("size", [FRAME, 2_000_000])
@pytest.mark.parametrize("first", ["repair", "change"])
@pytest.mark.parametrize("what", ["tags", "lock"])
def test_a_repair_at_the_same_time_undoes_nothing_and_is_not_undone(
    size: int, first: str, what: str
) -> None:
    """Both have made their records durable; one of them is told to Redis first."""

    async def scene(store: Store) -> None:
        await lose(store, 0)
        while "p0" not in owed_of((await store.write(payload(size))).version):
            pass
        await back(store, 0)
        amend = store.meta.repairs.amend
        waiting: dict[str, asyncio.Event] = {"repair": asyncio.Event(), "change": asyncio.Event()}
        go_on = asyncio.Event()

        async def slow(token: bytes, version: Version, post: Post | None = None) -> bool:
            who = "repair" if said(version) == NOTHING else "change"
            waiting[who].set()
            await (waiting["change" if who == "repair" else "repair"]).wait()
            if who != first:
                await go_on.wait()
            try:
                return await amend(token, version, post)
            finally:
                go_on.set()

        with patch.object(store.meta.repairs, "amend", slow):
            changing = asyncio.ensure_future(change(store, what))
            await waiting["change"].wait()
            await store.router.repair.round()
            expected = said(await changing)
        held = await version_of(store, "cat")
        assert said(held) == expected != NOTHING
        if first == "repair":
            assert nodes_of(held) == {"p0", *nodes_of(held)}
            assert not owed_of(held)
        await rebuilt(store)
        again = await version_of(store, "cat")
        assert said(again) == expected, "whichever record has the higher stamp"
        await repair(store)
        last = await version_of(store, "cat")
        assert said(last) == expected
        assert "p0" in nodes_of(last)
        assert not owed_of(last)
        assert await store.read() == payload(size)

    with_store(scene)


@pytest.mark.parametrize("what", ["tags", "lock"])
def test_what_changes_while_much_is_copied_does_not_stop_the_repair(what: str) -> None:
    async def scene(store: Store) -> None:
        await lose(store, 0)
        while "p0" not in owed_of((await store.write(payload(2_000_000))).version):
            pass
        await back(store, 0)
        keep = store.router.repair._replicas.keep_record
        copy = store.router.repair._copier.copy
        copies = 0

        async def while_copied(*args: object) -> None:
            nonlocal copies
            copies += 1
            await copy(*args)  # type: ignore[arg-type]
            await change(store, what)

        with patch.object(store.router.repair._copier, "copy", while_copied):
            await store.router.repair.round()
        assert keep is not None
        held = await version_of(store, "cat")
        assert copies == 1
        assert said(held) != NOTHING
        assert owed_of(held) == {}
        assert held.revision > max(held.tagged, held.lock.held)
        await rebuilt(store)
        again = await version_of(store, "cat")
        assert (said(again), nodes_of(again)) == (said(held), nodes_of(held))

    with_store(scene)


def test_a_putter_that_was_away_gets_the_tags_and_another_one_keeps_them_meanwhile() -> None:
    async def scene(store: Store) -> None:
        homes = nodes_of((await store.write(payload(FRAME))).version)
        away = min(homes)
        number = int(away[1])
        await lose(store, number)
        after = await tag(store, a="1")
        holders = {each.name for each in store.putters if after in described(each)}
        assert len(holders) == 2, "W of them, as for everything"
        assert away not in holders
        assert (await store.meta.handoff.lacking()).keys() == {away}
        await back(store, number)
        await repair(store)
        assert await store.meta.handoff.lacking() == {}
        assert described(store.putters[number])[-1] == after

    with_store(scene)


def test_what_was_missed_of_an_object_that_is_gone_is_given_to_nobody() -> None:
    async def scene(store: Store) -> None:
        homes = nodes_of((await store.write(payload(FRAME))).version)
        number = int(min(homes)[1])
        await lose(store, number)
        await tag(store, a="1")
        await store.write(payload(FRAME, "new"))
        await back(store, number)
        await repair(store)
        assert await store.meta.handoff.lacking() == {}
        assert not [each for each in described(store.putters[number]) if each.tags]

    with_store(scene)


@pytest.mark.parametrize("consistency", ["strict", "available"])
def test_with_too_few_putters_strict_refuses_and_available_does_not(
    consistency: Consistency,
) -> None:
    async def scene(store: Store) -> None:
        before = (await store.write(payload(FRAME))).version
        await lose(store, 0)
        if consistency == "strict":
            with pytest.raises(NodesUnavailable):
                await tag(store, a="1")
            assert await version_of(store, "cat") == before
            return
        after = await tag(store, a="1")
        assert await version_of(store, "cat") == after
        assert (await store.meta.handoff.lacking()).keys() == {"p0"}

    with_store(scene, putters=2, policy=Policy(2, 2, consistency))


def test_a_comparison_of_inventories_finds_nothing_wrong() -> None:
    async def scene(store: Store) -> None:
        for n, size in enumerate(SIZES):
            await store.write(payload(size), f"k{n}")
            await tag(store, key=f"k{n}", a="1")
        assert await store.router.audit.ask()
        while store.router.audit.found is not None:
            await asyncio.sleep(0.1)
        last = store.router.audit.last
        assert last is not None
        assert (last.found.objects, last.found.records, last.found.bare) == (0, 0, 0)

    with_store(scene, putters=2)


@pytest.mark.parametrize("size", SIZES)
def test_of_several_versions_only_the_one_that_is_found_gets_them(size: int) -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(size), tags={"old": "1"})
        null = await version_of(store, "cat")
        await store.router.configure.change("photos", {"versioning": "Enabled"})
        await store.write(payload(size, "new"))
        after = await tag(store, new="2")
        assert after.bucket != "photos", "it is where versions are"
        assert await version_of(store, "cat") == after
        held = await store.meta.repairs.at("photos", "cat")
        assert held is not None
        assert held.version == null
        await rebuilt(store)
        assert await version_of(store, "cat") == after
        assert await store.read() == payload(size, "new")

    with_store(scene, putters=2)


def test_an_acl_and_tags_that_change_at_once_are_both_there() -> None:
    async def scene(store: Store) -> None:
        await store.add_router()
        before = (await store.write(b"x", acl="public-read")).version
        assert before.acl == Acl("public-read")
        await asyncio.gather(tag(store, a="1"), share(store, "", 1), tag(store, 1, b="2"))
        after = await version_of(store, "cat")
        assert (after.acl.name, len(after.tags)) == ("", 1)
        assert after.acl.stamp > before.stamp
        await rebuilt(store)
        assert await version_of(store, "cat") == after

    with_store(scene, putters=2)
