"""What buckets hold ends by their rules, on a virtual clock, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.clock import Clock
from common.errors import MetadataUnavailable, NodesUnavailable
from common.meta.interface import Outcome
from common.meta.memory_tables import MemoryFiles
from common.meta.versions import VersionsPage
from common.uploads import uploads_of
from router.expiry import Expiry
from router.lifecycle import DAY_MS, SETTING, Rule, kept
from router.uploads import Uploads
from tests.node_kit import play
from tests.router_kit import Store, metric
from tests.simulation.loop import World
from tests.unit.router.test_catchup import ready
from tests.unit.router.test_deletes import tombstones

PHOTOS = "photos"
OLD_MARKER = ("cat", False, True)


@dataclass
class Ahead:
    """A wall clock that is days ahead of the store's."""

    clock: Clock
    days: float = 0

    def now_ms(self) -> int:
        return self.clock.now_ms() + int(self.days * DAY_MS)

    def monotonic_ms(self) -> int:
        return self.clock.monotonic_ms()


@dataclass
class Kit:
    """A store, and what carries out its rules in it."""

    store: Store
    clock: Ahead
    expiry: Expiry

    async def rule(self, bucket: str = PHOTOS, **said: Any) -> None:
        rules = kept([Rule("one", **said)])
        await self.store.router.configure.change(bucket, {SETTING: rules})

    async def versions(self, bucket: str = PHOTOS) -> list[tuple[str, bool, bool]]:
        """Key, and whether it is the latest, a delete marker, of all versions."""
        page = await self.store.meta.versions.list(bucket, "", "", None, 1000)
        return [(each.key, each.latest, not each.etag) for each in page.entries]

    async def names(self, bucket: str = PHOTOS) -> list[str]:
        page = await self.store.meta.files.list(bucket, "", "", 1000)
        return [each.key for each in page.entries]

    def expired(self, what: str) -> int:
        return int(metric(self.store.router.metrics, "putter_lifecycle_expired_total", what=what))


def made(store: Store, clock: Ahead, router: int = 0, instance: str = "r0.1") -> Expiry:
    of = store.routers[router]
    uploads = Uploads(store.meta, of.writes)
    return Expiry(store.meta, of.writes, uploads, clock, of.metrics, instance, DAY_MS)


def with_kit(scene: Callable[[Kit], Awaitable[None]], routers: int = 1) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2).start(routers)
        await ready(store)
        clock = Ahead(world.clock)
        await scene(Kit(store, clock, made(store, clock)))
        await store.stop()

    play(main)


def test_objects_expire_after_days_and_only_those_that_a_rule_is_about() -> None:
    async def scene(kit: Kit) -> None:
        await kit.rule(prefix="logs/", days=2)
        for key in ("logs/a", "logs/b", "kept"):
            await kit.store.write(b"x", key)
        kit.clock.days = 1.9
        assert await kit.expiry.round()
        assert len(await kit.names()) == 3
        assert not await kit.expiry.round()
        kit.clock.days = 3
        with capture_logs() as lines:
            assert await kit.expiry.round()
        assert await kit.names() == ["kept"]
        [line] = [each for each in lines if each["event"] == "rules of buckets are carried out"]
        assert (line["objects"], line["versions"], line["failed"]) == (2, 0, 0)
        assert kit.expired("objects") == 2
        now_s = kit.clock.now_ms() / 1000
        done_s = metric(kit.store.router.metrics, "putter_lifecycle_completed_seconds")
        assert now_s - 10 <= done_s <= now_s

    with_kit(scene)


def test_rules_that_are_off_gone_or_not_understood_end_nothing() -> None:
    async def scene(kit: Kit) -> None:
        kit.clock.days = 10
        for bucket in ("off", "gone", "strange", "newer", "without"):
            await kit.store.write(b"x", "a", bucket=bucket)
        await kit.rule("off", days=1, enabled=False)
        await kit.rule("gone", days=1)
        await kit.store.router.configure.change("gone", {SETTING: None})
        await kit.store.router.configure.change("strange", {SETTING: [{"days": 1}]})
        of_a_newer_version = [{"name": "n", "days": 1, "only_on": "mondays"}]
        await kit.store.router.configure.change("newer", {SETTING: of_a_newer_version})
        with capture_logs() as lines:
            assert await kit.expiry.round()
        for bucket in ("off", "gone", "strange", "newer", "without"):
            assert await kit.names(bucket) == ["a"]
        assert {"strange", "newer"} <= {each.get("bucket") for each in lines}

    with_kit(scene)


def test_a_rule_about_tags_looks_at_each_object() -> None:
    async def scene(kit: Kit) -> None:
        await kit.rule(tags={"of": "ann"}, larger=1, days=1)
        await kit.store.write(b"xx", "hers", tags={"of": "ann", "more": "x"})
        await kit.store.write(b"xx", "his", tags={"of": "ben"})
        await kit.store.write(b"x", "small", tags={"of": "ann"})
        await kit.store.write(b"xx", "nobodys")
        kit.clock.days = 2
        assert await kit.expiry.round()
        assert await kit.names() == ["his", "nobodys", "small"]

    with_kit(scene)


def test_where_versions_are_kept_a_marker_is_written_and_goes_when_nothing_else_is_left() -> None:
    async def scene(kit: Kit) -> None:
        await kit.store.router.configure.change(PHOTOS, {"versioning": "Enabled"})
        await kit.rule(days=1, noncurrent_days=1)
        await kit.store.write(b"one", "cat")
        await kit.store.write(b"two", "cat")
        kit.clock.days = 2
        assert await kit.expiry.round()
        # The first ended for good, the second by a marker that is as old as the store's clock.
        assert await kit.versions() == [("cat", True, True), ("cat", False, False)]
        assert await kit.names() == []
        kit.clock.days = 4
        assert await kit.expiry.round()
        assert await kit.versions() == [("cat", True, True)]
        kit.clock.days = 6
        assert await kit.expiry.round()
        assert await kit.versions() == []
        counts = [kit.expired(what) for what in ("objects", "versions", "markers")]
        assert counts == [1, 2, 1]

    with_kit(scene)


def test_while_versions_are_suspended_the_marker_takes_the_place_of_the_null_version() -> None:
    async def scene(kit: Kit) -> None:
        await kit.store.router.configure.change(PHOTOS, {"versioning": "Enabled"})
        await kit.store.write(b"kept", "cat")
        await kit.store.router.configure.change(PHOTOS, {"versioning": "Suspended"})
        await kit.store.write(b"null", "cat")
        await kit.rule(days=1)
        kit.clock.days = 2
        assert await kit.expiry.round()
        assert await kit.versions() == [("cat", True, True), ("cat", False, False)]

    with_kit(scene)


def test_the_newest_old_versions_are_kept_across_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.expiry.LIST_PAGE_MAX", 2)

    async def scene(kit: Kit) -> None:
        await kit.store.router.configure.change(PHOTOS, {"versioning": "Enabled"})
        await kit.rule(noncurrent_days=1, newer_kept=2)
        for key in ("cat", "dog"):
            for number in range(5):
                await kit.store.write(b"%d" % number, key)
        kit.clock.days = 2
        assert await kit.expiry.round()
        old = [("cat", False, False)] * 2
        assert (await kit.versions())[:3] == [("cat", True, False), *old]
        assert len(await kit.versions()) == 6
        assert kit.expired("versions") == 4

    with_kit(scene)


def test_delete_markers_are_not_among_the_versions_that_are_kept() -> None:
    async def scene(kit: Kit) -> None:
        null = await kit.store.write(b"null", "cat")
        await kit.store.router.configure.change(PHOTOS, {"versioning": "Enabled"})
        await kit.rule(noncurrent_days=1, newer_kept=2)
        for data in (b"one", b"two"):
            await kit.store.write(data, "cat")
            await kit.store.router.writes.delete(PHOTOS, "cat")
        kit.clock.days = 2
        assert await kit.expiry.round()
        # A marker, the second, a marker, the first: what is before these two versions ended.
        markers = [marker for _, _, marker in await kit.versions()]
        assert markers == [True, False, True, False]
        assert await kit.store.meta.versions.held(PHOTOS, "cat") is None
        assert kit.expired("versions") == 1
        await kit.store.clean()
        assert await kit.store.state(null.object_id) == ""

    with_kit(scene)


def meanwhile(kit: Kit, monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]) -> None:
    """Let something happen between a page and the deletions that follow from it."""
    listed = kit.store.meta.versions.list

    async def then(*asked: Any) -> VersionsPage:
        page = await listed(*asked)
        await what()
        return page

    monkeypatch.setattr(kit.store.meta.versions, "list", then)


@pytest.mark.parametrize("versioning", ["", "Enabled"])
def test_what_is_written_meanwhile_stays(monkeypatch: pytest.MonkeyPatch, versioning: str) -> None:
    async def scene(kit: Kit) -> None:
        if versioning:
            await kit.store.router.configure.change(PHOTOS, {"versioning": versioning})
        await kit.rule(days=1)
        await kit.store.write(b"old", "cat")
        kit.clock.days = 2
        meanwhile(kit, monkeypatch, lambda: kit.store.write(b"new", "cat"))
        assert await kit.expiry.round()
        assert await kit.store.read("cat") == b"new"
        assert kit.expired("objects") == 0

    with_kit(scene)


def test_an_old_version_that_is_the_latest_again_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(kit: Kit) -> None:
        await kit.store.router.configure.change(PHOTOS, {"versioning": "Enabled"})
        await kit.rule(noncurrent_days=1)
        await kit.store.write(b"old", "cat")
        await kit.store.write(b"new", "cat")
        kit.clock.days = 2
        deletes = kit.store.router.writes.deletes
        latest = (await kit.store.meta.versions.list(PHOTOS, "", "", None, 1)).entries[0]
        meanwhile(kit, monkeypatch, lambda: deletes.version(PHOTOS, "cat", latest.number))
        assert await kit.expiry.round()
        assert await kit.store.read("cat") == b"old"

    with_kit(scene)


@pytest.mark.parametrize("what", ["old version", "lone marker"])
def test_what_has_another_rank_at_the_last_moment_stays_and_leaves_no_record(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Not only until the look at it: until the very step that would delete it."""

    async def scene(kit: Kit) -> None:
        store = kit.store
        deletes = store.router.writes.deletes
        await store.router.configure.change(PHOTOS, {"versioning": "Enabled"})
        await store.write(b"old", "cat")
        if what == "old version":
            await kit.rule(noncurrent_days=1)
            await store.write(b"new", "cat")
        else:
            await kit.rule(markers=True)
            await deletes.name(PHOTOS, "cat")
            [_, old] = (await store.meta.versions.list(PHOTOS, "", "", None, 9)).entries
            await deletes.version(PHOTOS, "cat", old.number)
        kit.clock.days = 3
        latest = (await store.meta.versions.list(PHOTOS, "", "", None, 1)).entries[0]
        before = len(tombstones(store))
        delete, came = MemoryFiles.delete, []

        async def late(self: MemoryFiles, *asked: Any, **guarded: Any) -> Outcome:
            if not came:
                came.append(asked)
                if what == "old version":
                    await deletes.version(PHOTOS, "cat", latest.number)
                else:
                    await store.write(b"newer", "cat")
            return await delete(self, *asked, **guarded)

        monkeypatch.setattr(MemoryFiles, "delete", late)
        assert await kit.expiry.round()
        assert came
        assert sum(kit.expired(each) for each in ("versions", "markers")) == 0
        stays = [("cat", True, False)]
        assert await kit.versions() == (stays if what == "old version" else [*stays, OLD_MARKER])
        assert len(tombstones(store)) == before + (what == "old version"), "only of the other one"

    with_kit(scene)


def test_uploads_that_are_open_for_too_long_are_given_up() -> None:
    async def scene(kit: Kit) -> None:
        uploads = Uploads(kit.store.meta, kit.store.router.writes)
        await kit.rule(prefix="logs/", abort_days=1)
        for key in ("logs/a", "logs/b", "kept"):
            await uploads.begin(PHOTOS, key, {})
        page = await kit.store.meta.files.list(uploads_of(PHOTOS), "", "", 10)
        busy = page.entries[-1].key[-32:]
        kit.clock.days = 2
        async with uploads.alone(busy, 0):  # somebody completes it
            assert await kit.expiry.round()
        assert kit.expired("uploads") == 1
        page = await kit.store.meta.files.list(uploads_of(PHOTOS), "", "", 10)
        assert [each.key[:-33] for each in page.entries] == ["kept", "logs/b"]
        kit.clock.days = 3
        assert await kit.expiry.round()
        assert kit.expired("uploads") == 2

    with_kit(scene)


def test_one_router_makes_one_pass_in_a_period() -> None:
    async def scene(kit: Kit) -> None:
        await kit.rule(days=1)
        other = made(kit.store, kit.clock, 1, "r1.1")
        assert await kit.expiry.round()
        assert not await other.round()
        await asyncio.sleep(61)  # the lease of the one that works ran out
        assert not await other.round()
        kit.clock.days = 1
        assert await other.round()
        assert not await kit.expiry.round()

    with_kit(scene, 2)


def test_a_pass_that_another_router_made_is_not_gone_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(kit: Kit) -> None:
        await kit.rule(days=1)
        await kit.store.write(b"x", "cat")
        kit.clock.days = 2
        other = made(kit.store, kit.clock, 1, "r1.1")

        async def away(*asked: Any) -> VersionsPage:
            raise MetadataUnavailable("Redis is away")

        with monkeypatch.context() as patch:
            patch.setattr(kit.store.meta.versions, "list", away)
            with pytest.raises(MetadataUnavailable):
                await kit.expiry.round()
        assert not await other.round()
        await asyncio.sleep(61)  # the lease runs out
        assert await other.round()
        assert await kit.names() == []
        assert not await kit.expiry.round()
        await asyncio.sleep(61)
        assert not await kit.expiry.round()

    with_kit(scene, 2)


def test_a_pass_goes_on_where_redis_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.expiry.LIST_PAGE_MAX", 2)

    async def scene(kit: Kit) -> None:
        await kit.rule(days=1)
        for number in range(5):
            await kit.store.write(b"x", f"k{number}")
        kit.clock.days = 2
        listed = kit.store.meta.versions.list
        asked: list[str] = []

        async def once_away(bucket: str, prefix: str, after: str, *rest: Any) -> VersionsPage:
            asked.append(after)
            if len(asked) == 2:
                raise MetadataUnavailable("Redis is away")
            return await listed(bucket, prefix, after, *rest)

        monkeypatch.setattr(kit.store.meta.versions, "list", once_away)
        with pytest.raises(MetadataUnavailable):
            await kit.expiry.round()
        assert await kit.names() == ["k2", "k3", "k4"]
        assert await kit.expiry.round()
        assert asked == ["", "k1", "k1", "k3"]
        assert await kit.names() == []

    with_kit(scene)


def test_what_could_not_be_deleted_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(kit: Kit) -> None:
        await kit.rule(days=1)
        await kit.store.write(b"x", "cat")
        kit.clock.days = 2
        deletes = kit.store.router.writes.deletes

        async def refuse(*asked: Any) -> None:
            raise NodesUnavailable("no putter is there")

        with monkeypatch.context() as patch:
            patch.setattr(deletes, "name", refuse)
            assert await kit.expiry.round()
        assert await kit.names() == ["cat"]
        assert not await kit.expiry.round()
        await asyncio.sleep(301)
        assert await kit.expiry.round()
        assert await kit.names() == []

    with_kit(scene)
