"""Whatever changes something posts its event, once, for the bucket's own rules; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.event_targets import EventTarget, parse_targets
from common.records import Version
from router.events import (
    COPY,
    DELETE,
    EXPIRED,
    MARKER,
    PUT,
    SETTING,
    TAGGED,
    UNTAGGED,
    Event,
    Rule,
    kept,
    read_event,
)
from router.expiry import Expiry
from router.ingest import BUCKET as UPLOADED
from router.lifecycle import DAY_MS
from router.lifecycle import SETTING as LIFECYCLE
from router.lifecycle import Rule as Ends
from router.lifecycle import kept as kept_ends
from router.origin import Origin, bind_origin
from router.uploads import Uploads
from tests.node_kit import Wire, play
from tests.router_kit import INGEST, Store, payload
from tests.simulation.loop import World
from tests.unit.router.test_expiry import Ahead
from tests.unit.router.test_janitor import with_orphan
from tests.unit.router.test_repair import version_of

PHOTOS = "photos"
BY = Origin("ann", "10.0.0.1", "request-1")
KINDS = ("ObjectCreated", "ObjectRemoved", "ObjectTagging", "LifecycleExpiration")
EVERYTHING = kept([Rule("one", "hook", "arn", tuple(f"s3:{kind}:*" for kind in KINDS))])


def with_rules(
    scene: Callable[[Store], Awaitable[None]], versioning: str | None = None, putters: int = 1
) -> None:
    async def opened(world: World) -> None:
        store = Store(world, putters)
        await store.start()
        try:
            changes = {SETTING: EVERYTHING, "versioning": versioning}
            await store.router.configure.change(PHOTOS, changes)
            bind_origin(BY)
            await scene(store)
        finally:
            await store.stop()

    play(opened)


async def posted(store: Store, bucket: str = PHOTOS) -> list[Event]:
    """What waits; it waits no more."""
    waiting = await store.meta.outbox.first(bucket, "hook", 1000)
    await store.meta.outbox.done(bucket, "hook", [each.number for each in waiting])
    return [read_event(each.body) for each in waiting]


async def names(store: Store) -> list[tuple[str, str]]:
    return [(each.name, each.key) for each in await posted(store)]


@pytest.mark.parametrize("versioning", [None, "Enabled", "Suspended"])
@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_write_is_posted_with_what_it_is(size: int, versioning: str | None) -> None:
    async def scene(store: Store) -> None:
        written = await store.write(payload(size), empty_allowed=True)
        (event,) = await posted(store)
        version = written.version
        assert (event.name, event.bucket, event.key) == (PUT, PHOTOS, "cat")
        assert (event.size, event.etag, event.stamp) == (size, version.etag, version.stamp)
        assert (event.principal, event.address, event.request) == ("ann", "10.0.0.1", "request-1")
        assert (event.rule, event.at_ms) == ("one", version.created_ms)
        known = {None: "", "Suspended": "null"}
        assert event.version == known.get(versioning, event.version)
        assert bool(event.version) is (versioning is not None)
        await store.write(payload(size), "dog", empty_allowed=True, event=COPY)
        assert await names(store) == [(COPY, "dog")]
        await store.write(payload(size), bucket="films", empty_allowed=True)
        assert await store.meta.outbox.buckets() == [], "others tell nobody"

    with_rules(scene, versioning)


def test_those_of_a_group_are_posted_each_for_its_own_sender() -> None:
    async def scene(store: Store) -> None:
        async def write(n: int) -> None:
            bind_origin(Origin(f"owner-{n}", "", f"request-{n}"))
            await store.write(payload(10 + n), f"k{n}")

        await asyncio.gather(*(write(n) for n in range(20)))
        told = {(each.key, each.principal, each.request, each.size) for each in await posted(store)}
        assert told == {(f"k{n}", f"owner-{n}", f"request-{n}", 10 + n) for n in range(20)}

    with_rules(scene)


def test_deletions_and_tags_are_posted() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(10))
        retag = store.router.retag
        tagged = await retag.change(lambda: version_of(store, "cat"), {"a": "b"}, TAGGED)
        await retag.change(lambda: version_of(store, "cat"), {"a": "b"}, TAGGED)
        await retag.change(lambda: version_of(store, "cat"), {}, UNTAGGED)
        deletes = store.router.writes.deletes
        assert (await deletes.name(PHOTOS, "cat")).found
        assert not (await deletes.name(PHOTOS, "cat")).found
        await store.write(payload(10))
        assert (await deletes.name(PHOTOS, "cat", lambda _: True)).found
        events = await posted(store)
        assert [each.name for each in events] == [PUT, TAGGED, UNTAGGED, DELETE, PUT, DELETE]
        assert events[1].stamp == tagged.tagged
        stamps = [each.stamp for each in events]
        assert stamps == sorted(set(stamps)), "in the order of changes"
        assert all(each.principal == "ann" for each in events)

    with_rules(scene)


def test_markers_and_versions_are_posted() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(10))
        deletes = store.router.writes.deletes
        await deletes.name(PHOTOS, "cat")
        put, marker = await posted(store)
        assert (put.name, marker.name, marker.key) == (PUT, MARKER, "cat")
        page = await store.meta.versions.list(PHOTOS, "", "", None, 10)
        for each in page.entries:
            assert await deletes.version(PHOTOS, "cat", each.number) is not None
        gone = await posted(store)
        assert [each.name for each in gone] == [DELETE, DELETE]
        assert [each.version for each in gone] == [marker.version, put.version]

    with_rules(scene, "Enabled")


def test_what_ends_by_a_rule_is_posted_as_that() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(10))
        rule = kept_ends([Ends("one", days=1)])
        await store.router.configure.change(PHOTOS, {LIFECYCLE: rule})
        of, clock = store.router, Ahead(store.world.clock, 3)
        uploads = Uploads(store.meta, of.writes)
        expiry = Expiry(store.meta, of.writes, uploads, clock, of.metrics, "r0.1", DAY_MS)
        await posted(store)
        await asyncio.create_task(expiry.round())
        (event,) = await posted(store)
        assert (event.name, event.key, event.principal) == (EXPIRED, "cat", "")
        await store.write(payload(10))
        await store.router.writes.delete(PHOTOS, "cat")
        assert await names(store) == [(PUT, "cat"), (DELETE, "cat")], "others are not taken for it"

    with_rules(scene)


def test_a_write_that_is_rolled_forward_is_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(store: Store, _: Version) -> None:
        await store.router.configure.change(PHOTOS, {SETTING: EVERYTHING})
        await store.router.janitor.round()
        (event,) = await posted(store)
        assert (event.name, event.key, event.principal) == (PUT, "cat", "")

    with_orphan(scene, monkeypatch)


def test_what_a_rebuild_restores_is_not_told_again() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(10))
        await store.router.writes.delete(PHOTOS, "cat")
        assert len(await posted(store)) == 2
        store.meta.wipe(f"anew-{store.world.clock.monotonic_ms()}")
        while not (await store.meta.recovery.standing()).complete:
            await asyncio.sleep(0.1)
        assert await posted(store) == []
        await store.write(payload(10))
        assert await names(store) == [(PUT, "cat")], "the rules are there again"

    with_rules(scene)


def test_what_comes_to_the_raw_port_is_posted() -> None:
    async def scene(store: Store) -> None:
        await store.router.configure.change(UPLOADED, {SETTING: EVERYTHING})
        wire = await Wire.open(store.network.host("client"), "r0", INGEST)
        answer = await wire.send(payload(10)).finish().all()
        (event,) = await posted(store, UPLOADED)
        assert answer.decode().split()[3] == event.key
        assert (event.name, event.size, event.principal) == (PUT, 10, "")
        assert event.address
        assert event.request

    with_rules(scene)


def targets() -> dict[str, EventTarget]:
    return parse_targets(["hook=redis:?stream=told"])


def test_a_router_brings_it_to_its_target() -> None:
    async def opened(world: World) -> None:
        store = Store(world, 1, event_targets=targets())
        await store.start()
        try:
            await store.router.configure.change(PHOTOS, {SETTING: EVERYTHING})
            await store.write(payload(10))
            while not store.meta.snapshot().streams:
                await asyncio.sleep(0.1)
            (entry,) = store.meta.snapshot().streams["told"]
            assert entry["key"] == b"photos/cat"
            assert b'"sourceIPAddress"' in entry["message"]
            assert await store.meta.outbox.buckets() == []
        finally:
            await store.stop()

    play(opened)
