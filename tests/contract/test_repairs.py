"""What every coordinator promises about debts of putters, and about what they hold too much."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import msgspec
import pytest

from common.meta.interface import Metadata, Outcome
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Finding, Restored
from common.meta.repairs import Debt, Owed, Surplus
from common.records import ANYONE, Extent, StoredObject, Version
from tests.metadata_kit import (
    BUCKET,
    LONG_MS,
    SHORT_MS,
    World,
    begin,
    commit_of,
    publish,
    stored,
    tombstone,
    version,
)

MakeWorld = Callable[..., World]


def lacking(
    object_id: str = "A",
    nodes: tuple[str, ...] = ("n1", "n2"),
    owed: dict[str, str] | None = None,
    first: int = 100,
) -> StoredObject:
    """An object of two tickets and 1500 bytes that n3 should hold, if nothing else is said."""
    extent = Extent(first, 2, 1500, nodes, {"n3": "n2"} if owed is None else owed)
    return StoredObject(object_id, 1500, 1458, b"\xff" * 32, (extent,))


def in_parts(*parts: tuple[tuple[str, ...], dict[str, str]]) -> StoredObject:
    """Object A in extents of ten tickets."""
    extents = tuple(
        Extent(100 + 10 * n, 10, 14_580, nodes, owed) for n, (nodes, owed) in enumerate(parts)
    )
    return StoredObject("A", 14_580 * len(parts), 1458, b"\xff" * 32, extents)


def anew(what: Version, *objects: StoredObject, revision: int = 50) -> Version:
    """The same version, described so."""
    return msgspec.structs.replace(what, objects=objects, revision=revision)


async def restore(store: Metadata, *records: Version) -> list[Restored]:
    return await store.recovery.restore([Finding(each) for each in records], anew=True)


async def debts(world: World) -> dict[str, tuple[int, int]]:
    return {
        node: (debt.objects, debt.size)
        for node, debt in (await world.other.repairs.debts()).items()
    }


async def token_of(store: Metadata, what: Version) -> bytes:
    described = await store.repairs.described(what.bucket, "", 100)
    return next(each.token for each in described if each.version.key == what.key)


async def amend(store: Metadata, what: Version, *reached: str) -> bool:
    """Describe what a name holds anew, after these putters were reached."""
    token = await token_of(store, what)
    for each, node in itertools.product(what.objects, reached):
        assert await store.repairs.reach(what.bucket, each.object_id, node)
    return await store.repairs.amend(token, what)


def places(found: Sequence[Owed | Surplus]) -> list[str]:
    return [each.place for each in found]


# Debts


async def test_nobody_owes_anything(world: World) -> None:
    assert await world.store.repairs.debts() == {}
    await publish(world.store, version("a", 10, stored("A")))
    assert await world.store.repairs.debts() == {}
    assert await world.store.repairs.owed("n1", 10) == []
    assert await world.store.repairs.surplus(10) == []
    assert await world.store.repairs.described("nobody", "", 10) == []
    assert not await world.store.repairs.reach("nobody", "A", "n1")
    assert not await world.store.repairs.amend(
        await token_of(world.store, version("a", 10)), version("a", 10, stored("A"), bucket="other")
    )


async def test_a_published_version_says_what_is_owed(world: World) -> None:
    what = version("cat.jpg", 10, lacking("A"), stored("B", 200), lacking("C", first=300))
    assert await publish(world.store, what) is Outcome.PUBLISHED
    assert await world.other.repairs.debts() == {"n3": Debt(2, 3000)}
    found = await world.other.repairs.owed("n3", 10)
    assert [(each.node, each.object_id, each.version) for each in found] == [
        ("n3", "A", what),
        ("n3", "C", what),
    ]
    assert found[0].stored == what.objects[0]
    assert found[0].token == found[1].token == await token_of(world.store, what)
    assert await world.store.repairs.owed("n1", 10) == []
    assert await world.store.repairs.owed("n", 10) == []
    assert await world.store.objects.commit(commit_of(what)) is Outcome.PUBLISHED
    assert await world.store.repairs.debts() == {"n3": Debt(2, 3000)}, "counted once"


async def test_a_putter_is_owed_an_object_once_in_however_many_parts(world: World) -> None:
    what = version(
        "a", 10, in_parts((("n1",), {"n2": ""}), (("n1",), {}), (("n1",), {"n2": "", ANYONE: ""}))
    )
    await publish(world.store, what)
    assert await debts(world) == {"n2": (1, 43_740), ANYONE: (1, 43_740)}
    assert places(await world.store.repairs.owed(ANYONE, 10)) == [f"{BUCKET} A"]


async def test_debts_come_in_order_and_in_pages(world: World) -> None:
    for n, (bucket, object_id) in enumerate(
        [("b2", "AB"), ("b1", "B"), ("b1", "A"), ("b2", "A"), ("b1", "AB"), ("b3", "C")]
    ):
        name = f"{object_id}{bucket[-1]}"
        await publish(world.store, version(f"k{n}", 10, lacking(name, first=n), bucket=bucket))
    await publish(world.store, version("x", 10, lacking("Z", owed={"n30": ""}), bucket="b1"))
    everything = places(await world.store.repairs.owed("n3", 10))
    assert everything == ["b1 A1", "b1 AB1", "b1 B1", "b2 A2", "b2 AB2", "b3 C3"]
    paged: list[str] = []
    while page := await world.store.repairs.owed("n3", 2, paged[-1] if paged else ""):
        assert len(page) == 2
        paged += places(page)
    assert paged == everything
    assert places(await world.store.repairs.owed("n3", 10, "b1 B1")) == everything[3:]
    assert places(await world.store.repairs.owed("n3", 10, "b1 ZZZ")) == everything[3:]
    with pytest.raises(ValueError, match="limit"):
        await world.store.repairs.owed("n3", 0)


async def test_a_version_that_is_not_published_owes_nothing(world: World) -> None:
    await publish(world.store, version("a", 20, stored("A")))
    assert await publish(world.store, version("a", 10, lacking("B"))) is Outcome.SUPERSEDED
    await world.store.objects.begin(begin("C"))
    refused = commit_of(version("a", 30, lacking("C")), "another etag")
    assert await world.store.objects.commit(refused) is Outcome.REFUSED
    assert await debts(world) == {}


async def test_what_is_deleted_or_overwritten_is_not_owed(world: World) -> None:
    await publish(world.store, version("a", 10, lacking("A")))
    await publish(world.store, version("b", 10, lacking("B", first=200)))
    await publish(world.store, version("c", 10, lacking("C", first=300)))
    assert await debts(world) == {"n3": (3, 4500)}
    await publish(world.store, version("a", 11, lacking("D", owed={"n4": "n1"}, first=400)))
    assert await debts(world) == {"n3": (2, 3000), "n4": (1, 1500)}
    await world.store.files.delete(tombstone("b", 11))
    assert places(await world.store.repairs.owed("n3", 10)) == [f"{BUCKET} C"]
    await world.store.files.delete(tombstone("c", 11))
    assert await world.store.repairs.owed("n3", 10) == []
    assert await debts(world) == {"n4": (1, 1500)}


async def test_debts_of_very_many_putters_are_forgotten_at_the_latest_when_asked_for(
    world: World,
) -> None:
    nodes = [f"m{n}" for n in range(40)]
    await publish(world.store, version("a", 10, lacking("A", owed=dict.fromkeys(nodes, ""))))
    await publish(world.store, version("b", 10, lacking("B", owed={"m7": ""}, first=200)))
    assert len(await debts(world)) == 40
    await world.store.files.delete(tombstone("a", 20))
    assert places(await world.store.repairs.owed("m7", 1)) == [f"{BUCKET} B"]
    for node in nodes:
        await world.store.repairs.owed(node, 10)
    assert await debts(world) == {"m7": (1, 1500)}


# What records say


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_debts_follow_from_records_in_any_order(world: World, order: tuple[int, ...]) -> None:
    records = [
        version("a", 10, lacking("A", owed={"n3": "", "n4": "n1"})),
        version("a", 11, lacking("B", owed={"n4": ""}, first=200)),
        version("b", 12, lacking("C", owed={"n5": ""}, first=300)),
    ]
    await restore(world.store, *(records[n] for n in order))
    await restore(world.store, *(records[n] for n in order))
    assert await debts(world) == {"n4": (1, 1500), "n5": (1, 1500)}
    await world.store.recovery.restore([Finding(tombstone("b", 20))], anew=True)
    assert await debts(world) == {"n4": (1, 1500)}
    assert [each.version for each in await world.store.repairs.owed("n4", 10)] == [records[1]]


@pytest.mark.parametrize("first", [0, 1])
async def test_a_truer_description_has_the_debts(world: World, first: int) -> None:
    meant = version("a", 10, lacking("A", ("n1", "n2"), {"n3": "n2", "n4": ""}))
    true = anew(meant, lacking("A", ("n1", "n3"), {"n4": "", "n5": ""}))
    await restore(world.store, *((meant, true) if first == 0 else (true, meant)))
    assert await debts(world) == {"n4": (1, 1500), "n5": (1, 1500)}
    assert await world.store.files.resolve(BUCKET, "a") == true


async def test_a_truer_description_of_a_published_version(make_world: MakeWorld) -> None:
    """Whoever it does not name any more is found when the object is deleted."""
    world = make_world(grace_ms=0)
    meant = version("a", 10, lacking("A", ("n1", "n2")))
    await publish(world.store, meant)
    await restore(world.store, anew(meant, lacking("A", ("n1", "n3"), {})))
    assert await debts(world) == {}
    await world.pass_time(1)
    assert [each.node for each in await world.store.repairs.surplus(10)] == ["n2"]
    await world.store.files.delete(tombstone("a", 20))
    await world.pass_time(1)
    (doomed,) = await world.store.objects.to_free(10)
    assert doomed.nodes == ("n1", "n2", "n3")


async def test_another_version_with_the_same_object(world: World) -> None:
    await restore(world.store, version("a", 10, lacking("A", owed={"n3": "", "n4": ""})))
    await restore(world.store, version("a", 11, lacking("A", owed={"n4": "", "n5": ""})))
    assert await debts(world) == {"n4": (1, 1500), "n5": (1, 1500)}
    await world.store.files.delete(tombstone("a", 20))
    assert await debts(world) == {}


async def test_an_object_of_another_size_is_counted_right(world: World) -> None:
    small = version("a", 10, lacking("A"))
    large = msgspec.structs.replace(lacking("A"), size=7000)
    await restore(world.store, small)
    await restore(world.store, anew(small, large))
    assert await debts(world) == {"n3": (1, 7000)}
    await restore(world.store, version("a", 11, lacking("A")))
    assert await debts(world) == {"n3": (1, 1500)}


async def test_a_coordinator_that_lost_everything_gets_the_same_debts(world: World) -> None:
    records = [
        version("a", 10, lacking("A", owed={"n3": "", ANYONE: ""})),
        version("b", 11, stored("B", 200)),
        version("c", 12, in_parts((("n1",), {"n4": "n1"}), (("n2",), {}))),
    ]
    records[2] = msgspec.structs.replace(
        records[2], objects=(msgspec.structs.replace(records[2].objects[0], object_id="C"),)
    )
    for each in records:
        await publish(world.store, each)
    before = await debts(world)
    assert set(before) == {"n3", "n4", ANYONE}
    if isinstance(world.store, MemoryMetadata):
        world.store.wipe()
    else:
        world.lose()
    standing = await world.store.recovery.standing()
    assert await world.store.recovery.begin(standing.epoch, "again")
    await restore(world.store, *reversed(records))
    assert await world.store.recovery.complete(standing, 0, "again")
    assert await debts(world) == before
    assert places(await world.store.repairs.owed("n4", 10)) == [f"{BUCKET} C"]


# What names hold


async def test_names_are_described_in_order(world: World) -> None:
    versions = [
        version(key, 10 + n, lacking(f"O{n}")) for n, key in enumerate(["b", "a", "c d", "ä"])
    ]
    for each in versions:
        await publish(world.store, each)
    await publish(world.store, version("bb", 20, stored("P")))
    await world.store.files.delete(tombstone("bb", 21))
    found = await world.store.repairs.described(BUCKET, "", 100)
    assert [each.version for each in found] == sorted(versions, key=lambda each: each.key)
    page = await world.store.repairs.described(BUCKET, "a", 2)
    assert [each.version.key for each in page] == ["b", "c d"]
    assert await world.store.repairs.described(BUCKET, "ä", 2) == []
    with pytest.raises(ValueError, match="page"):
        await world.store.repairs.described(BUCKET, "", 0)


# Describing anew


async def test_a_debt_is_paid(world: World) -> None:
    what = version("a", 10, lacking("A", ("n1", "n2"), {"n3": "n2"}))
    await publish(world.store, what)
    paid = anew(what, lacking("A", ("n1", "n3"), {}))
    assert await amend(world.store, paid, "n3")
    assert await debts(world) == {}
    assert await world.store.repairs.owed("n3", 10) == []
    assert await world.other.files.resolve(BUCKET, "a") == paid
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("n1", "n2", "n3"), "n2 still holds it"


async def test_a_debt_moves_to_another_putter_and_to_anyone(world: World) -> None:
    what = version("a", 10, lacking("A", ("n1",), {"n3": ""}), lacking("B", first=200))
    await publish(world.store, what)
    for owed in ({"n4": ""}, {ANYONE: ""}, {ANYONE: "", "n3": ""}, {"n3": ""}):
        moved = anew(what, lacking("A", ("n1",), owed), what.objects[1])
        assert await amend(world.store, moved)
        expected = dict.fromkeys(owed, (1, 1500))
        expected["n3"] = (2, 3000) if "n3" in owed else (1, 1500)
        assert await debts(world) == expected
        for node in owed:
            (first, *_) = await world.store.repairs.owed(node, 10)
            assert first.version == moved
    assert await amend(
        world.store, anew(what, lacking("A", ("n1",), {}), lacking("B", owed={}, first=200))
    )
    assert await debts(world) == {}


async def test_anyone_becomes_somebody(world: World) -> None:
    what = version("a", 10, lacking("A", ("n1",), {ANYONE: ""}))
    await publish(world.store, what)
    (owed,) = await world.store.repairs.owed(ANYONE, 10)
    assert await world.store.repairs.reach(BUCKET, "A", "n9")
    given = anew(what, lacking("A", ("n1", "n9"), {}))
    assert await world.store.repairs.amend(owed.token, given)
    assert await debts(world) == {}
    assert await world.store.repairs.surplus(10) == []


async def test_a_stale_token_changes_nothing(world: World) -> None:
    what = version("a", 10, lacking("A"))
    await publish(world.store, what)
    token = await token_of(world.store, what)
    one = anew(what, lacking("A", owed={"n4": ""}), revision=50)
    other = anew(what, lacking("A", owed={"n5": ""}), revision=51)
    assert await world.store.repairs.amend(token, one)
    assert not await world.other.repairs.amend(token, other)
    assert await world.store.repairs.amend(token, one), "repeated: it is so"
    assert await debts(world) == {"n4": (1, 1500)}
    assert await world.store.files.resolve(BUCKET, "a") == one
    await publish(world.store, version("a", 20, stored("B", 200)))
    assert not await world.store.repairs.amend(token, one)
    assert not await world.store.repairs.amend(token, other)
    await world.store.files.delete(tombstone("a", 30))
    assert not await world.store.repairs.amend(token, one)
    assert await debts(world) == {}
    assert await world.store.files.resolve(BUCKET, "a") is None


async def test_another_version_is_no_description(world: World) -> None:
    what = version("a", 10, lacking("A"))
    await publish(world.store, what)
    token = await token_of(world.store, what)
    for other in (version("a", 11, lacking("A")), version("a", 10, lacking("B")), version("a", 10)):
        with pytest.raises(ValueError, match="same name"):
            await world.store.repairs.amend(token, other)
    assert await world.store.files.resolve(BUCKET, "a") == what


async def test_a_version_without_a_byte_can_be_described_anew(world: World) -> None:
    what = version("a", 10)
    await publish(world.store, what)
    changed = msgspec.structs.replace(what, replicas=3, revision=50)
    assert await amend(world.store, changed)
    assert await world.store.files.resolve(BUCKET, "a") == changed


# Reaching


async def test_who_was_reached_is_found_when_the_object_is_deleted(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    await publish(world.store, version("a", 10, lacking("A")))
    assert await world.store.repairs.reach(BUCKET, "A", "n9")
    assert await world.store.repairs.reach(BUCKET, "A", "n9")
    assert await world.other.repairs.surplus(10) == []
    await world.store.files.delete(tombstone("a", 20))
    assert not await world.store.repairs.reach(BUCKET, "A", "n8")
    await world.pass_time(1)
    (doomed,) = await world.store.objects.to_free(10)
    assert doomed.nodes == ("n1", "n2", "n9")
    await world.store.objects.begin(begin("B"))
    assert not await world.store.repairs.reach(BUCKET, "B", "n8"), "it is being written"


async def test_nothing_is_placed_on_a_putter_that_was_not_reached(world: World) -> None:
    what = version("a", 10, lacking("A"))
    await publish(world.store, what)
    paid = anew(what, lacking("A", ("n1", "n3"), {}))
    assert not await amend(world.store, paid)
    assert not await amend(world.store, paid, "n4")
    assert await debts(world) == {"n3": (1, 1500)}
    assert await amend(world.store, paid, "n3")


async def test_who_was_reached_and_never_named_holds_too_much(make_world: MakeWorld) -> None:
    world = make_world(reach_ms=SHORT_MS)
    what = version("a", 10, lacking("A"))
    await publish(world.store, what)
    assert await world.store.repairs.reach(BUCKET, "A", "n3")
    token = await token_of(world.store, what)
    await world.pass_time(SHORT_MS)
    (surplus,) = await world.store.repairs.surplus(10)
    assert (surplus.node, surplus.whole, surplus.ranges) == ("n3", True, ((100, 2),))
    paid = anew(what, lacking("A", ("n1", "n3"), {}))
    assert not await world.store.repairs.amend(token, paid)
    assert not await world.store.repairs.reach(BUCKET, "A", "n3"), "it may be freeing it"
    await world.store.repairs.freed(surplus)
    assert not await world.store.repairs.amend(token, paid), "what it got is not there any more"
    assert await world.store.repairs.reach(BUCKET, "A", "n3")


# Surplus


async def test_the_life_of_a_surplus(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=SHORT_MS)
    what = version("a", 10, lacking("A", ("n1", "n2"), {"n3": "n2"}))
    await publish(world.store, what)
    paid = anew(what, lacking("A", ("n1", "n3"), {}))
    assert await amend(world.store, paid, "n3")
    await world.pass_time(SHORT_MS)
    (surplus,) = await world.other.repairs.surplus(10)
    assert (surplus.node, surplus.bucket, surplus.object_id) == ("n2", BUCKET, "A")
    assert (surplus.ranges, surplus.whole) == (((100, 2),), True)
    assert not await world.store.repairs.reach(BUCKET, "A", "n2")
    await world.store.repairs.freed(surplus)
    await world.store.repairs.freed(surplus)
    assert await world.store.repairs.surplus(10) == []
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("n1", "n3")


async def test_a_surplus_waits_for_the_grace_time(world: World) -> None:
    what = version("a", 10, lacking("A"))
    await publish(world.store, what)
    assert await amend(world.store, anew(what, lacking("A", ("n1",), {})))
    assert await world.store.repairs.surplus(10) == []
    back = anew(what, lacking("A", ("n1", "n2"), {}), revision=51)
    assert await amend(world.store, back, "n2"), "it still holds it"
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("n1", "n2")


async def test_a_surplus_that_somebody_reads_waits(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    what = version("a", 10, lacking("A"))
    await publish(world.store, what)
    await world.store.objects.hold(BUCKET, "A", "reader", LONG_MS)
    assert await amend(world.store, anew(what, lacking("A", ("n1",), {})))
    await world.pass_time(1)
    assert await world.store.repairs.surplus(10) == []
    await world.store.objects.release(BUCKET, "A", "reader")
    assert len(await world.store.repairs.surplus(10)) == 1


async def test_a_surplus_of_a_deleted_object_is_the_janitors(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    for n, key in enumerate("abc"):
        what = version(key, 10, lacking(f"O{n}", first=100 * n))
        await publish(world.store, what)
        assert await amend(world.store, anew(what, lacking(f"O{n}", ("n1",), {}, 100 * n)))
    await world.pass_time(1)
    found = await world.store.repairs.surplus(10)
    assert places(found) == [f"{BUCKET} n2 O{n}" for n in range(3)]
    await world.store.files.delete(tombstone("a", 20))
    await publish(world.store, version("b", 20, stored("N", 500)))
    assert await world.store.repairs.surplus(10) == [found[2]]
    await world.pass_time(1)
    doomed = await world.store.objects.to_free(10)
    assert {each.object_id: each.nodes for each in doomed} == {
        "O0": ("n1", "n2"),
        "O1": ("n1", "n2"),
    }
    await world.store.repairs.freed(found[0])
    assert await world.store.repairs.surplus(10) == [found[2]]


async def test_parts_of_an_object_are_a_surplus(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    what = version(
        "a", 10, in_parts((("n1", "n2"), {"n3": "n2"}), (("n1", "n2"), {}), (("n1",), {}))
    )
    await publish(world.store, what)
    one = anew(what, in_parts((("n1", "n3"), {}), (("n1", "n2"), {}), (("n1", "n3"), {})))
    assert await amend(world.store, one, "n3")
    await world.pass_time(1)
    (surplus,) = await world.store.repairs.surplus(10)
    assert (surplus.node, surplus.whole) == ("n2", False)
    assert surplus.ranges == ((100, 10), (120, 10))
    two = anew(what, in_parts((("n1", "n3"), {}), (("n1",), {}), (("n1", "n3"), {})), revision=60)
    assert await amend(world.store, two)
    await world.store.repairs.freed(surplus)
    await world.pass_time(1)
    (more,) = await world.store.repairs.surplus(10)
    assert (more.node, more.whole) == ("n2", True)
    assert more.ranges == ((100, 30),)
    assert more.due_ms > surplus.due_ms
    await world.store.repairs.freed(more)
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("n1", "n3")


async def test_surpluses_come_in_order_and_in_pages(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    for bucket, n in itertools.product(("b2", "b1"), range(70)):
        name = f"O{n:02}{bucket[-1]}"
        what = version(name, 10, lacking(name, ("n1", "n2", "n4"), {}), bucket=bucket)
        await publish(world.store, what)
        assert await amend(world.store, anew(what, lacking(name, ("n1",), {})))
    await world.pass_time(1)
    everything = places(await world.store.repairs.surplus(1000))
    assert everything == [
        f"{bucket} {node} O{n:02}{bucket[-1]}"
        for bucket, node, n in itertools.product(("b1", "b2"), ("n2", "n4"), range(70))
    ]
    paged: list[str] = []
    while page := await world.store.repairs.surplus(33, paged[-1] if paged else ""):
        assert len(page) <= 33
        paged += places(page)
    assert paged == everything
    present = await world.store.repairs.surplus(50, absent={"n2", "n9"})
    assert places(present) == everything[70:120]
    rest = await world.store.repairs.surplus(500, present[-1].place, {"n2"})
    assert places(rest) == [each for each in everything[120:] if " n4 " in each]
    assert await world.store.repairs.surplus(500, absent=("n2", "n4")) == []
    for each in await world.store.repairs.surplus(1000, absent={"n4"}):
        await world.store.repairs.freed(each)
    left = [each for each in everything if " n4 " in each]
    assert places(await world.store.repairs.surplus(1000)) == left
    assert places(await world.store.repairs.surplus(1)) == left[:1]


async def test_one_name_is_described_so_that_it_can_be_described_anew(world: World) -> None:
    repairs = world.store.repairs
    assert await repairs.at(BUCKET, "a") is None
    what = version("a", 10, stored("A"))
    await publish(world.store, what)
    assert await repairs.at(BUCKET, "b") is None
    found = await repairs.at(BUCKET, "a")
    assert found is not None
    assert found.version == what
    tagged = msgspec.structs.replace(what, tags={"x": "y"}, tagged=50)
    assert await repairs.amend(found.token, tagged)
    again = await repairs.at(BUCKET, "a")
    assert again is not None
    assert again.version == tagged
    assert await world.other.files.resolve(BUCKET, "a") == tagged
    other = msgspec.structs.replace(what, tags={"x": "z"}, tagged=60)
    assert not await repairs.amend(found.token, other), "it is described otherwise by now"
    assert await repairs.amend(again.token, other)
    await world.store.files.delete(tombstone("a", 70))
    assert await repairs.at(BUCKET, "a") is None
    assert not await repairs.amend(again.token, tagged)
