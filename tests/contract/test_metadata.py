"""What every coordinator promises: in memory, on fakeredis, on a server, on a cluster."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from common.errors import ObjectGone
from common.meta.claims import Claim, ClaimOutcome
from common.meta.interface import (
    CeilingReached,
    Ceilings,
    EpochUnknown,
    Granted,
    Kind,
    Member,
    Metadata,
    Outcome,
    Page,
    Progress,
)
from tests.metadata_kit import (
    BUCKET,
    LONG_MS,
    SHORT_MS,
    World,
    begin,
    commit_of,
    establish,
    granted,
    publish,
    stored,
    tombstone,
    version,
)

MakeWorld = Callable[..., World]


def claim(
    holder: str,
    if_match: str = "",
    *,
    bucket: str = BUCKET,
    key: str = "cat.jpg",
    lease_ms: int = LONG_MS,
) -> Claim:
    return Claim(bucket, key, holder, lease_ms, if_match)


# Counters


async def test_counters_lease_nothing_before_they_are_established(world: World) -> None:
    for kind in Kind:
        assert isinstance(await world.store.counters.lease(kind, 1), EpochUnknown)


async def test_only_the_present_epoch_can_be_established(world: World) -> None:
    counters = world.store.counters
    assert not await counters.establish("long ago", Ceilings(1, 1, 1))
    unknown = await counters.lease(Kind.TICKETS, 1)
    assert isinstance(unknown, EpochUnknown)
    assert not await counters.raise_to(unknown.epoch, Ceilings(5, 5, 5))
    assert await counters.establish(unknown.epoch, Ceilings(7, 8, 9))
    assert not await counters.raise_to("long ago", Ceilings(50, 50, 50))
    reached = await world.other.counters.lease(Kind.TICKETS, 3)
    assert reached == CeilingReached(unknown.epoch, 10, Ceilings(7, 8, 9))


async def test_numbers_are_consecutive_up_to_the_ceiling(world: World) -> None:
    counters = world.store.counters
    epoch = await establish(world.store, Ceilings(tickets=10, objects=3, stamps=0))
    assert await counters.lease(Kind.TICKETS, 4) == Granted(0, 4)
    assert await counters.lease(Kind.TICKETS, 6) == Granted(4, 6)
    reached = await counters.lease(Kind.TICKETS, 1)
    assert reached == CeilingReached(epoch, 11, Ceilings(10, 3, 0))
    assert await counters.lease(Kind.OBJECTS, 3) == Granted(0, 3)
    assert await counters.raise_to(epoch, Ceilings(tickets=12))
    assert await counters.lease(Kind.TICKETS, 2) == Granted(10, 2)
    reached = await counters.lease(Kind.OBJECTS, 1)
    assert isinstance(reached, CeilingReached)
    assert reached.ceilings == Ceilings(12, 3, 0)


async def test_establishing_again_lowers_nothing(world: World) -> None:
    epoch = await establish(world.store, Ceilings(tickets=100))
    await world.store.counters.lease(Kind.TICKETS, 20)
    assert await world.store.counters.establish(epoch, Ceilings(tickets=5))
    assert await world.store.counters.lease(Kind.TICKETS, 1) == Granted(20, 1)
    assert await world.store.counters.establish(epoch, Ceilings(tickets=90))
    assert await world.store.counters.lease(Kind.TICKETS, 10) == Granted(90, 10)


async def test_stamps_follow_the_clock_and_never_repeat(world: World) -> None:
    await establish(world.store)
    first = granted(await world.store.counters.lease(Kind.STAMPS, 1_000_000)).first
    second = granted(await world.store.counters.lease(Kind.STAMPS, 1)).first
    assert second == first + 1_000_000  # the clock is behind: last + 1
    assert abs(first / 1e6 - time.time()) < 60 or first == 1_700_000_000_000_000


async def test_leases_of_many_callers_are_disjoint(world: World) -> None:
    await establish(world.store)
    for kind in Kind:
        leases = await asyncio.gather(
            *(
                store.counters.lease(kind, count)
                for count in range(1, 26)
                for store in (world.store, world.other)
            )
        )
        numbers = [
            number
            for lease in map(granted, leases)
            for number in range(lease.first, lease.first + lease.count)
        ]
        assert len(numbers) == len(set(numbers)) == 2 * sum(range(1, 26))


async def test_a_lease_of_nothing_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match="at least one"):
        await world.store.counters.lease(Kind.TICKETS, 0)


# Objects


async def test_an_object_begins_once(world: World) -> None:
    objects = world.store.objects
    await objects.begin(begin("A", ranges=((100, 2), (7, 1)), nodes=("n2", "n1")))
    await objects.begin(begin("A", ranges=((9, 9),), nodes=("n9",)))
    state = await world.other.objects.get("A")
    assert state is not None
    assert (state.bucket, state.object_id, state.state, state.router) == (
        BUCKET,
        "A",
        "writing",
        "r1",
    )
    assert (state.ranges, state.nodes) == (((100, 2), (7, 1)), ("n1", "n2"))
    assert (state.tickets, state.acked, state.key, state.stamp) == (0, 0, "", 0)
    with pytest.raises(ObjectGone, match="another router"):
        await objects.begin(begin("A", router="r2"))
    assert await objects.get("B") is None


async def test_an_object_may_begin_with_nothing(world: World) -> None:
    await world.store.objects.begin(begin("A", ranges=(), nodes=()))
    state = await world.store.objects.get("A")
    assert state is not None
    assert (state.ranges, state.nodes) == ((), ())


@pytest.mark.parametrize("name", ["", "-", "two words", "a,b", "a;b", "line\n"])
async def test_identities_that_would_be_misread_are_refused(world: World, name: str) -> None:
    with pytest.raises(ValueError, match="identity"):
        await world.store.objects.begin(begin("A", router=name))
    with pytest.raises(ValueError, match="identity"):
        await world.store.objects.begin(begin("A", nodes=("n1", name)))


async def test_progress_notes_totals(world: World) -> None:
    objects = world.store.objects
    await objects.begin(begin("A"))
    assert await objects.progress(Progress(BUCKET, "A", LONG_MS, 5))
    state = await objects.get("A")
    assert state is not None
    assert (state.acked, state.ranges, state.nodes) == (5, ((100, 2),), ("n1", "n2"))
    assert await objects.progress(Progress(BUCKET, "A", LONG_MS, 3, ranges=((1, 1), (5, 2))))
    assert await objects.progress(Progress(BUCKET, "A", LONG_MS, 3, nodes=("n3",)))
    state = await objects.get("A")
    assert state is not None
    assert (state.acked, state.ranges, state.nodes) == (5, ((1, 1), (5, 2)), ("n3",))
    assert not await objects.progress(Progress(BUCKET, "B", LONG_MS, 3))
    await objects.fail(BUCKET, "A")
    assert not await objects.progress(Progress(BUCKET, "A", LONG_MS, 9))


async def test_a_commit_publishes(world: World) -> None:
    what = version("cat.jpg", 10, stored("A"))
    assert await publish(world.store, what) is Outcome.PUBLISHED
    assert await world.other.files.resolve(BUCKET, "cat.jpg") == what
    assert await world.store.files.resolve("other", "cat.jpg") is None
    state = await world.store.objects.get("A")
    assert state is not None
    assert (state.state, state.key, state.stamp) == ("written", "cat.jpg", 10)
    assert (state.tickets, state.acked, state.router) == (2, 2, "r1")
    assert (state.ranges, state.nodes) == (((100, 2),), ("n1", "n2"))
    assert await world.store.objects.commit(commit_of(what)) is Outcome.PUBLISHED
    assert await world.store.objects.stale(10) == []
    assert await world.store.objects.to_free(10) == []


async def test_nothing_is_published_before_all_tickets_are_acknowledged(world: World) -> None:
    await world.store.objects.begin(begin("A"))
    what = commit_of(version("cat.jpg", 10, stored("A")))
    assert await world.store.objects.commit(replace(what, acked=1)) is Outcome.INCOMPLETE
    assert await world.store.files.resolve(BUCKET, "cat.jpg") is None
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.state == "writing"
    assert await world.store.objects.commit(what) is Outcome.PUBLISHED


async def test_an_object_that_is_not_writing_cannot_be_committed(world: World) -> None:
    objects = world.store.objects
    assert await objects.commit(commit_of(version("a", 10, stored("A")))) is Outcome.GONE
    await objects.begin(begin("A"))
    assert await objects.fail(BUCKET, "A")
    assert await objects.commit(commit_of(version("a", 10, stored("A")))) is Outcome.GONE
    assert await publish(world.store, version("b", 11, stored("B"))) is Outcome.PUBLISHED
    assert await objects.commit(commit_of(version("c", 12, stored("B")))) is Outcome.GONE
    assert (await world.store.files.list(BUCKET, "", "", 10)).entries[0].key == "b"


async def test_one_missing_object_keeps_a_version_of_many_back(world: World) -> None:
    await world.store.objects.begin(begin("A"))
    what = version("a", 10, stored("A"), stored("B", 200))
    assert await world.store.objects.commit(commit_of(what)) is Outcome.GONE
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.state == "writing"


async def test_a_file_without_a_byte_needs_no_object(world: World) -> None:
    what = version("empty", 10)
    assert await world.store.objects.commit(commit_of(what)) is Outcome.PUBLISHED
    assert await world.store.objects.commit(commit_of(what)) is Outcome.PUBLISHED
    assert await world.store.files.resolve(BUCKET, "empty") == what
    newer = version("empty", 12)
    assert await world.store.objects.commit(commit_of(newer)) is Outcome.PUBLISHED
    assert await world.store.objects.commit(commit_of(what)) is Outcome.SUPERSEDED


async def test_an_overwrite_deletes_the_old_object(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=SHORT_MS)
    await publish(world.store, version("cat.jpg", 10, stored("A", 100)))
    newer = version("cat.jpg", 11, stored("B", 200))
    assert await publish(world.store, newer) is Outcome.PUBLISHED
    assert await world.store.files.resolve(BUCKET, "cat.jpg") == newer
    old = await world.store.objects.get("A")
    assert old is not None
    assert (old.state, old.stamp, old.key) == ("deleted", 10, "cat.jpg")
    assert (old.ranges, old.nodes, old.tickets) == (((100, 2),), ("n1", "n2"), 2)
    await world.pass_time(SHORT_MS)
    assert await world.other.objects.to_free(10) == [old]
    await world.store.objects.forget(BUCKET, "A")
    assert await world.store.objects.get("A") is None
    assert await world.store.objects.to_free(10) == []


async def test_an_older_stamp_counts_as_overwritten(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    newer = version("cat.jpg", 11, stored("B", 200))
    await publish(world.store, newer)
    late = version("cat.jpg", 10, stored("A", 100))
    assert await publish(world.store, late) is Outcome.SUPERSEDED
    assert await world.store.objects.commit(commit_of(late)) is Outcome.SUPERSEDED
    assert await world.store.files.resolve(BUCKET, "cat.jpg") == newer
    await world.pass_time(1)
    (old,) = await world.store.objects.to_free(10)
    assert (old.object_id, old.state, old.ranges) == ("A", "deleted", ((100, 2),))


async def test_the_repeated_commit_of_an_overwritten_version_says_so(world: World) -> None:
    first = version("cat.jpg", 10, stored("A", 100))
    await publish(world.store, first)
    await publish(world.store, version("cat.jpg", 11, stored("B", 200)))
    assert await world.store.objects.commit(commit_of(first)) is Outcome.SUPERSEDED


async def test_putters_beside_those_of_the_version_are_remembered(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    await world.store.objects.begin(begin("A", nodes=("n1", "lost")))
    what = version("cat.jpg", 10, stored("A", nodes=("n2", "n1")))
    await world.store.objects.commit(commit_of(what))
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("lost", "n1", "n2")
    await world.store.files.delete(tombstone("cat.jpg", 20))
    await world.pass_time(1)
    (old,) = await world.store.objects.to_free(10)
    assert old.nodes == ("lost", "n1", "n2")


async def test_what_is_postponed_is_not_freed_for_a_while(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    for number, name in enumerate("AB", start=1):
        await publish(world.store, version(f"{name}.jpg", number, stored(name, 100 * number)))
        await world.store.files.delete(tombstone(f"{name}.jpg", 10 + number))
    await publish(world.store, version("C.jpg", 30, stored("C", 900)))
    await world.pass_time(1)
    for name in "ABC":  # one that is written is not deleted by that
        await world.store.objects.postpone(BUCKET, name, 60_000 if name != "B" else 0)
    await world.store.objects.postpone(BUCKET, "unknown", 60_000)
    await world.pass_time(1)
    assert [each.object_id for each in await world.store.objects.to_free(10)] == ["B"]
    state = await world.store.objects.get("C")
    assert state is not None
    assert state.state == "written"
    await world.store.objects.postpone(BUCKET, "A", 0)
    await world.pass_time(1)
    found = {each.object_id for each in await world.store.objects.to_free(10)}
    assert found == {"A", "B"}


async def test_a_version_of_many_objects_lives_and_dies_as_one(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    parts = [stored(name, 100 * n) for n, name in enumerate("ABC", start=1)]
    what = version("film.mkv", 10, *parts)
    assert await publish(world.store, what) is Outcome.PUBLISHED
    assert await world.store.files.resolve(BUCKET, "film.mkv") == what
    assert await world.store.files.delete(tombstone("film.mkv", 11)) is Outcome.PUBLISHED
    await world.pass_time(1)
    for left in ("ABC", "BC", "C"):
        found = await world.store.objects.to_free(10)
        assert {each.object_id for each in found} == set(left)
        assert {each.ranges for each in found} == {((100 * (ord(c) - 64), 2),) for c in left}
        await world.store.objects.forget(BUCKET, left[0])
    assert await world.store.objects.to_free(10) == []


@pytest.mark.parametrize(
    ("held", "if_match", "outcome"),
    [
        ("", "", Outcome.PUBLISHED),
        ("", "*", Outcome.REFUSED),
        ("", "one", Outcome.REFUSED),
        ("one", "", Outcome.REFUSED),
        ("one", "*", Outcome.PUBLISHED),
        ("one", "one", Outcome.PUBLISHED),
        ("one", "two", Outcome.REFUSED),
        ('a "quoted" é, two', 'a "quoted" é, two', Outcome.PUBLISHED),
        ("deleted", "", Outcome.PUBLISHED),
        ("deleted", "*", Outcome.REFUSED),
        ("deleted", "deleted", Outcome.REFUSED),
    ],
)
async def test_conditions(world: World, held: str, if_match: str, outcome: Outcome) -> None:
    if held:
        await publish(world.store, version("a", 10, stored("A"), etag=held))
    if held == "deleted":
        await world.store.files.delete(tombstone("a", 11))
    await world.store.objects.begin(begin("B"))
    what = version("a", 12, stored("B"), etag="new")
    assert await world.store.objects.commit(commit_of(what, if_match)) is outcome
    state = await world.store.objects.get("B")
    assert state is not None
    assert state.state == ("written" if outcome is Outcome.PUBLISHED else "writing")
    if outcome is Outcome.PUBLISHED:
        again = await world.store.objects.commit(commit_of(what, if_match))
        assert again is Outcome.PUBLISHED


async def test_a_failed_object_is_freed_and_forgotten(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=SHORT_MS)
    objects = world.store.objects
    await objects.begin(begin("A"))
    await objects.forget(BUCKET, "A")
    assert await objects.fail(BUCKET, "A")
    assert not await objects.fail(BUCKET, "A")
    assert not await objects.fail(BUCKET, "B")
    await world.pass_time(SHORT_MS)
    (state,) = await objects.to_free(10)
    assert (state.state, state.ranges, state.nodes) == ("failed", ((100, 2),), ("n1", "n2"))
    await objects.begin(begin("A"))  # a late repetition revives nothing
    assert await objects.get("A") == state
    await objects.forget(BUCKET, "A")
    await objects.forget(BUCKET, "A")
    assert await objects.get("A") is None


async def test_written_objects_neither_fail_nor_are_forgotten(world: World) -> None:
    await publish(world.store, version("a", 10, stored("A")))
    assert not await world.store.objects.fail(BUCKET, "A")
    await world.store.objects.forget(BUCKET, "A")
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.state == "written"


async def test_the_grace_time_is_kept(world: World) -> None:
    await publish(world.store, version("a", 10, stored("A")))
    await world.store.files.delete(tombstone("a", 11))
    await world.store.objects.begin(begin("B"))
    await world.store.objects.fail(BUCKET, "B")
    assert await world.store.objects.to_free(10) == []


async def test_silent_writers_are_found_oldest_first(world: World) -> None:
    objects = world.store.objects
    for n, (bucket, name) in enumerate([("bbb", "A"), ("aaa", "B"), ("bbb", "C")]):
        await objects.begin(begin(name, bucket=bucket, lease_ms=1 + 3 * n))
    await objects.begin(begin("D", lease_ms=LONG_MS))
    await objects.begin(begin("E", lease_ms=1))
    await objects.progress(Progress(BUCKET, "E", LONG_MS, 1))
    await world.pass_time(SHORT_MS)
    assert [each.object_id for each in await objects.stale(10)] == ["A", "B", "C"]
    assert [each.object_id for each in await objects.stale(2)] == ["A", "B"]
    assert (await objects.stale(1))[0].ranges == ((100, 2),)
    with pytest.raises(ValueError, match="limit"):
        await objects.stale(0)


async def test_to_free_keeps_its_limit(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    for n in range(7):
        await world.store.objects.begin(begin(f"A{n}", bucket=f"bucket-{n % 2}"))
        await world.store.objects.fail(f"bucket-{n % 2}", f"A{n}")
        await world.pass_time(2)
    found = [each.object_id for each in await world.store.objects.to_free(4)]
    assert found == ["A0", "A1", "A2", "A3"]


# Readers


async def test_a_reader_keeps_the_bytes(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=SHORT_MS)
    objects = world.store.objects
    await publish(world.store, version("a", 10, stored("A")))
    assert await objects.hold(BUCKET, "A", "reader-1", LONG_MS)
    assert await objects.hold(BUCKET, "A", "reader-1", LONG_MS)
    await world.store.files.delete(tombstone("a", 11))
    assert await objects.hold(BUCKET, "A", "reader-2", LONG_MS)
    await world.pass_time(SHORT_MS)
    assert await objects.to_free(10) == []
    await objects.release(BUCKET, "A", "reader-1")
    await objects.release(BUCKET, "A", "reader-1")
    assert await objects.to_free(10) == []
    assert await objects.hold(BUCKET, "A", "reader-2", LONG_MS)
    await objects.release(BUCKET, "A", "reader-2")
    assert [each.object_id for each in await objects.to_free(10)] == ["A"]
    assert not await objects.hold(BUCKET, "A", "reader-3", LONG_MS)


async def test_held_objects_do_not_hide_the_others(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=SHORT_MS)
    for n in range(5):
        await publish(world.store, version(f"a{n}", 10, stored(f"A{n}")))
        if n < 4:
            assert await world.store.objects.hold(BUCKET, f"A{n}", "r", LONG_MS)
        await world.store.files.delete(tombstone(f"a{n}", 11))
    await world.pass_time(SHORT_MS)
    assert [each.object_id for each in await world.store.objects.to_free(1)] == ["A4"]


async def test_a_reader_that_went_silent_keeps_nothing(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    await publish(world.store, version("a", 10, stored("A")))
    assert await world.store.objects.hold(BUCKET, "A", "reader-1", SHORT_MS)
    await world.store.files.delete(tombstone("a", 11))
    await world.pass_time(SHORT_MS)
    assert [each.object_id for each in await world.store.objects.to_free(10)] == ["A"]
    await world.store.objects.forget(BUCKET, "A")
    await world.store.objects.release(BUCKET, "A", "reader-1")


async def test_only_bytes_that_are_there_can_be_held(world: World) -> None:
    objects = world.store.objects
    assert not await objects.hold(BUCKET, "A", "r", LONG_MS)
    await objects.begin(begin("A"))
    assert not await objects.hold(BUCKET, "A", "r", LONG_MS)
    await objects.fail(BUCKET, "A")
    assert not await objects.hold(BUCKET, "A", "r", LONG_MS)
    await objects.release(BUCKET, "A", "r")


# Files


async def test_a_deletion_is_final_and_repeatable(world: World) -> None:
    await publish(world.store, version("a", 10, stored("A")))
    assert await world.store.files.delete(tombstone("a", 20)) is Outcome.PUBLISHED
    assert await world.store.files.delete(tombstone("a", 20)) is Outcome.PUBLISHED
    assert await world.store.files.delete(tombstone("a", 30)) is Outcome.ABSENT
    assert await world.store.files.resolve(BUCKET, "a") is None
    assert (await world.store.files.list(BUCKET, "", "", 10)).entries == ()
    assert await publish(world.store, version("a", 15, stored("B"))) is Outcome.SUPERSEDED
    assert await publish(world.store, version("a", 31, stored("C"))) is Outcome.PUBLISHED
    assert await world.store.files.delete(tombstone("a", 25)) is Outcome.SUPERSEDED
    assert await world.store.files.resolve(BUCKET, "a") is not None


async def test_a_deletion_that_found_nothing_still_wins_over_older_versions(world: World) -> None:
    assert await world.store.files.delete(tombstone("a", 20)) is Outcome.ABSENT
    assert await world.store.files.delete(tombstone("a", 20)) is Outcome.ABSENT
    assert await world.store.files.delete(tombstone("a", 10)) is Outcome.ABSENT
    assert await publish(world.store, version("a", 15, stored("A"))) is Outcome.SUPERSEDED
    assert await publish(world.store, version("a", 21, stored("B"))) is Outcome.PUBLISHED


async def test_a_deletion_of_one_version_deletes_no_other(world: World) -> None:
    files = world.store.files
    assert await files.delete(tombstone("a", 20, of=10)) is Outcome.REFUSED, "nothing is there"
    await publish(world.store, version("a", 10, stored("A")))
    assert await files.delete(tombstone("a", 20, of=9)) is Outcome.REFUSED
    assert await files.resolve(BUCKET, "a") is not None
    assert await files.delete(tombstone("a", 20, of=10)) is Outcome.PUBLISHED
    assert await files.delete(tombstone("a", 20, of=10)) is Outcome.PUBLISHED, "the same again"
    assert await files.delete(tombstone("a", 21, of=10)) is Outcome.REFUSED, "another was first"
    assert await files.resolve(BUCKET, "a") is None
    assert (await files.list(BUCKET, "", "", 10)).entries == ()
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.state == "deleted"


async def test_what_comes_behind_the_deleted_version_stays(world: World) -> None:
    """A write that took its stamp before the deletion did, and is published later."""
    await publish(world.store, version("a", 10, stored("A")))
    assert await world.store.files.delete(tombstone("a", 20, of=10)) is Outcome.PUBLISHED
    assert await publish(world.store, version("a", 9, stored("B"))) is Outcome.SUPERSEDED
    late = version("a", 15, stored("C"))
    assert await publish(world.store, late) is Outcome.PUBLISHED
    assert await world.store.files.resolve(BUCKET, "a") == late
    assert await world.store.files.delete(tombstone("a", 20, of=10)) is Outcome.REFUSED


async def test_a_deletion_of_one_version_ends_the_claim(world: World) -> None:
    claims = world.store.claims
    await publish(world.store, version("cat.jpg", 10, stored("A")))
    await claims.take(claim("a", "*"))
    assert await world.store.files.delete(tombstone(stamp=20, of=9)) is Outcome.REFUSED
    assert await claims.take(claim("b", "*")) is ClaimOutcome.BUSY, "a refusal ends nothing"
    assert await world.store.files.delete(tombstone(stamp=20, of=10)) is Outcome.PUBLISHED
    assert await claims.take(claim("b")) is ClaimOutcome.CLAIMED


async def test_of_parallel_deletions_of_one_version_one_wins(world: World) -> None:
    await publish(world.store, version("a", 10, stored("A")))

    async def delete(n: int) -> Outcome:
        store = world.store if n % 2 else world.other
        return await store.files.delete(tombstone("a", 20 + n, of=10))

    outcomes = await asyncio.gather(*(delete(n) for n in range(40)))
    assert outcomes.count(Outcome.PUBLISHED) == 1
    assert outcomes.count(Outcome.REFUSED) == 39


async def test_tombstones_are_dropped_in_the_end(make_world: MakeWorld) -> None:
    world = make_world(tombstone_ms=SHORT_MS)
    await world.store.files.delete(tombstone("a", 20))
    await publish(world.store, version("b", 10, stored("A")))
    await world.store.files.delete(tombstone("b", 20))
    await publish(world.store, version("b", 21, stored("B")))
    await publish(world.store, version("z", 10, stored("Z")))
    await world.pass_time(SHORT_MS)
    await world.store.objects.to_free(1)
    assert await publish(world.store, version("a", 15, stored("C"))) is Outcome.PUBLISHED
    assert await publish(world.store, version("b", 15, stored("D"))) is Outcome.SUPERSEDED


KEYS = (
    "a",
    "a/b",
    "a b c",
    "- 1 2",
    "v 1 A 3 x",
    "line\nbreak\r\n",
    "nul\0",
    "%d %s %%",
    "é",
    "日本/写真",
    "\U0001f600",
    "\U0010ffff",
    "\uffff",
    "x" * 1024,
)


async def test_any_key_is_a_key(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    files, objects = world.store.files, world.store.objects
    for n, key in enumerate(KEYS):
        what = version(key, 10, stored(f"A{n}", 10 * n))
        assert await publish(world.store, what) is Outcome.PUBLISHED
        assert await files.resolve(BUCKET, key) == what
        state = await objects.get(f"A{n}")
        assert state is not None
        assert state.key == key
    page = await files.list(BUCKET, "", "", 1000)
    assert [entry.key for entry in page.entries] == sorted(KEYS, key=str.encode)
    for n, key in enumerate(KEYS):
        assert await publish(world.store, version(key, 11, stored(f"B{n}"))) is Outcome.PUBLISHED
    await world.pass_time(1)
    freed = await objects.to_free(100)
    assert {(each.object_id, each.key) for each in freed} == {
        (f"A{n}", key) for n, key in enumerate(KEYS)
    }


async def test_listing_goes_page_by_page(world: World) -> None:
    keys = sorted(f"{folder}/{n:02}" for folder in ("a", "b", "c") for n in range(5))
    await asyncio.gather(*(publish(world.store, version(key, 10)) for key in keys))
    files = world.store.files
    page = await files.list(BUCKET, "b/", "", 3)
    assert [entry.key for entry in page.entries] == ["b/00", "b/01", "b/02"]
    assert page.next_after == "b/02"
    page = await files.list(BUCKET, "b/", "b/02", 3)
    assert [entry.key for entry in page.entries] == ["b/03", "b/04"]
    assert page.next_after is None
    assert (await files.list(BUCKET, "b/", "a/03", 2)).entries[0].key == "b/00"
    assert await files.list(BUCKET, "b/", "c", 2) == Page((), None)
    assert await files.list("nothing", "", "", 2) == Page((), None)
    assert len((await files.list(BUCKET, "", "", 15)).entries) == 15
    assert (await files.list(BUCKET, "", "", 15)).next_after is None
    for limit in (0, 1001):
        with pytest.raises(ValueError, match="page"):
            await files.list(BUCKET, "", "", limit)


async def test_a_line_of_a_listing_says_what_the_version_says(world: World) -> None:
    what = version("a", 10, stored("A"), etag="abc")
    await publish(world.store, what)
    (entry,) = (await world.store.files.list(BUCKET, "", "", 1)).entries
    assert (entry.key, entry.size, entry.etag) == ("a", 1500, "abc")
    assert (entry.stamp, entry.created_ms) == (10, what.created_ms)


async def test_buckets_are_those_that_ever_held_a_file(world: World) -> None:
    assert await world.store.files.buckets() == []
    await world.store.objects.begin(begin("A", bucket="begun"))
    for bucket in ("zoo", "art", "lab"):
        await publish(world.store, version("a", 10, stored(bucket.upper()), bucket=bucket))
    await world.store.files.delete(tombstone("a", 20, bucket="lab"))
    await world.store.files.delete(tombstone("a", 20, bucket="gone"))
    assert await world.other.files.buckets() == ["art", "lab", "zoo"]


async def test_buckets_do_not_touch_each_other(world: World) -> None:
    for n in range(12):
        what = version("same", 10, stored(f"A{n}"), bucket=f"bucket-{n}", etag=str(n))
        assert await publish(world.store, what) is Outcome.PUBLISHED
    await world.store.files.delete(tombstone("same", 20, bucket="bucket-3"))
    found = await asyncio.gather(
        *(world.store.files.resolve(f"bucket-{n}", "same") for n in range(12))
    )
    assert [each.etag if each else None for each in found] == [
        None if n == 3 else str(n) for n in range(12)
    ]


# Claims


async def test_a_name_is_claimed_by_one_at_a_time(world: World) -> None:
    claims = world.store.claims
    assert await claims.take(claim("a")) is ClaimOutcome.CLAIMED
    assert await claims.take(claim("a")) is ClaimOutcome.CLAIMED
    assert await world.other.claims.take(claim("b")) is ClaimOutcome.BUSY
    assert await claims.take(claim("b", key="dog.jpg")) is ClaimOutcome.CLAIMED
    assert await claims.take(claim("b", bucket="other")) is ClaimOutcome.CLAIMED
    await claims.drop(BUCKET, "cat.jpg", "b")
    assert await claims.take(claim("b")) is ClaimOutcome.BUSY
    await world.other.claims.drop(BUCKET, "cat.jpg", "a")
    await claims.drop(BUCKET, "cat.jpg", "a")
    assert await claims.take(claim("b")) is ClaimOutcome.CLAIMED


async def test_a_claim_ends_with_its_lease(world: World) -> None:
    claims = world.store.claims
    assert await claims.take(claim("a", lease_ms=SHORT_MS)) is ClaimOutcome.CLAIMED
    assert await claims.take(claim("a", lease_ms=LONG_MS)) is ClaimOutcome.CLAIMED
    await world.pass_time(SHORT_MS)
    assert await claims.take(claim("b")) is ClaimOutcome.BUSY, "it was kept for longer"
    assert await claims.take(claim("a", lease_ms=SHORT_MS)) is ClaimOutcome.CLAIMED
    await world.pass_time(SHORT_MS)
    assert await claims.take(claim("b")) is ClaimOutcome.CLAIMED
    assert await claims.take(claim("a")) is ClaimOutcome.BUSY


async def test_old_claims_do_not_stay(world: World) -> None:
    claims = world.store.claims
    for n in range(5):
        await claims.take(claim("dead", key=f"k{n}", lease_ms=SHORT_MS))
    await world.pass_time(SHORT_MS)
    await world.store.objects.to_free(1)
    for n in range(5):
        assert await claims.take(claim("b", key=f"k{n}")) is ClaimOutcome.CLAIMED


@pytest.mark.parametrize(
    ("held", "if_match", "outcome"),
    [
        ("", "", ClaimOutcome.CLAIMED),
        ("", "*", ClaimOutcome.REFUSED),
        ("", "one", ClaimOutcome.REFUSED),
        ("one", "", ClaimOutcome.REFUSED),
        ("one", "*", ClaimOutcome.CLAIMED),
        ("one", "one", ClaimOutcome.CLAIMED),
        ("one", "two", ClaimOutcome.REFUSED),
        ('a "quoted" é, two', 'a "quoted" é, two', ClaimOutcome.CLAIMED),
        ("deleted", "", ClaimOutcome.CLAIMED),
        ("deleted", "*", ClaimOutcome.REFUSED),
    ],
)
async def test_a_claim_looks_at_the_condition_first(
    world: World, held: str, if_match: str, outcome: ClaimOutcome
) -> None:
    if held:
        await publish(world.store, version("cat.jpg", 10, stored("A"), etag=held))
    if held == "deleted":
        await world.store.files.delete(tombstone("cat.jpg", 11))
    assert await world.store.claims.take(claim("a", if_match)) is outcome
    busy = ClaimOutcome.BUSY if outcome is ClaimOutcome.CLAIMED else outcome
    assert await world.store.claims.take(claim("b", if_match)) is busy


async def test_publishing_with_a_condition_ends_the_claim(world: World) -> None:
    claims, objects = world.store.claims, world.store.objects
    await claims.take(claim("a"))
    assert await publish(world.store, version("dog.jpg", 10, stored("X"))) is Outcome.PUBLISHED
    assert await claims.take(claim("b")) is ClaimOutcome.BUSY
    await objects.begin(begin("A"))
    what = version("cat.jpg", 11, stored("A"))
    assert await objects.commit(commit_of(what, "")) is Outcome.PUBLISHED
    assert await claims.take(claim("b")) is ClaimOutcome.REFUSED
    assert await claims.take(claim("b", "*")) is ClaimOutcome.CLAIMED


async def test_publishing_without_a_condition_heeds_no_claim(world: World) -> None:
    claims, objects = world.store.claims, world.store.objects
    await claims.take(claim("a"))
    assert await publish(world.store, version("cat.jpg", 10, stored("A"))) is Outcome.PUBLISHED
    await objects.begin(begin("B"))
    late = commit_of(version("cat.jpg", 11, stored("B")), "")
    assert await objects.commit(late) is Outcome.REFUSED
    assert await claims.take(claim("b", "*")) is ClaimOutcome.BUSY, "a refusal ends nothing"
    await claims.drop(BUCKET, "cat.jpg", "a")
    assert await claims.take(claim("b", "*")) is ClaimOutcome.CLAIMED


@pytest.mark.parametrize(
    "key", ["a b c", "- 1 2", "nul\0", "%d %s", "line\r\n", "日本", "x" * 1024]
)
async def test_any_key_can_be_claimed(world: World, key: str) -> None:
    claims = world.store.claims
    assert await claims.take(claim("a", key=key)) is ClaimOutcome.CLAIMED
    assert await claims.take(claim("b", key=key)) is ClaimOutcome.BUSY
    await claims.drop(BUCKET, key, "a")
    assert await claims.take(claim("b", key=key)) is ClaimOutcome.CLAIMED


async def test_of_parallel_claims_one_wins(world: World) -> None:
    async def take(n: int) -> ClaimOutcome:
        store = world.store if n % 2 else world.other
        return await store.claims.take(claim(f"holder-{n}"))

    outcomes = await asyncio.gather(*(take(n) for n in range(40)))
    assert outcomes.count(ClaimOutcome.CLAIMED) == 1
    assert outcomes.count(ClaimOutcome.BUSY) == 39


@pytest.mark.parametrize("holder", ["", "-", "two words"])
async def test_holders_that_would_be_misread_are_refused(world: World, holder: str) -> None:
    with pytest.raises(ValueError, match="identity"):
        await world.store.claims.take(claim(holder))


# Members and leases


async def test_members_are_seen_until_they_leave(world: World) -> None:
    members = world.store.members
    assert await members.seen() == []
    putter = Member(
        node="n2",
        role="putter",
        instance="i1",
        host="127.0.0.1",
        port=5000,
        storage="segments",
        capacity_bytes=2**40,
        free_bytes=2**39,
        zone="rack 7",
    )
    router = Member(node="n1", role="router", instance="n1", host="::1", port=5001)
    await members.heartbeat(putter)
    await members.heartbeat(router)
    assert [each.member for each in await world.other.members.seen()] == [router, putter]
    await world.pass_time(SHORT_MS)
    fuller = Member(
        **{**{f: getattr(putter, f) for f in putter.__struct_fields__}, "free_bytes": 1}
    )
    await members.heartbeat(fuller)
    (first, second) = await members.seen()
    assert second.member == fuller
    assert first.age_ms >= SHORT_MS
    assert second.age_ms < first.age_ms
    await members.leave("n1")
    await members.leave("n1")
    assert [each.member for each in await members.seen()] == [fuller]


async def test_a_lease_has_one_holder(world: World) -> None:
    leases = world.store.leases
    assert await leases.acquire("janitor", "a", LONG_MS)
    assert await leases.acquire("janitor", "a", LONG_MS)
    assert not await world.other.leases.acquire("janitor", "b", LONG_MS)
    assert await leases.acquire("scrub", "b", LONG_MS)
    await leases.release("janitor", "b")
    assert not await leases.acquire("janitor", "b", LONG_MS)
    await leases.release("janitor", "a")
    assert await leases.acquire("janitor", "b", SHORT_MS)
    await world.pass_time(SHORT_MS)
    assert await leases.acquire("janitor", "a", LONG_MS)


async def test_it_answers(world: World) -> None:
    await world.store.ping()


# Races


async def test_parallel_commits_to_one_name_have_one_order(world: World) -> None:
    await establish(world.store)

    async def write(n: int) -> tuple[int, Outcome]:
        store: Metadata = world.store if n % 2 else world.other
        await store.objects.begin(begin(f"A{n}"))
        stamp = granted(await store.counters.lease(Kind.STAMPS, 1)).first
        what = version("name", stamp, stored(f"A{n}", 10 * n), etag=str(n))
        return stamp, await store.objects.commit(commit_of(what))

    results = await asyncio.gather(*(write(n) for n in range(50)))
    stamps = [stamp for stamp, _ in results]
    assert len(set(stamps)) == 50
    held = await world.store.files.resolve(BUCKET, "name")
    assert held is not None
    assert held.stamp == max(stamps)
    assert {outcome for _, outcome in results} <= {Outcome.PUBLISHED, Outcome.SUPERSEDED}
    states = await asyncio.gather(*(world.store.objects.get(f"A{n}") for n in range(50)))
    alive = [each for each in states if each and each.state == "written"]
    assert [each.stamp for each in alive] == [max(stamps)]
    assert sum(each.state == "deleted" for each in states if each) == 49


async def test_of_parallel_creations_one_wins(world: World) -> None:
    async def create(n: int) -> Outcome:
        store = world.store if n % 2 else world.other
        await store.objects.begin(begin(f"A{n}"))
        what = version("name", 100 + n, stored(f"A{n}"), etag=str(n))
        return await store.objects.commit(commit_of(what, if_match=""))

    outcomes = await asyncio.gather(*(create(n) for n in range(50)))
    assert outcomes.count(Outcome.PUBLISHED) == 1
    assert outcomes.count(Outcome.REFUSED) == 49


async def test_of_writer_and_janitor_one_wins(world: World) -> None:
    chance = random.Random(7)
    names = [f"A{n}" for n in range(30)]
    await asyncio.gather(*(world.store.objects.begin(begin(name)) for name in names))

    async def writer(name: str) -> Outcome:
        await asyncio.sleep(chance.random() / 100)
        return await world.store.objects.commit(commit_of(version(name, 10, stored(name))))

    async def janitor(name: str) -> bool:
        await asyncio.sleep(chance.random() / 100)
        return await world.other.objects.fail(BUCKET, name)

    outcomes = await asyncio.gather(
        asyncio.gather(*(writer(name) for name in names)),
        asyncio.gather(*(janitor(name) for name in names)),
    )
    for name, outcome, failed in zip(names, *outcomes, strict=True):
        assert (outcome is Outcome.PUBLISHED) is not failed
        assert outcome in (Outcome.PUBLISHED, Outcome.GONE)
        held = await world.store.files.resolve(BUCKET, name)
        assert (held is not None) is not failed


async def test_many_calls_of_one_moment_are_answered_each_with_its_own(world: World) -> None:
    count = 300
    await asyncio.gather(
        *(
            publish(world.store, version(f"k{n}", 10 + n, stored(f"A{n}"), bucket=f"b-{n % 5}"))
            for n in range(count)
        )
    )
    found = await asyncio.gather(
        *(world.store.files.resolve(f"b-{n % 5}", f"k{n}") for n in range(count + 10))
    )
    assert [each.stamp if each else None for each in found] == [
        *range(10, 10 + count),
        *[None] * 10,
    ]
