"""Checksums beside a stream: right whatever the pieces are, and nothing ends that is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from router.gateway.s3.announced import Announced, BodyChecks
from router.gateway.s3.checksums import Algorithm, Buffer, encode
from router.gateway.s3.failures import S3Error
from router.gateway.s3.hashing import PORTION_BYTES, Hashing
from router.gateway.s3.intake import Hashed


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


async def pieces(data: bytes, step: int) -> AsyncIterator[Buffer]:
    view = memoryview(data)
    for at in range(0, len(data), step):
        await asyncio.sleep(0)
        yield view[at : at + step]


@pytest.mark.parametrize("size", [0, 1, 40_000, PORTION_BYTES, 3 * PORTION_BYTES + 7])
@pytest.mark.parametrize("step", [1_000, 100_000, PORTION_BYTES + 1])
async def test_the_checksums_are_those_of_all_pieces(
    threads: ThreadPoolExecutor, size: int, step: int
) -> None:
    data = random.Random(size).randbytes(size)
    checks = BodyChecks(
        Announced(hashlib.md5(data).digest()),
        sha256=hashlib.sha256(data).hexdigest(),
        default=Algorithm.CRC32,
    )
    hashed = Hashed(pieces(data, step), dict, Hashing(checks, threads))
    passed = b"".join([bytes(piece) async for piece in hashed.chunks()])
    assert passed == data
    sealed = hashed.sealed()
    assert sealed.etag == hashlib.md5(data).hexdigest()
    assert sealed.checksums == {"crc32": encode(zlib.crc32(data).to_bytes(4, "big"))}


@pytest.mark.parametrize("size", [0, 10, PORTION_BYTES * 2])
async def test_what_is_wrong_does_not_end(threads: ThreadPoolExecutor, size: int) -> None:
    data = bytes(size)
    for checks in (
        BodyChecks(Announced(hashlib.md5(b"other").digest())),
        BodyChecks(Announced(), sha256=hashlib.sha256(b"other").hexdigest()),
        BodyChecks(Announced(None, Algorithm.CRC32, b"\1\2\3\4")),
        BodyChecks(Announced(None, Algorithm.CRC32)),
    ):
        hashed = Hashed(pieces(data, 9_000), dict, Hashing(checks, threads))
        passed: list[int] = []

        async def drain(hashed: Hashed = hashed, passed: list[int] = passed) -> None:
            async for piece in hashed.chunks():
                passed.append(len(piece))

        with pytest.raises(S3Error):
            await drain()
        assert sum(passed) == size, "the error comes behind the last byte"


async def test_a_trailer_is_asked_for_behind_the_bytes(threads: ThreadPoolExecutor) -> None:
    trailers: dict[str, str] = {}

    async def body() -> AsyncIterator[Buffer]:
        yield b"hello"
        trailers["x-amz-checksum-crc32"] = encode(zlib.crc32(b"hello").to_bytes(4, "big"))

    checks = BodyChecks(Announced(None, Algorithm.CRC32))
    hashed = Hashed(body(), lambda: trailers, Hashing(checks, threads))
    assert [bytes(piece) async for piece in hashed.chunks()] == [b"hello"]
    assert hashed.sealed().checksums == {"crc32": trailers["x-amz-checksum-crc32"]}


async def test_no_more_than_two_portions_are_held(threads: ThreadPoolExecutor) -> None:
    """A body waits for its checksums as it waits for the disks."""
    held: list[int] = []

    class Slow(BodyChecks):
        def update(self, data: Buffer) -> None:
            super().update(data)
            held.append(-len(data))

    hashing = Hashing(Slow(Announced()), threads)
    taken = 0
    for _ in range(40):
        await hashing.feed(bytes(100_000))
        taken += 100_000
        assert taken + sum(held) <= 2 * (PORTION_BYTES + 100_000)
    await hashing.finish({})
    assert taken + sum(held) == 0
