"""Versions of files, written and deleted through routers of a store on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import (
    MetadataUnavailable,
    NodesUnavailable,
    NotFound,
    PreconditionFailed,
    UsageError,
)
from common.records import Abort, Version
from common.tickets import format_id
from common.versions import has_versions, number_of, plain_name, versions_of
from router.gateway.cluster import ClusterRoutes
from router.targets import VersioningChangedError, Written
from router.upload import Upload
from tests.node_kit import play
from tests.router_kit import Store, payload, tickets_of
from tests.simulation.loop import World

PHOTOS = "photos"
SIZES = [0, 10, 20_000, 400_000]


def with_store(
    scene: Callable[[Store], Awaitable[None]], routers: int = 2, putters: int = 2
) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters).start(routers)
        await scene(store)
        await store.stop()

    play(main)


async def keep_versions(store: Store, how: str = "Enabled", router: int = 0) -> None:
    await store.routers[router].configure.change(PHOTOS, {"versioning": how})


async def listed(store: Store) -> list[tuple[str, int, bool, bool, bool]]:
    """Key, number, and whether it is null, the latest, a delete marker, of all versions."""
    page = await store.meta.versions.list(PHOTOS, "", "", None, 1000)
    assert page.next_after is None
    return [(e.key, e.number, e.null, e.latest, not e.etag) for e in page.entries]


def test_each_write_is_a_version_of_its_own() -> None:
    async def scene(store: Store) -> None:
        null = await store.write(b"before", "cat")
        await keep_versions(store)
        written = [await store.write(payload(size), "cat") for size in SIZES for _ in range(2)]
        assert await store.read("cat") == payload(SIZES[-1])
        assert plain_name(written[0].version) == (PHOTOS, "cat")
        numbers = [number_of(each.version) for each in written]
        assert numbers == sorted(set(numbers))
        assert await listed(store) == [
            *(("cat", n, False, n == numbers[-1], False) for n in reversed(numbers)),
            ("cat", null.version.stamp, True, False, False),
        ]
        for size, each in zip((size for size in SIZES for _ in range(2)), written, strict=True):
            held = await store.meta.versions.held(versions_of(PHOTOS), each.version.key)
            assert held == each.version
            assert await store.read_version(held) == payload(size)
        await store.clean()
        assert await store.read_version(null.version) == b"before"

    with_store(scene)


def test_a_name_is_deleted_by_a_marker_and_a_version_for_good() -> None:
    async def scene(store: Store) -> None:
        deletes = store.router.writes.deletes
        await keep_versions(store)
        first, second = [await store.write(data, "cat") for data in (b"one", payload(20_000))]
        assert await store.router.writes.delete(PHOTOS, "cat")
        with pytest.raises(NotFound):
            await store.read("cat", router=1)
        assert not await store.router.writes.delete(PHOTOS, "cat")
        assert len(await listed(store)) == 3
        again = await deletes.name(PHOTOS, "cat", anyway=True)
        assert (again.found, again.versioning) == (False, "Enabled")
        assert again.marker is not None
        for _ in range(2):
            newest = (await listed(store))[0]
            gone = await deletes.version(PHOTOS, "cat", newest[1])
            assert gone is not None
            assert gone.is_marker
        assert await store.read("cat", router=1) == payload(20_000)
        assert await deletes.version(PHOTOS, "cat", number_of(second.version)) == second.version
        assert await deletes.version(PHOTOS, "cat", number_of(second.version)) is None
        assert await store.read("cat", router=1) == b"one"
        await store.clean()
        assert await store.state(second.object_id) == ""
        assert await store.state(first.object_id) == "written"

    with_store(scene)


def test_nobody_is_told_where_versions_are() -> None:
    async def scene(store: Store) -> None:
        router, nothing = store.router, cast("Any", None)
        await keep_versions(store)
        version = (await store.write(payload(20_000), "cat")).version
        routes = ClusterRoutes(
            store.meta, router.fleet, router.policies, nothing, nothing, "", lambda: 0
        )
        ticket = {"ticket": format_id(tickets_of(version)[-1])}
        answer = await routes.ticket(make_mocked_request("GET", "/", match_info=ticket))
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        told = json.loads(answer.body)
        assert (told["bucket"], told["key"], told["state"]) == (PHOTOS, "cat", "written")
        assert told["offset"] > 0
        for putter in store.putters:
            store.network.partition("r0", putter.name)
        with pytest.raises(NodesUnavailable, match=f"commit record of {PHOTOS}/cat within"):
            await router.writes.delete(PHOTOS, "cat")

    with_store(scene)


def test_while_versioning_is_suspended_only_the_null_version_changes() -> None:
    async def scene(store: Store) -> None:
        await keep_versions(store)
        kept = await store.write(b"kept", "cat")
        await keep_versions(store, "Suspended")
        null = await store.write(b"null", "cat")
        assert not has_versions(null.version.bucket)
        await store.write(payload(30_000), "cat")
        assert await store.read("cat") == payload(30_000)
        told = await store.router.writes.deletes.name(PHOTOS, "cat")
        assert (told.found, told.versioning) == (True, "Suspended")
        assert told.marker is not None
        assert [(null, marker) for _, _, null, _, marker in await listed(store)] == [
            (True, True),
            (False, False),
        ]
        with pytest.raises(NotFound):
            await store.read("cat")
        assert await store.router.writes.deletes.version(PHOTOS, "cat", None) == told.marker
        assert await store.router.reads.resolve(PHOTOS, "cat") == kept.version

    with_store(scene)


@pytest.mark.parametrize("size", SIZES)
def test_a_router_that_did_not_hear_of_it_overwrites_nothing(size: int) -> None:
    async def scene(store: Store) -> None:
        null = await store.write(b"null", "cat", router=1)
        await keep_versions(store)
        with pytest.raises(VersioningChangedError, match="changed a moment ago"):
            await store.write(payload(size), "cat", router=1)
        assert await store.read("cat") == b"null"
        assert await listed(store) == [("cat", null.version.stamp, True, True, False)]
        records = [each for putter in store.putters for each in putter.records]
        assert any(isinstance(each, Abort) for each in records)
        await store.clean()
        again = await store.write(payload(size), "cat", router=1)
        assert has_versions(again.version.bucket)
        await keep_versions(store, "Suspended")
        with pytest.raises(VersioningChangedError):
            await store.write(payload(size), "cat", router=1)
        assert len(await listed(store)) == 2
        assert await store.router.writes.delete(PHOTOS, "cat")
        assert await store.routers[1].writes.deletes.name(PHOTOS, "cat", anyway=True)
        assert [null for _, _, null, _, _ in await listed(store)] == [True, False]

    with_store(scene)


@pytest.mark.parametrize("size", [10, 20_000])
def test_one_of_many_conditional_writes_wins(size: int) -> None:
    async def scene(store: Store) -> None:
        await keep_versions(store)

        async def race(if_match: str, turn: int) -> list[Written]:
            tries = (
                store.write(payload(size, (turn, n)), "cat", router=n % 2, if_match=if_match)
                for n in range(8)
            )
            done = await asyncio.gather(*tries, return_exceptions=True)
            lost = [each for each in done if isinstance(each, PreconditionFailed)]
            assert len(lost) == 7
            return [each for each in done if isinstance(each, Written)]

        await asyncio.sleep(3)  # both routers know
        [first] = await race("", 1)
        [second] = await race(first.version.etag, 2)
        assert len(await listed(store)) == 2
        await store.router.writes.delete(PHOTOS, "cat")
        [third] = await race("", 3)
        numbers = [number_of(each.version) for each in (first, second, third)]
        assert numbers == sorted(numbers)
        assert await store.router.reads.resolve(PHOTOS, "cat") == third.version

    with_store(scene)


def test_parts_of_uploads_are_no_versions_and_their_bucket_keeps_its_own() -> None:
    async def scene(store: Store) -> None:
        await keep_versions(store)
        written = await store.write(b"part", "0/1", bucket=f"@parts.{PHOTOS}")
        assert written.version.bucket == f"@parts.{PHOTOS}"
        assert await store.router.writes.delete(f"@parts.{PHOTOS}", "0/1")
        with pytest.raises(UsageError, match="keeps no versions"):
            await store.router.configure.change("objects", {"versioning": "Enabled"})
        with pytest.raises(UsageError, match="Enabled or Suspended"):
            await store.router.configure.change(PHOTOS, {"versioning": "on"})

    with_store(scene)


def test_a_version_that_is_described_twice_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a detour: both records are durable, and a rebuild finds both."""
    truly = iter([False])
    monkeypatch.setattr(Upload, "described_truly", property(lambda _: next(truly, True)))

    async def scene(store: Store) -> None:
        await keep_versions(store)
        written = await store.write(payload(20_000), "cat")
        assert written.version.stamp > number_of(written.version)
        newer = await store.write(b"newer", "cat")
        before = await listed(store)
        assert [number for _, number, *_ in before] == [
            number_of(newer.version),
            number_of(written.version),
        ]
        store.meta.wipe("run-2")
        await until_complete(store)
        assert await listed(store) == before
        held = await store.meta.versions.held(written.version.bucket, written.version.key)
        assert held is not None
        assert held.stamp == written.version.stamp
        assert await store.read_version(held) == payload(20_000)

    with_store(scene, routers=1)


async def until_complete(store: Store) -> None:
    for _ in range(600):
        if (await store.meta.recovery.standing()).complete:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("Redis was not brought back")


def test_versions_follow_the_settings_of_their_bucket() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"null", "cat")
        await keep_versions(store)
        old = await store.write(payload(20_000), "cat")
        await store.write(payload(10), "cat")
        await store.router.writes.delete(PHOTOS, "cat")
        await store.router.configure.change(PHOTOS, {"replicas": 3})
        await store.router.follow.round()
        for _ in range(20):
            await store.router.repair.round()
            await asyncio.sleep(1)
        for place, count in ((PHOTOS, 1), (versions_of(PHOTOS), 3)):
            found = [each.version for each in await store.meta.repairs.described(place, "", 9)]
            assert [each.replicas for each in found] == [3] * count
            extents = [e for each in found for stored in each.objects for e in stored.extents]
            assert [(len(extent.nodes), extent.owed) for extent in extents] == [(3, {})] * len(
                extents
            )
        held = await store.meta.versions.held(versions_of(PHOTOS), old.version.key)
        assert held is not None
        assert await store.read_version(held) == payload(20_000)

    with_store(scene, putters=3)


def test_what_names_held_lately_is_never_a_version_that_was_deleted() -> None:
    async def scene(store: Store) -> None:
        await keep_versions(store)
        lately = store.router.lately
        first = await store.write(b"one", "cat")
        second = await store.write(b"two", "cat", router=1)
        assert (await lately.find(PHOTOS, "cat")).version == second.version
        other = store.routers[1].writes.deletes
        assert await other.version(PHOTOS, "cat", number_of(second.version))
        assert (await lately.find(PHOTOS, "cat")).version == first.version
        store.meta.down = True
        with pytest.raises(MetadataUnavailable):
            await lately.find(PHOTOS, "cat")
        store.meta.down = False
        third = await store.write(b"three", "cat")
        store.meta.down = True
        assert (await lately.find(PHOTOS, "cat")).version == third.version
        store.meta.down = False
        assert await store.router.writes.delete(PHOTOS, "cat")
        store.meta.down = True
        with pytest.raises(MetadataUnavailable):
            await lately.find(PHOTOS, "cat")
        store.meta.down = False

    with_store(scene)


@dataclass
class Model:
    """What a bucket with versions is in the plainest way: of each key its versions, newest first.

    Each is its data, None for a delete marker, and whether it is the null version.
    """

    how: str = ""
    keys: dict[str, list[tuple[bytes | None, bool]]] = field(default_factory=dict)

    def now(self, key: str) -> bytes | None:
        return self.keys[key][0][0] if self.keys.get(key) else None

    def add(self, key: str, data: bytes | None) -> None:
        null = self.how != "Enabled"
        held = self.keys.setdefault(key, [])
        held[:] = [(data, null), *(each for each in held if not (null and each[1]))]

    def delete(self, key: str) -> None:
        if self.how:
            self.add(key, None)
        else:
            self.keys.pop(key, None)

    def remove(self, key: str, index: int) -> None:
        if index < len(self.keys.get(key, [])):
            del self.keys[key][index]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "put", "create", "change", "delete", "remove", "Enabled", "Suspended"]
        ),
        st.sampled_from(["a", "a\x01", "b"]),
        st.integers(0, 3),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_versions_against_a_model(steps: list[tuple[str, str, int]]) -> None:
    with_store(lambda store: run(store, steps), routers=1)


async def run(store: Store, steps: list[tuple[str, str, int]]) -> None:
    model, deletes = Model(), store.router.writes.deletes
    for n, (what, key, index) in enumerate(steps):
        data = f"{n}".encode() * (1 + n % 2 * 9_000)
        now = model.now(key)
        if what == "put":
            await store.write(data, key)
            model.add(key, data)
        elif what in ("create", "change"):
            wanted = "" if what == "create" else "*"
            if (now is None) == (what == "create"):
                await store.write(data, key, if_match=wanted)
                model.add(key, data)
            else:
                with pytest.raises(PreconditionFailed):
                    await store.write(data, key, if_match=wanted)
        elif what == "delete":
            told = await deletes.name(PHOTOS, key, anyway=True)
            assert (told.found, told.marker is None) == (now is not None, not model.how)
            model.delete(key)
        elif what == "remove":
            there = [each for each in await listed(store) if each[0] == key][index : index + 1]
            for _, number, null, _, marker in there:
                gone = await deletes.version(PHOTOS, key, None if null else number)
                assert gone is not None
                assert gone.is_marker == marker
            model.remove(key, index)
        else:
            await keep_versions(store, what)
            model.how = what
    await compare(store, model)


async def compare(store: Store, model: Model) -> None:
    found: dict[str, list[tuple[bytes | None, bool]]] = {}
    for key, number, null, latest, marker in await listed(store):
        held: Version | None = None
        if null:
            held = await store.meta.versions.held(PHOTOS, key)
        else:
            target = [
                each.version.key
                for each in await store.meta.repairs.described(versions_of(PHOTOS), "", 1000)
                if (plain_name(each.version)[1], number_of(each.version)) == (key, number)
            ]
            if target:
                held = await store.meta.versions.held(versions_of(PHOTOS), target[0])
        data = None if marker or held is None else await store.read_version(held)
        assert latest == (key not in found)
        found.setdefault(key, []).append((data, null))
    assert found == {key: held for key, held in model.keys.items() if held}
    page = await store.meta.files.list(PHOTOS, "", "", 1000)
    there = sorted(key for key in model.keys if model.now(key) is not None)
    assert [entry.key for entry in page.entries] == there
    for key in there:
        assert await store.read(key) == model.now(key)
