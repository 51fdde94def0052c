"""What debts and surpluses leave in a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from common.meta.redis_store import RedisMetadata, connect
from common.meta.schema import bucket_key
from common.records import Extent, StoredObject, Version
from tests.metadata_kit import BUCKET, ValkeyServer, complete, publish, tombstone, version


@pytest.fixture
async def store(valkey: ValkeyServer) -> AsyncIterator[RedisMetadata]:
    """A coordinator with nothing in it."""
    valkey.ask("FLUSHALL")
    store = connect(valkey.url)
    await complete(store)
    yield store
    await store.close()


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """A look into it."""
    client = Redis.from_url(valkey.url)
    yield client
    await client.aclose()


def lacking(nodes: tuple[str, ...], *owed: str, first: int = 100) -> StoredObject:
    extent = Extent(first, 2, 1500, nodes, dict.fromkeys(owed, ""))
    return StoredObject(f"O{first}", 1500, 1458, b"\xff" * 32, (extent,))


async def amend(store: RedisMetadata, what: Version, *reached: str) -> None:
    (held,) = await store.repairs.described(BUCKET, "", 10)
    for node in reached:
        assert await store.repairs.reach(BUCKET, what.objects[0].object_id, node)
    assert await store.repairs.amend(held.token, what)


async def kept(client: Redis) -> list[object]:
    """What the three keys hold."""
    owed, owing, surplus = (bucket_key(BUCKET, noun) for noun in ("owed", "owing", "surplus"))
    return [
        await client.zrange(owed, 0, -1),
        await client.hgetall(owing),
        [member.rpartition(b" ")[0] for member in await client.zrange(surplus, 0, -1)],
    ]


NOTHING: list[object] = [[], {}, []]


async def test_a_debt_that_is_paid_leaves_nothing(store: RedisMetadata, client: Redis) -> None:
    what = version("a", 10, lacking(("n1", "n2"), "n3", "*"))
    await publish(store, what)
    assert await kept(client) == [
        [b"* O100 1500", b"n3 O100 1500"],
        {b"*": b"1 1500", b"n3": b"1 1500"},
        [],
    ]
    assert await store.repairs.reach(BUCKET, "O100", "n3")
    assert (await kept(client))[2] == [b"n3 O100"]
    paid = msgspec.structs.replace(what, objects=(lacking(("n1", "n2", "n3")),))
    await amend(store, paid, "n3")
    assert await kept(client) == NOTHING


async def test_who_is_named_again_has_no_surplus(store: RedisMetadata, client: Redis) -> None:
    what = version("a", 10, lacking(("n1", "n2")))
    await publish(store, what)
    await amend(store, msgspec.structs.replace(what, objects=(lacking(("n1",)),)))
    assert await kept(client) == [[], {}, [b"n2 O100"]]
    await amend(store, what, "n2")
    assert await kept(client) == NOTHING


async def test_debts_go_with_their_versions(store: RedisMetadata, client: Redis) -> None:
    for n in range(3):
        await publish(store, version("a", 10 + n, lacking(("n1",), "n2", first=100 + n)))
        assert await kept(client) == [[b"n2 O%d 1500" % (100 + n)], {b"n2": b"1 1500"}, []]
    await store.files.delete(tombstone("a", 20))
    assert await kept(client) == NOTHING


async def test_what_is_large_is_counted_exactly(store: RedisMetadata, client: Redis) -> None:
    huge = msgspec.structs.replace(lacking(("n1",), "n2"), size=5 * 2**40 + 1)
    await publish(store, version("a", 10, huge))
    await publish(store, version("b", 11, lacking(("n1",), "n2", first=200)))
    assert (await store.repairs.debts())["n2"].size == 5 * 2**40 + 1501
    await store.files.delete(tombstone("a", 20))
    assert (await kept(client))[1] == {b"n2": b"1 1500"}
