"""What every coordinator promises about what may not be deleted."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from common.locks import Lock
from common.meta.interface import Metadata, Outcome
from common.meta.outcomes import UNGUARDED, Guard, Rank
from common.meta.recovery import Finding, Restored
from common.records import Version
from common.versions import version_name
from tests.contract.conftest import MakeWorld
from tests.contract.test_versions import KEPT, enable, kept, marker, put
from tests.metadata_kit import BUCKET, World, stored, tombstone, version

AHEAD_MS, PAST_MS = 4_000_000_000_000, 1_000
BYPASS = Guard(bypass=True)
LOCKS = [
    (Lock("COMPLIANCE", AHEAD_MS), False, False),
    (Lock("COMPLIANCE", PAST_MS), True, True),
    (Lock("GOVERNANCE", AHEAD_MS), False, True),
    (Lock("GOVERNANCE", PAST_MS), True, True),
    (Lock(hold="ON"), False, False),
    (Lock(hold="OFF"), True, True),
    (Lock("GOVERNANCE", AHEAD_MS, 7, "ON", 8), False, False),
    (Lock("GOVERNANCE", AHEAD_MS, 7, "OFF", 8), False, True),
    (Lock("COMPLIANCE", PAST_MS, 7, "ON", 8), False, False),
]


def locked(what: Version, lock: Lock) -> Version:
    return msgspec.structs.replace(what, lock=lock)


async def state_of(store: Metadata, object_id: str) -> str:
    state = await store.objects.get(object_id)
    assert state is not None
    return state.state


@pytest.mark.parametrize("alone", [True, False])
async def test_a_lock_keeps_a_version_of_whatever_kind(world: World, alone: bool) -> None:
    store = world.store
    await enable(store)
    for n, (lock, anybody, some) in enumerate(LOCKS):
        what = locked(kept(f"k{n}", 10, "e", f"A{n}"), lock)
        await put(store, what)
        assert await store.versions.held(KEPT, what.key) == what
        page = await store.versions.list(BUCKET, f"k{n}", "", None, 9)
        assert [(each.etag, each.size) for each in page.entries] == [("e", 1500)]
        stamp, tried = 20, Outcome.LOCKED
        for guard, may in ((UNGUARDED, anybody), (BYPASS, some)):
            stamp += 1
            gone = tombstone(what.key, stamp, KEPT, of=10 if alone else 0)
            tried = await store.files.delete(gone, guard=guard)
            assert tried is (Outcome.PUBLISHED if may else Outcome.LOCKED), lock
            if may:
                assert await store.files.delete(gone, guard=guard) is Outcome.PUBLISHED, "once more"
                break
        assert (await world.other.versions.held(KEPT, what.key) is None) == some
        assert await state_of(store, f"A{n}") == ("deleted" if some else "written")
        assert (await store.files.resolve(BUCKET, f"k{n}") is None) == some


async def test_a_locked_null_version_stays(world: World) -> None:
    store = world.store
    null = locked(version("a", 10, stored("A")), Lock(hold="ON"))
    await put(store, null)
    await enable(store, 11)
    await put(store, marker("a", 12))
    assert await store.files.delete(tombstone("a", 20)) is Outcome.LOCKED
    assert await store.files.delete(tombstone("a", 20, of=10), guard=BYPASS) is Outcome.LOCKED
    assert await store.versions.held(BUCKET, "a") == null
    assert await state_of(store, "A") == "written"


async def test_a_lock_that_is_changed_counts_at_once(world: World) -> None:
    store = world.store
    await enable(store)
    what = kept("a", 10, "e", "A")
    await put(store, what)

    async def change(lock: Lock) -> None:
        found = await store.repairs.at(KEPT, what.key)
        assert found is not None
        assert await store.repairs.amend(found.token, locked(found.version, lock))
        assert not await store.repairs.amend(found.token, locked(what, Lock(held=99)))

    gone = tombstone(what.key, 50, KEPT, of=10)
    await change(Lock("GOVERNANCE", AHEAD_MS, 20))
    assert await world.other.files.delete(gone) is Outcome.LOCKED
    await change(Lock("GOVERNANCE", PAST_MS, 21, "ON", 22))
    assert await world.other.files.delete(gone) is Outcome.LOCKED
    await change(Lock("GOVERNANCE", PAST_MS, 21, "OFF", 23))
    found = await store.repairs.at(KEPT, what.key)
    assert found is not None
    assert found.version.lock == Lock("GOVERNANCE", PAST_MS, 21, "OFF", 23)
    assert await world.other.files.delete(gone) is Outcome.PUBLISHED
    late = locked(found.version, Lock(hold="ON", held=24))
    assert not await store.repairs.amend(found.token, late), "it was deleted before"


async def test_what_it_is_among_the_versions_of_its_key(world: World) -> None:
    store = world.store
    await put(store, version("a", 5, stored("A")), version("only null", 6))
    await enable(store, 7)
    await put(store, kept("a", 10), kept("a", 11), kept("only", 12), marker("b", 13), kept("b", 14))

    async def delete(name: str, of: int, rank: Rank, place: str = KEPT) -> Outcome:
        name = version_name(name, of) if place == KEPT else name
        return await store.files.delete(
            tombstone(name, 50 + of, place, of=of), guard=Guard(rank=rank)
        )

    for name, of in (("a", 11), ("b", 14), ("only", 12)):
        assert await delete(name, of, Rank.OLDER) is Outcome.REFUSED, "it is the latest"
    for name, of in (("a", 11), ("a", 10), ("b", 14), ("b", 13)):
        assert await delete(name, of, Rank.ALONE) is Outcome.REFUSED, "it is not alone"
    assert await delete("a", 5, Rank.ALONE, BUCKET) is Outcome.REFUSED
    assert await delete("only null", 6, Rank.OLDER, BUCKET) is Outcome.REFUSED
    assert len((await store.versions.list(BUCKET, "", "", None, 9)).entries) == 7

    assert await delete("only", 12, Rank.ALONE) is Outcome.PUBLISHED
    assert await delete("only null", 6, Rank.ALONE, BUCKET) is Outcome.PUBLISHED
    assert await delete("a", 10, Rank.OLDER) is Outcome.PUBLISHED
    assert await delete("a", 10, Rank.OLDER) is Outcome.PUBLISHED, "once more"
    assert await delete("a", 5, Rank.OLDER, BUCKET) is Outcome.PUBLISHED
    assert await delete("a", 11, Rank.ALONE) is Outcome.PUBLISHED
    assert await delete("b", 14, Rank.ANY) is Outcome.PUBLISHED
    assert await delete("b", 13, Rank.OLDER) is Outcome.REFUSED, "now it is the latest"
    assert await delete("b", 13, Rank.ALONE) is Outcome.PUBLISHED
    assert await store.versions.anything(BUCKET) is None


async def test_an_older_version_whose_newer_one_is_the_null_version(world: World) -> None:
    store = world.store
    await enable(store)
    await put(store, kept("a", 10))
    await enable(store, 11, "Suspended")
    await put(store, version("a", 12, stored("A")))
    older, null = tombstone(version_name("a", 10), 50, KEPT, of=10), tombstone("a", 51, of=12)
    assert await store.files.delete(null, guard=Guard(rank=Rank.OLDER)) is Outcome.REFUSED
    assert await store.files.delete(older, guard=Guard(rank=Rank.ALONE)) is Outcome.REFUSED
    assert await store.files.delete(older, guard=Guard(rank=Rank.OLDER)) is Outcome.PUBLISHED
    assert await store.files.delete(null, guard=Guard(rank=Rank.ALONE)) is Outcome.PUBLISHED


async def test_records_bring_back_the_last_lock_in_any_order(make_world: MakeWorld) -> None:
    """A repair, a change of tags and two of the lock, of which none knew the others."""
    what = kept("a", 10, "e", "A")
    records = (
        what,
        msgspec.structs.replace(what, revision=40, tags={"x": "y"}, tagged=35),
        locked(what, Lock("GOVERNANCE", AHEAD_MS, 30)),
        locked(what, Lock(hold="ON", held=50)),
    )
    for number, order in enumerate(itertools.permutations(records)):
        world = make_world()
        place = f"@versions.bucket-{number}"
        moved = [
            msgspec.structs.replace(
                each,
                bucket=place,
                objects=(stored(f"A{number}", 1000 + 2 * number),),
            )
            for each in order
        ]
        await world.store.recovery.restore([Finding(each) for each in moved], anew=True)
        held = await world.store.versions.held(place, what.key)
        assert held is not None
        assert (held.revision, held.tagged) == (40, 35)
        assert held.lock == Lock("GOVERNANCE", AHEAD_MS, 30, "ON", 50)
        again = await world.store.recovery.restore([Finding(each) for each in moved], anew=True)
        assert set(again) == {Restored.KNOWN}
        gone = tombstone(what.key, 60, place, of=10)
        assert await world.store.files.delete(gone, guard=BYPASS) is Outcome.LOCKED
