"""What pages of other origins are told, also while Redis does not answer."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import pytest

from common.errors import MetadataUnavailable
from common.meta.buckets import Configured
from router.gateway.s3.address import address_of
from router.gateway.s3.origins import origin_headers, put_bucket_cors
from router.quorum import Policy
from tests.node_kit import play
from tests.router_kit import Store
from tests.s3_call_kit import S3Calls
from tests.simulation.loop import World

PAGE = "https://page.example"
RULES = (
    f"<CORSConfiguration><CORSRule><AllowedOrigin>{PAGE}</AllowedOrigin>"
    "<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
).encode()


async def told(door: S3Calls, path: str = "/photos/a", method: str = "GET") -> str | None:
    headers = await origin_headers(door.store, address_of(path, "", ""), method, PAGE)
    return headers.get("Access-Control-Allow-Origin")


@pytest.mark.parametrize("silent", [False, True])
def test_without_redis_the_rules_are_those_that_it_told_last(silent: bool) -> None:
    async def away(_: str) -> Configured | None:
        if silent:
            await asyncio.sleep(1_000)
        raise MetadataUnavailable("Redis is away")

    async def main(world: World) -> None:
        store = await Store(world, 1, policy=Policy(1, 1)).start()
        door = S3Calls(store)
        await door.directory.create("photos", "ann")
        await door.ask(put_bucket_cors, "PUT", "/photos?cors", RULES)
        assert await told(door) == PAGE
        assert await told(door, method="PUT") is None
        assert await told(door, path="/other-bucket/a") is None
        assert await told(door, path="/") is None
        await asyncio.sleep(5)
        began = asyncio.get_running_loop().time()
        with patch.object(store.meta.buckets, "get", away):
            assert await told(door) == PAGE
            assert await told(door, path="/other-bucket/a") is None
        assert asyncio.get_running_loop().time() - began < 5, "of virtual time"
        await store.stop()

    play(main)
