"""Documents that are set for a bucket: durable, one change at a time, gone with the bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from common.errors import UsageError
from common.limits import BUCKET_SETTINGS_BYTES_MAX, KIB
from router.gateway.s3.call import Call
from router.gateway.s3.mapping import mapped
from router.gateway.s3.subresources import (
    change_settings,
    delete_setting,
    document_of,
    element_of,
    put_setting,
    setting_of,
)
from router.quorum import Policy
from tests.node_kit import play
from tests.router_kit import Store
from tests.s3_call_kit import S3Calls, md5
from tests.simulation.loop import World

PATH = "/photos?words"


def with_door(scene: Callable[[S3Calls, Store], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2, policy=Policy(2, 2)).start(2)
        await scene(S3Calls(store), store)
        await store.stop()

    play(main)


async def put_words(call: Call) -> web.StreamResponse:
    body = await document_of(call, 100)
    return await put_setting(call, "words", body.decode(), 204)


async def get_words(call: Call) -> web.StreamResponse:
    return web.Response(text=await setting_of(call, "words", "NoSuchTagSet"))


async def delete_words(call: Call) -> web.StreamResponse:
    return await delete_setting(call, "words")


def test_what_is_set_is_told_by_every_router_until_it_is_taken_away() -> None:
    async def scene(door: S3Calls, store: Store) -> None:
        await door.directory.create("photos", "ann")
        other = S3Calls(store, 1)
        assert await door.refusal(get_words, "GET", PATH) == "NoSuchTagSet"
        assert (await door.ask(put_words, "PUT", PATH, b"one")).status == 204
        assert (await other.ask(get_words, "GET", PATH)).text == "one"
        assert (await door.ask(put_words, "PUT", PATH, b"two")).status == 204
        assert (await other.ask(get_words, "GET", PATH)).text == "two"
        for _ in range(2):
            assert (await other.ask(delete_words, "DELETE", PATH)).status == 204
            assert await door.refusal(get_words, "GET", PATH) == "NoSuchTagSet"

    with_door(scene)


def test_handlers_know_at_once_what_was_set_here_and_soon_what_was_set_elsewhere() -> None:
    async def scene(door: S3Calls, store: Store) -> None:
        await door.directory.create("photos", "ann")
        assert (await door.store.bucket("photos")).settings.keys() == {"created"}
        await door.ask(put_words, "PUT", PATH, b"one")
        assert (await door.store.bucket("photos")).settings["words"] == "one"
        await S3Calls(store, 1).ask(put_words, "PUT", PATH, b"two")
        assert (await door.store.bucket("photos")).settings["words"] == "one"
        await asyncio.sleep(1)
        assert (await door.store.bucket("photos")).settings["words"] == "two"

    with_door(scene)


def test_a_bucket_that_is_not_there_has_none_and_gets_none() -> None:
    async def scene(door: S3Calls, store: Store) -> None:
        for handler, method, body in (
            (put_words, "PUT", b"x"),
            (get_words, "GET", b""),
            (delete_words, "DELETE", b""),
        ):
            assert await door.refusal(handler, method, PATH, body) == "NoSuchBucket"
        assert await store.meta.buckets.get("photos") is None
        await store.write(b"x", "a")
        assert (await door.ask(put_words, "PUT", PATH, b"x")).status == 204, "nobody created it"
        found = await door.store.bucket("photos")
        assert (found.owner, found.settings["words"]) == ("", "x")
        assert found.settings.keys() == {"words", "created"}, "it does not go with its last file"

    with_door(scene)


def test_a_body_is_held_to_its_checksum_which_has_to_be_there() -> None:
    async def scene(door: S3Calls, _: Store) -> None:
        await door.directory.create("photos", "ann")

        async def refusal(body: bytes, headers: Mapping[str, str] | None = None) -> str:
            return await door.refusal(put_words, "PUT", PATH, body, headers)

        assert await refusal(b"one", {}) == "InvalidRequest"
        assert await refusal(b"one", {"x-amz-sdk-checksum-algorithm": "CRC32"}) == "InvalidRequest"
        assert await refusal(b"one", {"Content-MD5": md5(b"two")}) == "BadDigest"
        assert await refusal(b"one", {"Content-MD5": "short"}) == "InvalidDigest"
        assert await refusal(b"one", {"x-amz-checksum-crc32": "AAAAAA=="}) == "BadDigest"
        assert await refusal(b"", {"Content-MD5": md5(b"")}) == "MissingRequestBodyError"
        assert await refusal(b"x" * 101) == "MaxMessageLengthExceeded"
        done = await door.ask(put_words, "PUT", PATH, b"one", {"x-amz-checksum-crc32": "emyG8Q=="})
        assert done.status == 204

    with_door(scene)


def test_a_document_must_be_the_one_that_is_asked_for() -> None:
    async def scene(door: S3Calls, _: Store) -> None:
        async def read(call: Call) -> web.StreamResponse:
            return web.Response(text=(await element_of(call, "Words", 100, sum_needed=False)).text)

        assert (await door.ask(read, "PUT", PATH, b"<Words>a</Words>", {})).text == "a"
        assert await door.refusal(read, "PUT", PATH, b"<Others/>") == "MalformedXML"

    with_door(scene)


def test_all_settings_together_are_bounded_and_can_be_taken_away() -> None:
    async def scene(door: S3Calls, store: Store) -> None:
        await door.directory.create("photos", "ann")

        async def put(name: str, size: int | None) -> str:
            async def handler(call: Call) -> web.StreamResponse:
                return await put_setting(call, name, None if size is None else "x" * size)

            try:
                await door.ask(handler, "PUT", PATH)
            except UsageError as error:
                return mapped(error).code
            return ""

        half = BUCKET_SETTINGS_BYTES_MAX // 2
        assert await put("one", half) == ""
        assert await put("two", half) == "InvalidRequest"
        assert await put("two", half - KIB) == ""
        # As another version, with a higher limit, may have left it.
        held = await store.meta.buckets.get("photos")
        assert held is not None
        held.record.settings["three"] = "x" * KIB
        assert await put("one", half + 1) == "InvalidRequest"
        assert await put("one", half - 1) == "", "it gets less"
        assert await put("one", None) == ""

    with_door(scene)


def test_a_decision_sees_what_is_set_and_may_refuse() -> None:
    async def scene(door: S3Calls, store: Store) -> None:
        await door.directory.create("photos", "ann")

        async def count(call: Call) -> web.StreamResponse:
            async def one_more(settings: Mapping[str, Any]) -> Mapping[str, Any]:
                return {"count": settings.get("count", 0) + 1}

            await change_settings(call, one_more)
            return web.Response()

        doors = [S3Calls(store, n % 2) for n in range(6)]
        await asyncio.gather(*(each.ask(count, "PUT", PATH) for each in doors))
        assert (await doors[0].store.bucket("photos")).settings["count"] == 6

    with_door(scene)
