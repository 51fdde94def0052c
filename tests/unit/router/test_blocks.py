"""Blocks of a stream: whole frames, small at first, a run at most, less if memory is short."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

import pytest

from common.budget import Budget
from common.buffers import BufferPool
from common.errors import ClientGone
from common.limits import KIB, MIB, RUN_BYTES_TARGET
from router.blocks import Block, BlockFiller, ChunkSource, run_bytes

FRAMES = (1458, 64 * KIB, MIB)


def filler_of(frame_bytes: int = 1458, budget: Budget | None = None) -> BlockFiller:
    return BlockFiller(frame_bytes, BufferPool(), budget or Budget(64 * MIB))


def pour(filler: BlockFiller, data: bytes, step: int = 1 << 30) -> list[Block]:
    """Fill it as a socket would; the blocks that came out."""
    out = []
    view = memoryview(data)
    while view:
        free = filler.free()
        assert len(free) > 0
        size = min(len(free), len(view), step)
        free[:size] = view[:size]
        view = view[size:]
        block = filler.advance(size)
        if block is not None:
            out.append(block)
    return out


def joined(blocks: Iterable[Block]) -> bytes:
    return b"".join(bytes(block.data) for block in blocks)


@pytest.mark.parametrize("frame_bytes", FRAMES)
def test_a_run_is_whole_frames_and_not_more_than_the_target(frame_bytes: int) -> None:
    size = run_bytes(frame_bytes)
    assert size % frame_bytes == 0
    assert RUN_BYTES_TARGET - frame_bytes < size <= RUN_BYTES_TARGET


def test_a_frame_above_the_target_is_a_run_of_its_own() -> None:
    assert run_bytes(RUN_BYTES_TARGET + 1) == RUN_BYTES_TARGET + 1


@pytest.mark.parametrize("frame_bytes", FRAMES)
@pytest.mark.parametrize("step", [777, 20_000, 1 << 30])
def test_blocks_are_whole_runs_and_the_rest(frame_bytes: int, step: int) -> None:
    data = random.Random(step).randbytes(3 * MIB + 17)
    filler = filler_of(frame_bytes)
    blocks = pour(filler, data, step)
    assert blocks
    assert {len(block.data) for block in blocks} == {run_bytes(frame_bytes)}
    rest = filler.take()
    assert rest is not None
    assert joined([*blocks, rest]) == data
    assert filler.take() is None


def test_an_idle_or_tiny_stream_costs_little() -> None:
    budget = Budget(64 * MIB)
    filler = filler_of(64 * KIB, budget)
    assert budget.used_bytes == 0, "nothing before the first byte"
    pour(filler, b"x")
    assert budget.used_bytes <= 16 * KIB


@pytest.mark.parametrize("frame_bytes", FRAMES)
def test_while_memory_is_short_a_block_is_one_frame(frame_bytes: int) -> None:
    budget = Budget(1)
    budget.take(1)
    filler = filler_of(frame_bytes, budget)
    data = random.Random(1).randbytes(4 * max(frame_bytes, 16 * KIB) + 5)
    blocks = pour(filler, data)
    assert blocks
    for block in blocks:
        assert len(block.data) % frame_bytes == 0
        assert len(block.data) <= max(frame_bytes, 16 * KIB)
    rest = filler.take()
    assert joined([*blocks, *([rest] if rest else [])]) == data


@pytest.mark.parametrize("frame_bytes", [1458, 5000, 16 * KIB - 1, 16 * KIB + 1, 64 * KIB, MIB])
@pytest.mark.parametrize("seed", range(6))
def test_every_block_but_the_last_is_whole_frames_whatever_memory_does(
    frame_bytes: int, seed: int
) -> None:
    """Else the tickets behind it would not hold the bytes that the record says."""
    rng = random.Random(seed)
    budget = Budget(100)
    filler = filler_of(frame_bytes, budget)
    data = rng.randbytes(3 * MIB + 99)
    blocks: list[Block] = []
    at, taken = 0, 0
    while at < len(data):
        if rng.random() < 0.2:
            change = rng.choice((100, -taken))
            budget.take(change)
            taken += change
        size = rng.choice((1, 1458, 10_000, 100_000, 900_000))
        blocks += pour(filler, data[at : at + size])
        at += size
    assert [len(block.data) % frame_bytes for block in blocks] == [0] * len(blocks)
    rest = filler.take()
    assert joined([*blocks, *([rest] if rest else [])]) == data


class TestMemory:
    def test_a_block_gives_back_what_it_took_and_only_once(self) -> None:
        budget = Budget(64 * MIB)
        filler = filler_of(1458, budget)
        blocks = pour(filler, bytes(2 * MIB))
        blocks.append(filler.take())  # type: ignore[arg-type]
        assert budget.used_bytes >= 2 * MIB
        for block in blocks:
            block.release()
            block.release()
        assert budget.used_bytes == 0

    def test_a_released_block_cannot_be_looked_at(self) -> None:
        filler = filler_of()
        pour(filler, b"abc")
        block = filler.take()
        assert block is not None
        block.release()
        with pytest.raises(ValueError, match="released"):
            bytes(block.data)

    @pytest.mark.parametrize("size", [0, 1, 20_000])
    def test_a_dropped_stream_leaves_nothing(self, size: int) -> None:
        budget = Budget(64 * MIB)
        filler = filler_of(64 * KIB, budget)
        filler.free()
        pour(filler, bytes(size))
        filler.drop()
        filler.drop()
        assert budget.used_bytes == 0

    def test_room_without_a_byte_is_no_block(self) -> None:
        budget = Budget(64 * MIB)
        filler = filler_of(1458, budget)
        filler.free()
        assert filler.take() is None
        assert budget.used_bytes == 0


async def chunks(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if error is not None:
        raise error


async def read_all(source: ChunkSource) -> list[Block]:
    out = []
    while (block := await source.next_block()) is not None:
        out.append(block)
    return out


class TestChunkSource:
    @pytest.mark.parametrize(
        "parts",
        [
            (b"x",),
            (b"a", b"", b"b" * 100_000, b"c"),
            tuple(bytes([n]) * 999 for n in range(200)),
            (bytes(5 * MIB + 3),),
            (bytes(run_bytes(1458)),),
            (bytes(2 * run_bytes(1458)),),
        ],
        ids=["one byte", "uneven", "many", "one large", "one run", "two runs"],
    )
    async def test_all_bytes_in_order(self, parts: tuple[bytes, ...]) -> None:
        source = ChunkSource(chunks(*parts), filler_of())
        blocks = await read_all(source)
        assert joined(blocks) == b"".join(parts)
        assert all(len(block.data) % 1458 == 0 for block in blocks[:-1])
        assert await source.next_block() is None

    async def test_the_last_block_says_so_if_that_is_known(self) -> None:
        blocks = await read_all(ChunkSource(chunks(bytes(2 * MIB)), filler_of()))
        assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]

    @pytest.mark.parametrize("parts", [(), (b"",), (b"", b"")])
    async def test_nothing(self, parts: tuple[bytes, ...]) -> None:
        budget = Budget(MIB)
        source = ChunkSource(chunks(*parts), filler_of(1458, budget))
        assert await source.next_block() is None
        assert budget.used_bytes == 0

    async def test_a_stream_that_breaks_off_is_no_shorter_file(self) -> None:
        budget = Budget(64 * MIB)
        source = ChunkSource(
            chunks(b"half of it", error=ClientGone("reset")), filler_of(1458, budget)
        )
        with pytest.raises(ClientGone):
            await source.next_block()
        source.close()
        assert budget.used_bytes == 0
