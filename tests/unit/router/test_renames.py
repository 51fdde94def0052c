"""A file gets another name: never neither, whatever happens meanwhile, and one rename wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from common.errors import (
    MetadataUnavailable,
    NotFound,
    PreconditionFailed,
    PutterError,
    UsageError,
    WriteConflict,
)
from common.limits import CLAIM_LEASE_MS
from common.records import Acl, Version
from router.deletes import Deletes
from router.events import ACL
from router.quorum import Policy
from router.renames import Renames, mark_of, marked
from router.targets import Sealed, Target
from tests.node_kit import play
from tests.router_kit import Store, payload
from tests.simulation.loop import World
from tests.unit.router.test_retag import rebuilt

Scene = Callable[[Store], Awaitable[None]]
LONG = payload(300_000)


def with_store(scene: Scene, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2, policy=Policy(2, 2), **options).start(2)
        await scene(store)
        await store.stop()

    play(main)


def renames(store: Store, router: int = 0) -> Renames:
    one = store.routers[router]
    return Renames(one.writes, one.reads)


async def names(store: Store) -> dict[str, bytes]:
    """What is there."""
    page = await store.meta.files.list("photos", "", "", 100)
    return {each.key: await store.read(each.key) for each in page.entries}


@pytest.mark.parametrize("data", [b"", b"short", LONG])
def test_all_that_belongs_to_the_bytes_goes_with_them(data: bytes) -> None:
    async def scene(store: Store) -> None:
        sealed = Sealed("tag-2", {"sha1": "sum-2"}, "upload", ((2, 3),), b"d" * 40)
        said = {"headers": {"content-type": "x/y"}, "tags": {"a": "b"}}
        before = (await store.write(data, seal=lambda: sealed, **said)).version
        after = (await renames(store).rename("photos", "cat", Target("photos", "dog"))).version
        kept = ("etag", "headers", "checksums", "tags", "size", "parts", "digests")
        for name in kept:
            assert getattr(after, name) == getattr(before, name), name
        assert after.upload == "", "completing that upload again is about the old name"
        for _ in range(2):
            assert await names(store) == {"dog": data}
            await rebuilt(store)
        assert await names(store) == {"dog": data}
        await store.clean()
        assert await names(store) == {"dog": data}

    with_store(scene)


def test_the_old_bytes_are_freed_and_the_new_ones_stay() -> None:
    async def scene(store: Store) -> None:
        old = await store.write(LONG)
        new = await renames(store).rename("photos", "cat", Target("photos", "dog"))
        await store.clean()
        assert await store.state(old.object_id) == ""
        assert await store.state(new.object_id) == "written"
        assert await store.read("dog") == LONG

    with_store(scene)


def test_what_is_not_there_cannot_be_renamed() -> None:
    async def scene(store: Store) -> None:
        with pytest.raises(NotFound):
            await renames(store).rename("photos", "cat", Target("photos", "dog"))
        await store.write(b"x")
        with pytest.raises(UsageError, match="to itself"):
            await renames(store).rename("photos", "cat", Target("photos", "cat"))
        assert await names(store) == {"cat": b"x"}

    with_store(scene)


def test_a_bucket_with_versions_is_left_alone() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"x")
        await store.router.configure.change("films", {"versioning": "Enabled"})
        with pytest.raises(UsageError, match="'films' keeps versions"):
            await renames(store).rename("photos", "cat", Target("films", "cat"))
        await store.router.configure.change("photos", {"versioning": "Suspended"})
        with pytest.raises(UsageError, match="'photos' keeps versions"):
            await renames(store).rename("photos", "cat", Target("photos", "dog"))
        assert await names(store) == {"cat": b"x"}

    with_store(scene)


def test_conditions_that_do_not_hold_leave_both_names_as_they_are() -> None:
    async def refused(version: Version) -> None:
        raise PreconditionFailed(version.etag)

    async def scene(store: Store) -> None:
        await store.write(b"one")
        await store.write(b"two", "dog")
        for target, check in (
            (Target("photos", "dog", if_match=""), None),
            (Target("photos", "dog", if_match="other"), None),
            (Target("photos", "dog"), refused),
        ):
            with pytest.raises(PreconditionFailed):
                await renames(store).rename("photos", "cat", target, check)
            assert await names(store) == {"cat": b"one", "dog": b"two"}
        await renames(store).rename("photos", "cat", Target("photos", "dog", if_match="*"))
        assert await names(store) == {"dog": b"one"}

    with_store(scene)


@pytest.mark.parametrize("data", [b"short", LONG])
def test_of_renames_at_the_same_time_one_wins(data: bytes) -> None:
    async def scene(store: Store) -> None:
        await store.write(data)
        targets = [f"to-{number}" for number in range(6)]
        outcomes = await asyncio.gather(
            *(
                renames(store, number % 2).rename("photos", "cat", Target("photos", key))
                for number, key in enumerate(targets)
            ),
            return_exceptions=True,
        )
        won = [key for key, told in zip(targets, outcomes, strict=True)
               if not isinstance(told, BaseException)]  # fmt: skip
        assert len(won) == 1
        assert all(isinstance(each, NotFound) for each in outcomes if each is not None
                   and isinstance(each, BaseException))  # fmt: skip
        assert await names(store) == {won[0]: data}

    with_store(scene)


def test_a_writer_on_a_condition_waits_for_a_long_rename() -> None:
    """The claim is kept for as long as it takes, and the writer learns that it came too late."""

    async def scene(store: Store) -> None:
        held = (await store.write(b"one")).version

        async def slowly(_: Version) -> None:
            await asyncio.sleep(2.5 * CLAIM_LEASE_MS / 1000)

        work = asyncio.ensure_future(
            renames(store).rename("photos", "cat", Target("photos", "dog"), slowly)
        )
        await asyncio.sleep(1.5 * CLAIM_LEASE_MS / 1000)
        with pytest.raises(PreconditionFailed):
            await store.write(b"two", router=1, if_match=held.etag)
        await work
        assert await names(store) == {"dog": b"one"}

    with_store(scene)


def test_an_acl_stays_in_its_bucket() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"one", acl="public-read")
        path = renames(store)
        near = await path.rename("photos", "cat", Target("photos", "dog"))
        assert near.version.acl.name == "public-read"
        far = await path.rename("photos", "dog", Target("films", "dog"))
        assert far.version.acl.name == "", "that bucket may block public ACLs"

    with_store(scene)


@pytest.mark.parametrize("change", ["written", "deleted", "tagged", "shut"])
def test_what_somebody_does_to_the_old_name_meanwhile_stays(change: str) -> None:
    async def scene(store: Store) -> None:
        await store.write(b"one", acl="public-read")

        async def meanwhile(_: Version) -> None:
            path = store.routers[1].writes
            if change == "written":
                await store.write(b"two", router=1)
            elif change == "deleted":
                await path.delete("photos", "cat")
            else:

                async def find() -> Version:
                    version = await store.meta.files.resolve("photos", "cat")
                    assert version is not None
                    return version

                def shut(version: Version, stamp: int) -> Version:
                    return replace(version, acl=Acl("", stamp))

                if change == "tagged":
                    await store.routers[1].retag.change(find, {"new": "tag"})
                else:
                    await store.routers[1].retag.describe(find, shut, ACL)

        with pytest.raises(WriteConflict, match="was changed while it was renamed"):
            await renames(store).rename("photos", "cat", Target("photos", "dog"), meanwhile)
        old = {"written": {"cat": b"two"}, "deleted": {}}.get(change, {"cat": b"one"})
        assert await names(store) == {"dog": b"one"} | old
        await rebuilt(store)
        assert await names(store) == {"dog": b"one"} | old

    with_store(scene)


def test_one_that_was_interrupted_can_be_ended() -> None:
    """It dies between its two steps: both names are there, now and after a rebuild."""

    async def scene(store: Store) -> None:
        stamp = (await store.write(b"one")).version.stamp
        mark = mark_of("token", "asked")

        async def dead(*_: object) -> None:
            raise MetadataUnavailable("gone")

        with patch.object(Deletes, "version", dead), pytest.raises(MetadataUnavailable):
            await renames(store).rename("photos", "cat", Target("photos", "dog"), None, mark)
        assert await names(store) == {"cat": b"one", "dog": b"one"}
        await rebuilt(store)
        assert await names(store) == {"cat": b"one", "dog": b"one"}
        held = await store.meta.files.resolve("photos", "dog")
        assert held is not None
        assert marked(held, "other") is None
        told = marked(held, "token")
        assert told is not None
        assert told[0] == "asked"
        await renames(store, 1).finish("photos", "cat", told[1])
        assert await names(store) == {"dog": b"one"}
        newer = (await store.write(b"two")).version
        assert newer.stamp > stamp
        await renames(store).finish("photos", "cat", told[1])
        assert await names(store) == {"cat": b"two", "dog": b"one"}

    with_store(scene)


def test_one_that_cannot_be_written_leaves_the_old_name() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"one")
        await store.write(b"two", "dog")
        for putter in store.putters:
            await putter.crash()
        await asyncio.sleep(5)
        with pytest.raises(PutterError):
            await renames(store).rename("photos", "cat", Target("photos", "dog"))
        for putter in store.putters:
            await putter.start()
        await asyncio.sleep(60)
        assert await names(store) == {"cat": b"one", "dog": b"two"}
        await renames(store).rename("photos", "cat", Target("photos", "dog"))
        assert await names(store) == {"dog": b"one"}

    with_store(scene)


def test_a_bucket_that_encrypts_does_so_with_what_comes_to_it() -> None:
    async def scene(store: Store) -> None:
        await store.write(LONG)
        settings = {"encryption": {"algorithm": "AES256"}}
        await store.router.configure.change("films", settings)
        moved = await renames(store).rename("photos", "cat", Target("films", "cat"))
        assert moved.version.encryption is not None
        assert await store.read("cat", bucket="films") == LONG
        stored = store.router.reads.as_stored()
        kept = [bytes(each) async for each in stored.stream(moved.version, 0, moved.version.size)]
        assert b"".join(kept) != LONG
        back = await renames(store).rename("films", "cat", Target("photos", "dog"))
        assert back.version.encryption == moved.version.encryption
        assert await store.read("dog") == LONG

    with_store(scene)


@pytest.mark.parametrize("size", [20, 50_000])
def test_one_that_ends_at_any_moment_leaves_one_name_or_both(size: int) -> None:
    moments = 24

    async def scene(store: Store) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await store.write(payload(size, "x"), "x")
        await renames(store).rename("photos", "x", Target("photos", "to-x"))
        whole_s = loop.time() - began
        bodies = {f"{number:02}": payload(size, number) for number in range(moments)}
        for number, (key, body) in enumerate(bodies.items()):
            await store.write(body, key)
            target = Target("photos", f"to-{key}")
            work = asyncio.ensure_future(renames(store).rename("photos", key, target))
            await asyncio.sleep(whole_s * number / moments)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        seen = set()
        for _ in range(2):
            held = await names(store)
            for key, body in bodies.items():
                there = tuple(name for name in (key, f"to-{key}") if name in held)
                assert there
                assert {held[name] for name in there} == {body}
                seen.add(len(there) if there != (f"to-{key}",) else 0)
            await rebuilt(store)
        assert seen >= {0, 1}, "some came to their end, and some did not"
        for key in bodies.keys() & (await names(store)).keys():
            await renames(store, 1).rename("photos", key, Target("photos", f"to-{key}"))
        wanted = {f"to-{key}": body for key, body in bodies.items()}
        assert await names(store) == wanted | {"to-x": payload(size, "x")}

    with_store(scene)
