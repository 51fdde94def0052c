from __future__ import annotations

import random

import pytest

from common.errors import StorageError
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.memory_blocks import SECTOR_BYTES, BlockData, MemoryBlockFile

A, B = bytes([1]) * BLOCK_BYTES, bytes([2]) * BLOCK_BYTES


def crashed(data: BlockData, seed: int) -> bytes:
    data.crash(random.Random(seed))
    return bytes(data.data)


def test_what_was_synced_stays() -> None:
    for seed in range(20):
        data = BlockData(2 * BLOCK_BYTES)
        data.write(0, memoryview(A))
        data.sync()
        assert crashed(data, seed) == A + bytes(BLOCK_BYTES)


def test_what_was_not_synced_goes_stays_or_tears_block_by_block() -> None:
    seen = set()
    for seed in range(200):
        data = BlockData(2 * BLOCK_BYTES)
        data.write(0, memoryview(A + A))
        data.sync()
        data.write(0, memoryview(B + B))
        after = crashed(data, seed)
        for at in range(0, len(after), SECTOR_BYTES):
            assert len(set(after[at : at + SECTOR_BYTES])) == 1  # a sector is written as a whole
        blocks = after[:BLOCK_BYTES], after[BLOCK_BYTES:]
        seen.add(tuple({A: "old", B: "new"}.get(block, "torn") for block in blocks))
    assert len(seen) == 9


def test_after_a_failed_sync_the_platter_is_as_it_was() -> None:
    for seed in range(20):
        data = BlockData(BLOCK_BYTES)
        data.write(0, memoryview(A))
        data.sync()
        data.write(0, memoryview(B))
        data.fail()
        assert bytes(data.data) == B
        data.sync()  # the system believes these blocks clean
        assert crashed(data, seed) == A


def test_written_again_after_a_failed_sync_it_is_durable() -> None:
    data = BlockData(BLOCK_BYTES)
    data.write(0, memoryview(B))
    data.fail()
    data.write(0, memoryview(B))
    data.sync()
    assert crashed(data, 1) == B


def test_only_whole_blocks_of_the_file_are_written() -> None:
    data = BlockData(2 * BLOCK_BYTES)
    for offset, size in ((1, BLOCK_BYTES), (0, 100), (BLOCK_BYTES, 2 * BLOCK_BYTES)):
        with pytest.raises(ValueError, match="whole blocks"):
            data.write(offset, memoryview(bytes(size)))


def test_faults_come_before_anything_is_done() -> None:
    data = BlockData(BLOCK_BYTES)
    refused = ""

    def fault(action: str) -> None:
        if action == refused:
            raise StorageError(action)

    file = MemoryBlockFile(data, fault)
    refused = "write"
    with pytest.raises(StorageError):
        file.write(0, memoryview(A))
    assert file.read(0, 1) == b"\0"
    refused = "read"
    with pytest.raises(StorageError):
        file.read(0, 1)
    refused = "sync"
    file.write(0, memoryview(A))
    with pytest.raises(StorageError):
        file.sync()
    refused = ""
    file.sync()
    assert crashed(data, 0) == bytes(BLOCK_BYTES)
    assert file.size == BLOCK_BYTES
    file.close()
