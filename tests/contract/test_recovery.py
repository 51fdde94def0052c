"""What every coordinator promises about being brought up to date from commit records."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from common.errors import MetadataUnavailable, Unavailable
from common.meta.announcements import Announcement
from common.meta.handoff import Missed
from common.meta.interface import Ceilings, EpochUnknown, Kind, Metadata, Outcome
from common.meta.outbox import Post
from common.meta.recovery import Finding, Mark, Restored
from common.meta.repairs import Surplus
from common.meta.values import pack_version
from common.records import Abort, BucketSettings, Change, Tombstone, Version
from common.tickets import format_id
from tests.metadata_kit import (
    BUCKET,
    World,
    access_key,
    begin,
    commit_of,
    publish,
    stored,
    tombstone,
    version,
)

MakeWorld = Callable[..., World]


async def restore(store: Metadata, *records: Change, anew: bool = True) -> list[Restored]:
    return await store.recovery.restore([Finding(each) for each in records], anew=anew)


async def test_a_version_is_what_the_name_holds(world: World) -> None:
    what = version("cat.jpg", 10, stored("A"))
    assert await restore(world.store, what) == [Restored.APPLIED]
    assert await world.other.files.resolve(BUCKET, "cat.jpg") == what
    state = await world.store.objects.get("A")
    assert state is not None
    assert (state.state, state.key, state.stamp) == ("written", "cat.jpg", 10)
    assert (state.ranges, state.nodes) == (((100, 2),), ("n1", "n2"))
    assert await world.store.files.buckets() == [BUCKET]
    page = await world.store.files.list(BUCKET, "", "", 10)
    assert [entry.key for entry in page.entries] == ["cat.jpg"]
    assert await restore(world.store, what) == [Restored.KNOWN]
    assert await world.store.objects.commit(commit_of(what)) is Outcome.PUBLISHED


async def test_in_any_order_the_highest_stamp_wins_and_the_rest_is_freed(
    make_world: MakeWorld,
) -> None:
    records = (
        version("a", 10, stored("A", 100)),
        version("a", 12, stored("B", 200)),
        version("a", 11, stored("C", 300)),
    )
    for number, order in enumerate(itertools.permutations(records)):
        world = make_world(grace_ms=0)
        moved = [_moved(each, f"bucket-{number}") for each in order]
        moved_again = [*moved, *moved]
        await restore(world.store, *moved_again)
        held = await world.store.files.resolve(f"bucket-{number}", "a")
        assert held is not None
        assert held.stamp == 12
        await world.pass_time(1)
        freed = await world.store.objects.to_free(100)
        mine = {each.object_id for each in freed if each.bucket == f"bucket-{number}"}
        assert mine == {f"A{number}", f"C{number}"}


def _moved(what: Version, bucket: str) -> Version:
    """The same in another bucket, with other objects."""
    objects = tuple(
        msgspec.structs.replace(
            each, object_id=(each.object_id + bucket.rpartition("-")[2]).removesuffix("other")
        )
        for each in what.objects
    )
    return msgspec.structs.replace(what, bucket=bucket, objects=objects)


async def test_a_tombstone_hides_what_is_older_whenever_that_comes(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    older, newer = version("a", 10, stored("A")), version("a", 30, stored("B", 200))
    assert await restore(world.store, tombstone("a", 20)) == [Restored.APPLIED]
    assert await restore(world.store, older) == [Restored.SUPERSEDED]
    assert await world.store.files.resolve(BUCKET, "a") is None
    await world.pass_time(1)
    assert [each.object_id for each in await world.store.objects.to_free(10)] == ["A"]
    assert await restore(world.store, newer, tombstone("a", 20)) == [
        Restored.APPLIED,
        Restored.SUPERSEDED,
    ]
    assert await world.store.files.resolve(BUCKET, "a") == newer
    assert await restore(world.store, tombstone("a", 40)) == [Restored.APPLIED]
    assert await restore(world.store, tombstone("a", 40)) == [Restored.KNOWN]
    assert await world.store.files.resolve(BUCKET, "a") is None
    assert (await world.store.files.list(BUCKET, "", "", 10)).entries == ()
    assert await world.store.files.buckets() == [BUCKET]


async def test_a_repeated_deletion_after_a_restore_still_says_that_it_deleted(
    world: World,
) -> None:
    await restore(world.store, version("a", 10, stored("A")), tombstone("a", 20))
    assert await world.store.files.delete(tombstone("a", 20)) is Outcome.PUBLISHED


async def test_what_was_aborted_is_freed_and_never_seen(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    abort = Abort(BUCKET, "a", 30, "A", 10)
    assert await restore(world.store, abort) == [Restored.APPLIED]
    assert await restore(world.store, abort) == [Restored.KNOWN]
    assert await restore(world.store, version("a", 10, stored("A"))) == [Restored.ABORTED]
    assert await world.store.files.resolve(BUCKET, "a") is None
    await world.pass_time(1)
    (state,) = await world.store.objects.to_free(10)
    assert (state.state, state.ranges, state.nodes) == ("failed", ((100, 2),), ("n1", "n2"))
    await world.store.objects.forget(BUCKET, "A")
    assert await world.store.objects.to_free(10) == []


async def test_an_abort_of_a_version_without_a_byte(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    await restore(world.store, version("a", 5))
    assert await restore(world.store, Abort(BUCKET, "a", 30, "", 10), version("a", 10)) == [
        Restored.APPLIED,
        Restored.ABORTED,
    ]
    assert await restore(world.store, version("a", 7)) == [Restored.APPLIED]
    held = await world.store.files.resolve(BUCKET, "a")
    assert held is not None
    assert held.stamp == 7
    await world.pass_time(1)
    (mark,) = await world.store.objects.to_free(10)
    assert (mark.ranges, mark.nodes) == ((), ())
    await world.store.objects.forget(BUCKET, mark.object_id)


async def test_bytes_that_are_not_there_are_given_up(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    lost = Finding(version("a", 10, stored("A")), whole=False)
    assert await world.store.recovery.restore([lost], anew=True) == [Restored.ABORTED]
    assert await world.store.files.resolve(BUCKET, "a") is None
    await world.pass_time(1)
    assert [each.state for each in await world.store.objects.to_free(10)] == ["failed"]


async def test_what_is_published_stays_although_its_bytes_are_missing(world: World) -> None:
    what = version("a", 10, stored("A"))
    await publish(world.store, what)
    lost = Finding(what, whole=False)
    assert await world.store.recovery.restore([lost], anew=True) == [Restored.KNOWN]
    assert await world.store.files.resolve(BUCKET, "a") == what


async def test_an_object_that_is_being_written_is_left_to_its_writer(world: World) -> None:
    what = version("a", 10, stored("A"))
    await world.store.objects.begin(begin("A", nodes=("n3",)))
    assert await restore(world.store, what, anew=False) == [Restored.WAITS]
    assert await world.store.recovery.writing(10) == [(BUCKET, "A")]
    assert await world.store.recovery.writing(0) is None
    assert await world.store.files.resolve(BUCKET, "a") is None
    assert await restore(world.store, what) == [Restored.APPLIED]
    assert await world.store.recovery.writing(10) == []
    assert await world.store.objects.stale(10) == []
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("n1", "n2", "n3")
    assert await world.store.objects.commit(commit_of(what)) is Outcome.PUBLISHED


@pytest.mark.parametrize("first", [0, 1])
async def test_two_descriptions_of_one_object(make_world: MakeWorld, first: int) -> None:
    """Its runs went elsewhere than the first record says: the second one is true."""
    world = make_world(grace_ms=0)
    meant = version("a", 10, stored("A", nodes=("n1", "n2")))
    true = version("a", 11, stored("A", nodes=("n1", "n3")))
    order = (meant, true) if first == 0 else (true, meant)
    await restore(world.store, *order)
    assert await world.store.files.resolve(BUCKET, "a") == true
    await world.pass_time(1)
    assert await world.store.objects.to_free(10) == []
    (stray,) = await world.store.repairs.surplus(10)
    assert (stray.node, stray.object_id, stray.whole) == ("n2", "A", True)
    await world.store.files.delete(tombstone("a", 20))
    await world.pass_time(1)
    (old,) = await world.store.objects.to_free(10)
    assert (old.object_id, old.nodes) == ("A", ("n1", "n2", "n3"))


@pytest.mark.parametrize("first", [0, 1])
async def test_a_corrected_description_is_true(make_world: MakeWorld, first: int) -> None:
    world = make_world(grace_ms=0)
    meant = version("a", 10, stored("A", nodes=("n1", "n2")))
    true = msgspec.structs.replace(
        version("a", 10, stored("A", nodes=("n1",))), revision=15, replicas=2
    )
    await restore(world.store, *((meant, true) if first == 0 else (true, meant)))
    assert await world.store.files.resolve(BUCKET, "a") == true
    await world.pass_time(1)
    (stray,) = await world.store.repairs.surplus(10)
    assert (stray.node, stray.object_id, stray.whole) == ("n2", "A", True)
    await world.store.files.delete(tombstone("a", 20))
    await world.pass_time(1)
    (old,) = await world.store.objects.to_free(10)
    assert old.nodes == ("n1", "n2")


async def test_what_is_just_being_copied_is_not_freed_for_an_old_description(
    make_world: MakeWorld,
) -> None:
    world = make_world(grace_ms=0)
    true = msgspec.structs.replace(version("a", 10, stored("A", nodes=("n1",))), revision=15)
    await restore(world.store, true)
    assert await world.store.repairs.reach(BUCKET, "A", "n2")
    await restore(world.store, version("a", 10, stored("A", nodes=("n1", "n2"))))
    await world.pass_time(1)
    assert await world.store.repairs.surplus(10) == []


async def test_a_number_that_was_used_twice_changes_nothing(world: World) -> None:
    await restore(world.store, version("a", 10, stored("A")))
    assert await restore(world.store, version("b", 11, stored("A"))) == [Restored.CONFLICT]
    assert await world.store.files.resolve(BUCKET, "b") is None


async def test_failed_and_deleted_objects_do_not_come_back(make_world: MakeWorld) -> None:
    world = make_world(grace_ms=0)
    await world.store.objects.begin(begin("A"))
    await world.store.objects.fail(BUCKET, "A")
    assert await restore(world.store, version("a", 10, stored("A"))) == [Restored.ABORTED]
    await publish(world.store, version("b", 11, stored("B", 200)))
    await world.store.files.delete(tombstone("b", 12))
    assert await restore(world.store, version("b", 11, stored("B", 200))) == [Restored.KNOWN]
    assert (await world.store.files.list(BUCKET, "", "", 10)).entries == ()


async def test_a_restore_equals_the_history(make_world: MakeWorld) -> None:
    """Whatever happened to names, their records alone say the same."""
    rng = random.Random(5)
    lived, restored = make_world(grace_ms=0), make_world(grace_ms=0)
    records: list[Change] = []
    for stamp in range(1, 60):
        key = rng.choice("abcd")
        if rng.random() < 0.3 and await lived.store.files.resolve(BUCKET, key):
            gone = Tombstone(BUCKET, key, stamp, 0)
            records.append(gone)
            await lived.store.files.delete(gone)
        else:
            what = version(key, stamp, stored(f"O{stamp}", 10 * stamp))
            records.append(what)
            await publish(lived.store, what)
    rng.shuffle(records)
    other = [_elsewhere(each) for each in records]
    await restore(restored.store, *other)
    await lived.pass_time(1)
    assert await told(restored.store, "other") == await told(lived.store, BUCKET)


@pytest.mark.parametrize("later", [True, False])
async def test_a_restored_deletion_of_one_version_deletes_no_other(
    make_world: MakeWorld, *, later: bool
) -> None:
    records: list[Change] = [
        version("a", 9, stored("O", 100)),
        version("a", 10, stored("A", 200)),
        tombstone("a", 20, of=10),
    ]
    if later:
        records.append(version("a", 15, stored("B", 300)))
    for number, order in enumerate(itertools.permutations(records)):
        world = make_world(grace_ms=0)
        bucket = f"bucket-{number}"
        moved = [_elsewhere(each, bucket) for each in order]
        await restore(world.store, *moved, *moved)
        held = await world.store.files.resolve(bucket, "a")
        assert (held.stamp if held else None) == (15 if later else None)
        entries = (await world.store.files.list(bucket, "", "", 10)).entries
        assert [entry.stamp for entry in entries] == [15][: int(later)]
        await world.pass_time(1)
        freed = await world.store.objects.to_free(100)
        assert {each.object_id for each in freed if each.bucket == bucket} == {
            f"O{number}",
            f"A{number}",
        }
        if not later:
            again = tombstone("a", 20, bucket, of=10)
            assert await world.store.files.delete(again) is Outcome.PUBLISHED, "it did"


async def test_a_restore_equals_a_history_of_deletions_of_single_versions(
    make_world: MakeWorld,
) -> None:
    """Those that were refused left a record, too; stamps are not always taken in their order."""
    rng = random.Random(7)
    lived, restored = make_world(grace_ms=0), make_world(grace_ms=0)
    records: list[Change] = []
    stamps = [stamp + rng.choice((0, 0, 9)) for stamp in range(1, 600, 10)]
    for at in range(0, len(stamps), 3):
        stamps[at : at + 3] = rng.sample(stamps[at : at + 3], len(stamps[at : at + 3]))
    for stamp in stamps:
        key = rng.choice("ab")
        if rng.random() < 0.5 and records:
            of = rng.choice(records[-6:])
            gone = Tombstone(BUCKET, of.key, stamp, 0, of.stamp)
            if isinstance(of, Version) and of.stamp < stamp:
                records.append(gone)
                await lived.store.files.delete(gone)
        else:
            what = version(key, stamp, stored(f"O{stamp}", 10 * stamp))
            records.append(what)
            await publish(lived.store, what)
    assert any(isinstance(each, Tombstone) for each in records)
    rng.shuffle(records)
    await restore(restored.store, *(_elsewhere(each) for each in records))
    await lived.pass_time(1)
    assert await told(restored.store, "other") == await told(lived.store, BUCKET)


def _elsewhere(record: Change, bucket: str = "other") -> Change:
    return (
        _moved(record, bucket)
        if isinstance(record, Version)
        else (msgspec.structs.replace(record, bucket=bucket))
    )


async def told(store: Metadata, bucket: str) -> list[Any]:
    """What can be asked of a bucket."""
    doomed = [each for each in await store.objects.to_free(1000) if each.bucket == bucket]
    page = await store.files.list(bucket, "", "", 100)
    held = [await store.files.resolve(bucket, key) for key in "abcd"]
    return [
        sorted((each.object_id.lower(), each.state, each.ranges, each.nodes) for each in doomed),
        page,
        [(each.stamp, each.size) for each in held if each],
    ]


# Settings of buckets


def settings(stamp: int, bucket: str = BUCKET, **values: Any) -> BucketSettings:
    return BucketSettings(bucket, stamp, 1_700_000_000_000, values)


async def test_settings_of_a_bucket_come_back_and_the_latest_count(make_world: MakeWorld) -> None:
    told = [settings(10, replicas=3), settings(12, later={"days": [7, None]}), settings(11)]
    for number, order in enumerate(itertools.permutations(told)):
        world = make_world()
        moved = [msgspec.structs.replace(each, bucket=f"bucket-{number}") for each in order]
        outcomes = await restore(world.store, *moved)
        latest = [n for n, each in enumerate(order) if each.stamp == 12]
        assert [outcomes[n] for n in latest] == [Restored.APPLIED]
        assert set(outcomes[latest[0] + 1 :]) <= {Restored.SUPERSEDED}
        assert await restore(world.store, moved[latest[0]]) == [Restored.KNOWN]
        held = await world.other.buckets.get(f"bucket-{number}")
        assert held is not None
        assert (held.record.stamp, held.record.settings) == (12, {"later": {"days": [7, None]}})
        assert held.followed == 0
        assert f"bucket-{number}" in await world.store.buckets.names()
        assert f"bucket-{number}" not in await world.store.files.buckets()


async def test_restored_settings_do_not_undo_later_ones(world: World) -> None:
    await publish(world.store, version("a", 10, stored("A")))
    assert await world.store.buckets.change(settings(20, replicas=3))
    assert await restore(world.store, settings(15, replicas=1)) == [Restored.SUPERSEDED]
    assert await restore(world.store, settings(20, replicas=3)) == [Restored.KNOWN]
    held = await world.store.buckets.get(BUCKET)
    assert held is not None
    assert held.record.settings == {"replicas": 3}
    assert await restore(world.store, settings(25, replicas=1)) == [Restored.APPLIED]
    assert not await world.store.buckets.change(settings(24))


# Access keys


async def test_access_keys_come_back_and_the_latest_count(make_world: MakeWorld) -> None:
    told = [access_key(10, owner="a"), access_key(12, sealed=b""), access_key(11, owner="b")]
    for number, order in enumerate(itertools.permutations(told)):
        world = make_world()
        name = f"AK{number}"
        moved = [msgspec.structs.replace(each, key=name) for each in order]
        outcomes = await restore(world.store, *moved)
        latest = [n for n, each in enumerate(order) if each.stamp == 12]
        assert [outcomes[n] for n in latest] == [Restored.APPLIED]
        assert set(outcomes[latest[0] + 1 :]) <= {Restored.SUPERSEDED}
        assert await restore(world.store, moved[latest[0]]) == [Restored.KNOWN]
        assert await world.other.access.get(name) == moved[latest[0]]
        assert await world.store.buckets.names() == []
        assert await world.store.files.buckets() == []


async def test_restored_access_keys_do_not_undo_later_changes(world: World) -> None:
    assert await world.store.access.change(access_key(20))
    assert await restore(world.store, access_key(15)) == [Restored.SUPERSEDED]
    assert await restore(world.store, access_key(20)) == [Restored.KNOWN]
    assert await world.store.access.every() == [access_key(20)]
    assert await restore(world.store, access_key(25, owner="b")) == [Restored.APPLIED]
    assert not await world.store.access.change(access_key(24))


# Standing


async def test_marks_only_go_up_and_need_a_complete_coordinator(world: World) -> None:
    recovery = world.store.recovery
    epoch = (await recovery.standing()).epoch
    assert await recovery.mark(epoch, {"p0": Mark(5), "p1": Mark(7, epoch)})
    assert await recovery.mark(epoch, {"p0": Mark(3, epoch), "p1": Mark(9)})
    marks = (await world.other.recovery.standing()).marks
    assert marks == {"p0": Mark(5, epoch), "p1": Mark(9, epoch)}
    assert not await recovery.mark("long ago", {"p0": Mark(50)})
    assert not await recovery.mark(epoch, {"p0": Mark(50)}, "an attempt that nobody began")
    await recovery.forget("p0")
    assert set((await recovery.standing()).marks) == {"p1"}


async def test_one_attempt_at_a_time(world: World) -> None:
    recovery = world.store.recovery
    standing = await recovery.standing()
    assert await recovery.begin(standing.epoch, "first")
    assert await recovery.begin(standing.epoch, "second")
    assert not await recovery.begin("long ago", "third")
    assert not await recovery.mark(standing.epoch, {"p0": Mark(5)}, "first")
    assert await recovery.mark(standing.epoch, {"p0": Mark(5)}, "second")
    assert not await recovery.complete(standing, 5, "first")
    assert await recovery.complete(standing, 77, "second")
    assert not await recovery.complete(standing, 5, "second"), "it is over"
    assert (await world.other.recovery.standing()).stamp == 77


async def test_it_tells_whether_the_counters_are_established(world: World) -> None:
    recovery = world.store.recovery
    assert not (await recovery.standing()).established
    unknown = await world.store.counters.lease(Kind.TICKETS, 1)
    assert isinstance(unknown, EpochUnknown)
    await world.store.counters.establish(unknown.epoch, Ceilings(3, 4, 5))
    standing = await recovery.standing()
    assert standing.established
    assert standing.ceilings == Ceilings(3, 4, 5)
    assert not standing.fresh


async def test_buckets_that_nobody_used_hold_nothing_and_stay_unknown(world: World) -> None:
    assert await world.store.files.resolve("nobody", "a") is None
    assert (await world.store.files.list("nobody", "", "", 10)).entries == ()
    assert not await world.store.objects.fail("nobody", "A")
    assert await world.store.files.buckets() == []


Ask = Callable[[Metadata], Any]
QUESTIONS: list[Ask] = [
    lambda store: store.files.resolve(BUCKET, "a"),
    lambda store: store.files.resolve("nobody", "a"),
    lambda store: store.files.list(BUCKET, "", "", 10),
    lambda store: store.files.buckets(),
    lambda store: store.files.delete(tombstone("a", 20)),
    lambda store: store.objects.get("A"),
    lambda store: store.objects.begin(begin("B")),
    lambda store: store.objects.commit(commit_of(version("a", 12))),
    lambda store: store.announcements.announce(
        Announcement(BUCKET, ("C",), 9, "r1", 1000, ("n1",))
    ),
    lambda store: store.announcements.withdraw(BUCKET, ("C",)),
    lambda store: store.objects.stale(10),
    lambda store: store.objects.to_free(10),
    lambda store: store.objects.hold(BUCKET, "A", "me", 1000),
    lambda store: store.objects.fail(BUCKET, "A"),
    lambda store: store.objects.postpone(BUCKET, "A", 1),
    lambda store: store.repairs.debts(),
    lambda store: store.repairs.owed("n1", 10),
    lambda store: store.repairs.described(BUCKET, "", 10),
    lambda store: store.repairs.reach(BUCKET, "A", "n9"),
    lambda store: store.repairs.amend(
        pack_version(version("a", 10, stored("A"))), version("a", 10, stored("A"))
    ),
    lambda store: store.repairs.surplus(10),
    lambda store: store.repairs.freed(Surplus("n1", BUCKET, "A", (), True, 5)),
    lambda store: store.handoff.note([Missed("n1", BUCKET, 7, (), b"x")]),
    lambda store: store.handoff.lacking(),
    lambda store: store.handoff.missed("n1", 10),
    lambda store: store.handoff.given([Missed("n1", BUCKET, 7, (), b"x")]),
    lambda store: store.outbox.post(BUCKET, [Post("hook", b"x")]),
    lambda store: store.outbox.buckets(),
    lambda store: store.outbox.queues(BUCKET),
    lambda store: store.outbox.first(BUCKET, "hook", 10),
    lambda store: store.outbox.done(BUCKET, "hook", [1]),
    lambda store: store.versions.held(BUCKET, "a"),
    lambda store: store.versions.latest(BUCKET, "a"),
    lambda store: store.versions.list(BUCKET, "", "", None, 10),
    lambda store: store.versions.anything(BUCKET),
    lambda store: store.buckets.get(BUCKET),
    lambda store: store.buckets.get("nobody"),
    lambda store: store.buckets.change(settings(30)),
    lambda store: store.buckets.followed(BUCKET, 30),
    lambda store: store.buckets.configured(),
    lambda store: store.buckets.names(),
    lambda store: store.buckets.use(BUCKET),
    lambda store: store.access.get("AK"),
    lambda store: store.access.change(access_key(30)),
    lambda store: store.access.every(),
    lambda store: store.recovery.writing(10),
    lambda store: store.recovery.absent(["A"]),
]


async def test_nothing_is_answered_before_it_is_complete(lost_world: World) -> None:
    """All at the same time, as each waits until its patience ends."""
    store = lost_world.store

    async def answered(refusal: type[Unavailable]) -> list[int]:
        answers = await asyncio.gather(*(ask(store) for ask in QUESTIONS), return_exceptions=True)
        return [n for n, answer in enumerate(answers) if not isinstance(answer, refusal)]

    store.recovery.refuse(Unavailable("rebuild it"))
    assert await answered(Unavailable) == []
    store.recovery.refuse(None)
    assert await answered(MetadataUnavailable) == []


@pytest.mark.parametrize("ask", QUESTIONS)
async def test_everything_is_answered_once_it_is_complete(lost_world: World, ask: Ask) -> None:
    store = lost_world.store
    standing = await store.recovery.standing()
    assert not standing.complete
    assert standing.fresh
    assert await store.recovery.begin(standing.epoch, "now")
    await restore(store, version("a", 10, stored("A")))
    assert await store.recovery.complete(standing, 0, "now")
    await ask(store)
    assert (await store.recovery.standing()).complete


async def test_objects_that_no_bucket_knows(world: World) -> None:
    store = world.store
    assert await store.recovery.absent(["A", "B"]) == {"A", "B"}
    await store.objects.begin(begin("A"))
    await publish(store, version("cat", 10, stored("B", 200), bucket="other"))
    await store.objects.begin(begin("C", ranges=((300, 2),)))
    await store.objects.fail(BUCKET, "C")
    await publish(store, version("cat", 11, stored("D", 400), bucket="other"))
    everything = ["A", "B", "C", "D", "E", "F", "E"]
    assert await world.other.recovery.absent(everything) == {"E", "F"}
    await store.objects.forget(BUCKET, "C")
    await store.objects.forget("other", "B")
    assert await store.recovery.absent(everything) == {"B", "C", "E", "F"}
    assert await store.recovery.absent([]) == set()
    many = [format_id(number) for number in range(100_000, 103_000)]
    assert await store.recovery.absent([*many, "A", "D"]) == set(many)


def described_by(revision: int, tagged: int, node: str) -> Version:
    """The same version, described so."""
    what = version("a", 10, stored("A", nodes=(node,)))
    tags = {"tagged": str(tagged)} if tagged else {}
    return msgspec.structs.replace(what, revision=revision, tags=tags, tagged=tagged)


async def test_bytes_and_tags_are_as_the_newest_of_each_says_in_any_order(
    make_world: MakeWorld,
) -> None:
    """A repair and a change of tags that knew nothing of each other."""
    records = (
        described_by(0, 0, "n1"),
        described_by(30, 20, "n2"),
        described_by(20, 40, "n1"),
        described_by(0, 35, "n1"),
    )
    for number, order in enumerate(itertools.permutations(records)):
        world = make_world()
        bucket = f"bucket-{number}"
        moved = [_moved(each, bucket) for each in order]
        await restore(world.store, *moved)
        held = await world.store.files.resolve(bucket, "a")
        assert held is not None
        assert (held.revision, held.tagged) == (30, 40)
        assert held.tags == {"tagged": "40"}
        assert held.objects[0].extents[0].nodes == ("n2",)
        assert set(await restore(world.store, *moved)) == {Restored.KNOWN}
        described = await world.store.repairs.at(bucket, "a")
        assert described is not None
        assert described.version == held
