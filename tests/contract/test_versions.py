"""What every coordinator promises about versions of names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from common.meta.claims import Claim, ClaimOutcome
from common.meta.interface import Metadata, Outcome
from common.meta.recovery import Finding
from common.meta.versions import Latest, VersionEntry
from common.records import Abort, BucketSettings, Change, Version
from common.versions import plain_name, version_name, versions_of
from tests.metadata_kit import (
    BUCKET,
    LONG_MS,
    World,
    commit_of,
    publish,
    stored,
    tombstone,
    version,
)

KEPT = versions_of(BUCKET)


def settings(stamp: int, versioning: str | None, bucket: str = BUCKET) -> BucketSettings:
    return BucketSettings(
        bucket, stamp, stamp, {} if versioning is None else {"versioning": versioning}
    )


def kept(key: str, number: int, etag: str = "e-tag", *objects: str) -> Version:
    """A version of a key beside the null one."""
    made = [stored(each, 100 + number) for each in objects]
    return version(version_name(key, number), number, *made, bucket=KEPT, etag=etag)


def marker(key: str, number: int, *, null: bool = False) -> Version:
    if null:
        return version(key, number, etag="")
    return kept(key, number, "")


async def enable(store: Metadata, stamp: int = 1, versioning: str = "Enabled") -> None:
    assert await store.buckets.change(settings(stamp, versioning))


async def put(store: Metadata, *versions: Version) -> None:
    for each in versions:
        assert await publish(store, each) is Outcome.PUBLISHED


async def every_version(store: Metadata, prefix: str = "", at_once: int = 3) -> list[VersionEntry]:
    """All versions, page by page."""
    found: list[VersionEntry] = []
    after, below = "", None
    while True:
        page = await store.versions.list(BUCKET, prefix, after, below, at_once)
        assert len(page.entries) <= at_once
        found += page.entries
        if page.next_after is None:
            return found
        after, below = page.next_after


async def listed(store: Metadata, prefix: str = "", at_once: int = 2) -> list[tuple[str, int]]:
    found = []
    after: str | None = ""
    while after is not None:
        page = await store.files.list(BUCKET, prefix, after, at_once)
        found += [(entry.key, entry.stamp) for entry in page.entries]
        after = page.next_after
    return found


def told(entries: Sequence[VersionEntry]) -> list[tuple[str, int, bool, bool, bool]]:
    return [(e.key, e.number, e.null, e.latest, not e.etag) for e in entries]


async def test_a_name_holds_its_newest_version(world: World) -> None:
    store = world.store
    null = version("a", 10, stored("A"))
    await put(store, null)
    await enable(store, 11)
    one, two = kept("a", 12, "one", "B"), kept("a", 14, "two", "C")
    await put(store, one)
    assert await world.other.files.resolve(BUCKET, "a") == one
    await put(store, two)
    assert await world.other.files.resolve(BUCKET, "a") == two
    assert await store.versions.latest(BUCKET, "a") == Latest("Enabled", two)
    assert await store.versions.held(BUCKET, "a") == null
    assert await store.versions.held(KEPT, one.key) == one
    assert await store.versions.held(KEPT, version_name("a", 13)) is None
    # What is published late is older where its number is.
    await put(store, kept("a", 13, "late", "D"))
    assert await store.files.resolve(BUCKET, "a") == two
    assert told(await every_version(store)) == [
        ("a", 14, False, True, False),
        ("a", 13, False, False, False),
        ("a", 12, False, False, False),
        ("a", 10, True, False, False),
    ]
    assert await listed(store) == [("a", 14)]


async def test_a_delete_marker_is_nothing(world: World) -> None:
    store = world.store
    await enable(store)
    await put(store, kept("a", 10), kept("b", 11), marker("a", 12))
    assert await store.files.resolve(BUCKET, "a") is None
    assert await store.versions.latest(BUCKET, "a") == Latest("Enabled", marker("a", 12))
    assert await listed(store) == [("b", 11)]
    assert told(await every_version(store)) == [
        ("a", 12, False, True, True),
        ("a", 10, False, False, False),
        ("b", 11, False, True, False),
    ]
    gone = tombstone(version_name("a", 12), 20, KEPT)
    assert await store.files.delete(gone) is Outcome.PUBLISHED
    assert await store.files.resolve(BUCKET, "a") == kept("a", 10)
    assert await listed(store) == [("a", 10), ("b", 11)]


async def test_null_versions_while_suspended(world: World) -> None:
    store = world.store
    await enable(store)
    await put(store, kept("a", 10))
    await enable(store, 11, "Suspended")
    null = version("a", 12, stored("A"))
    await put(store, null)
    assert await store.files.resolve(BUCKET, "a") == null
    assert (await store.versions.latest(BUCKET, "a")).versioning == "Suspended"
    await put(store, marker("a", 13, null=True))
    assert await store.files.resolve(BUCKET, "a") is None
    assert await listed(store) == []
    state = await store.objects.get("A")
    assert state is not None
    assert state.state == "deleted"
    assert told(await every_version(store)) == [
        ("a", 13, True, True, True),
        ("a", 10, False, False, False),
    ]
    # Deleted for good, the null version lets the older one be seen again.
    assert await store.files.delete(tombstone("a", 14)) is Outcome.PUBLISHED
    assert await store.files.resolve(BUCKET, "a") == kept("a", 10)
    assert await store.files.delete(tombstone(version_name("a", 10), 15, KEPT)) is Outcome.PUBLISHED
    assert await store.files.resolve(BUCKET, "a") is None
    assert await store.versions.latest(BUCKET, "a") == Latest("Suspended", None)
    assert await store.versions.anything(BUCKET) is None
    assert await every_version(store) == []


async def test_a_marker_takes_the_place_of_the_one_version_that_was_found(world: World) -> None:
    """Not that of another one with the same entity tag, which came in between."""
    store = world.store
    await enable(store, 5, "Suspended")
    await put(store, version("a", 10, stored("A")))
    again = version("a", 11, stored("B", 300))
    await put(store, again)
    marker = version("a", 12, etag="")
    assert await store.objects.commit(commit_of(marker, again.etag, 10)) is Outcome.REFUSED
    assert await store.files.resolve(BUCKET, "a") == again
    assert await store.objects.commit(commit_of(marker, again.etag, 11)) is Outcome.PUBLISHED
    assert await store.files.resolve(BUCKET, "a") is None
    late = version("a", 13, etag="")
    assert await store.objects.commit(commit_of(late, again.etag, 12)) is Outcome.REFUSED


async def test_a_writer_that_did_not_hear_of_a_change_changes_nothing(world: World) -> None:
    store = world.store
    null = version("a", 10, stored("A"))
    await put(store, null)
    assert await publish(store, kept("a", 11, "e", "B")) is Outcome.ELSEWHERE
    await enable(store, 12)
    other = version("a", 13, stored("C", 300))
    assert await publish(store, other) is Outcome.ELSEWHERE
    assert await store.files.resolve(BUCKET, "a") == null
    for object_id in ("B", "C"):
        state = await store.objects.get(object_id)
        assert state is not None
        assert state.state == "writing"
    # What was published before counts, whoever asks again.
    assert await store.objects.commit(commit_of(null)) is Outcome.PUBLISHED
    await enable(store, 14, "Suspended")
    assert await store.objects.commit(commit_of(other)) is Outcome.PUBLISHED
    assert await store.objects.commit(commit_of(kept("a", 11, "e", "B"))) is Outcome.ELSEWHERE
    assert await store.buckets.change(settings(15, None))
    assert (await store.versions.latest(BUCKET, "a")).versioning == ""


async def test_conditions_are_about_what_the_name_holds_now(world: World) -> None:
    store = world.store
    await put(store, version("a", 5, etag="null"))
    await enable(store, 6)

    async def under(condition: str | None, what: Version) -> Outcome:
        return await store.objects.commit(commit_of(what, condition))

    def claim(key: str, condition: str, holder: str = "me") -> Claim:
        return Claim(BUCKET, key, holder, LONG_MS, condition)

    assert await under("", kept("a", 7)) is Outcome.REFUSED
    assert await under("*", kept("b", 7)) is Outcome.REFUSED
    assert await under("null", kept("a", 8, "one")) is Outcome.PUBLISHED
    assert await under("null", kept("a", 9)) is Outcome.REFUSED
    assert await store.claims.take(claim("a", "null")) is ClaimOutcome.REFUSED
    assert await store.claims.take(claim("a", "one")) is ClaimOutcome.CLAIMED
    assert await store.claims.take(claim("a", "one", "other")) is ClaimOutcome.BUSY
    assert await under("one", kept("a", 10, "two")) is Outcome.PUBLISHED
    assert await store.claims.take(claim("a", "two", "other")) is ClaimOutcome.CLAIMED
    await put(store, marker("a", 11))
    assert await under("*", kept("a", 12)) is Outcome.REFUSED
    assert await under("", kept("a", 12, "three")) is Outcome.PUBLISHED
    assert await under("", kept("b", 13)) is Outcome.PUBLISHED
    await enable(store, 14, "Suspended")
    assert await under("", version("a", 15)) is Outcome.REFUSED
    assert await under("three", version("a", 15, etag="four")) is Outcome.PUBLISHED
    assert await under("four", version("a", 16, etag="five")) is Outcome.PUBLISHED


async def test_of_many_that_want_a_name_to_be_free_one_gets_it(world: World) -> None:
    store = world.store
    await enable(store)
    for number in (1, 2):
        outcomes = await asyncio.gather(
            *(store.objects.commit(commit_of(kept("a", 10 * number + n), "")) for n in range(8))
        )
        assert sorted(outcomes) == [Outcome.PUBLISHED, *[Outcome.REFUSED] * 7]
        await put(store, marker("a", 10 * number + 9))


async def test_keys_with_any_characters_stay_apart(world: World) -> None:
    store = world.store
    await enable(store)
    keys = ["a", "a\x00", "a\x01", "a\x01\x01", "a\x01\x02", "a\x02", "a!", "aü", "b", "%z", "a%1"]
    for n, key in enumerate(keys):
        await put(store, kept(key, 10 + n), kept(key, 100 + n))
        if n % 2:
            await put(store, marker(key, 200 + n))
    expected = sorted(keys, key=str.encode)
    there = [key for key in expected if not keys.index(key) % 2]
    assert await listed(store) == [(key, 100 + keys.index(key)) for key in there]
    assert list(dict.fromkeys(e.key for e in await every_version(store))) == expected
    assert len(await every_version(store)) == 2 * len(keys) + len(keys) // 2
    assert [key for key, _ in await listed(store, "a\x01")] == ["a\x01", "a\x01\x02"]
    for n, key in enumerate(keys):
        found = await store.files.resolve(BUCKET, key)
        assert (found is None) == bool(n % 2)
        assert found is None or plain_name(found) == (BUCKET, key)
        claim = Claim(BUCKET, key, "me", LONG_MS, "" if n % 2 else "*")
        assert await store.claims.take(claim) is ClaimOutcome.CLAIMED
        what = commit_of(kept(key, 300 + n), claim.if_match)
        assert await store.objects.commit(what) is Outcome.PUBLISHED
        assert await store.claims.take(replace(claim, holder="other", if_match="*")) is (
            ClaimOutcome.CLAIMED
        )


async def test_pages_begin_anywhere(world: World) -> None:
    store = world.store
    await put(store, version("b", 12), version("d", 3))
    await enable(store)
    await put(store, kept("a", 5), *(kept("b", n) for n in (10, 11, 13, 14)), kept("c", 20))
    entries = await every_version(store, at_once=1000)
    assert [(e.key, e.number) for e in entries] == [
        ("a", 5),
        *(("b", n) for n in (14, 13, 12, 11, 10)),
        ("c", 20),
        ("d", 3),
    ]
    assert [e.latest for e in entries] == [True, True, False, False, False, False, True, True]
    for at_once in (1, 2, 3, 5):
        assert await every_version(store, at_once=at_once) == entries
    for n, entry in enumerate(entries):
        page = await store.versions.list(BUCKET, "", entry.key, entry.number, 100)
        assert list(page.entries) == entries[n + 1 :]
    behind = await store.versions.list(BUCKET, "", "b", None, 100)
    assert list(behind.entries) == entries[6:]
    assert (await store.versions.list(BUCKET, "b", "a", 5, 100)).entries == tuple(entries[1:6])
    # A marker need not be the number of a version that is there.
    page = await store.versions.list(BUCKET, "", "b", 100, 2)
    assert list(page.entries) == entries[1:3]
    assert (await store.versions.list("nobody", "", "", None, 5)).entries == ()
    assert await store.versions.held("nobody", "a") is None
    assert await store.versions.latest("nobody", "a") == Latest("", None)
    for limit in (0, 1001):
        with pytest.raises(ValueError, match="a page has"):
            await store.versions.list(BUCKET, "", "", None, limit)


async def test_whether_a_bucket_holds_anything(world: World) -> None:
    store = world.store
    assert await store.versions.anything("nobody") is None
    await enable(store)
    assert await store.versions.anything(BUCKET) is None
    await put(store, marker("a", 10))
    assert await store.versions.anything(BUCKET) == 1_700_000_000_010
    await store.files.delete(tombstone(version_name("a", 10), 20, KEPT))
    assert await store.versions.anything(BUCKET) is None
    await enable(store, 2, "Suspended")
    await put(store, marker("a", 11, null=True))
    assert await store.versions.anything(BUCKET) == 1_700_000_000_011


async def test_an_object_of_a_version_is_found_where_it_is(world: World) -> None:
    store = world.store
    await enable(store)
    what = kept("a", 10, "e", "A")
    await put(store, what)
    state = await world.other.objects.get("A")
    assert state is not None
    assert (state.bucket, state.key, state.state) == (KEPT, what.key, "written")
    (described,) = await store.repairs.described(KEPT, "", 10)
    assert described.version == what
    assert await store.files.buckets() == [KEPT]
    assert await store.objects.hold(KEPT, "A", "me", LONG_MS)
    await store.files.delete(tombstone(what.key, 20, KEPT))
    state = await store.objects.get("A")
    assert state is not None
    assert state.state == "deleted"


async def test_records_bring_it_all_back(world: World) -> None:
    store = world.store
    records: list[Change] = [
        settings(11, "Enabled"),
        version("a", 10, stored("A")),
        kept("a", 12, "one", "B"),
        marker("a", 13),
        kept("b", 14, "two", "C"),
        kept("b", 15, "three"),
        tombstone(version_name("b", 15), 16, KEPT),
        Abort(KEPT, version_name("b", 17), 18, "", 17),
    ]
    for record in (*records, *reversed(records)):
        await store.recovery.restore([Finding(record)], anew=True)
    await store.recovery.restore([Finding(kept("b", 17, "never"))], anew=True)
    assert await store.files.resolve(BUCKET, "a") is None
    assert await store.files.resolve(BUCKET, "b") == kept("b", 14, "two", "C")
    assert told(await every_version(store)) == [
        ("a", 13, False, True, True),
        ("a", 12, False, False, False),
        ("a", 10, True, False, False),
        ("b", 14, False, True, False),
    ]
    assert await store.objects.commit(commit_of(version("c", 20))) is Outcome.ELSEWHERE
    await store.recovery.restore([Finding(settings(21, "Suspended"))], anew=True)
    assert await store.objects.commit(commit_of(version("c", 22))) is Outcome.PUBLISHED
    assert await store.objects.commit(commit_of(kept("c", 23))) is Outcome.ELSEWHERE


async def test_a_long_listing_comes_in_pages_of_its_own(world: World) -> None:
    store = world.store
    nulls = [version(f"n{n:03}", 10 + n) for n in range(0, 600, 2)]
    assert set(await asyncio.gather(*(publish(store, each) for each in nulls))) == {
        Outcome.PUBLISHED
    }
    await enable(store, 1000)
    newer = [kept(f"n{n:03}", 2000 + n) for n in range(0, 600, 3)]
    await asyncio.gather(*(store.objects.commit(commit_of(each)) for each in newer))
    expected = [
        (f"n{n:03}", 10 + n if n % 3 else 2000 + n) for n in range(600) if n % 2 == 0 or n % 3 == 0
    ]
    assert await listed(store, at_once=1000) == expected
    assert [(e.key, e.number) for e in await every_version(store, at_once=1000) if e.latest] == (
        expected
    )
