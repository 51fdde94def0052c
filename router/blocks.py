"""How a client's bytes come in: blocks of whole frames, filled in place.

A block starts small, so that an idle or tiny stream costs little, and grows to a whole run as soon
as bytes keep coming; while memory is short it grows to one frame only. Every block but the last of
an object holds a multiple of the frame size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

from common.budget import Budget
from common.buffers import BufferPool
from common.checksum import Buffer
from common.limits import KIB, RUN_BYTES_TARGET

_FIRST_BYTES: Final = 16 * KIB


def run_bytes(frame_bytes: int) -> int:
    """Data bytes of a full run: as many whole frames as fit the target, at least one."""
    return frame_bytes * max(1, RUN_BYTES_TARGET // frame_bytes)


class Block:
    """Consecutive bytes of a stream in a buffer of the pool.

    Attributes:
        data: the bytes.
        last: whether the stream is known to end with them.
    """

    def __init__(self, data: memoryview, room: memoryview, filler: BlockFiller | None) -> None:
        self.data = data
        self.last = False
        self._room = room
        self._filler = filler

    def release(self) -> None:
        """The bytes are used; nobody may look at them any more. Once is enough."""
        if self._filler is not None:
            self.data.release()
            self._filler.give(self._room)
            self._filler = None


class BlockFiller:
    """Makes blocks of one stream.

    Args:
        frame_bytes: data bytes of a frame.
        pool: memory.
        budget: counts the memory of all streams; while it is full, blocks stay small.
    """

    def __init__(self, frame_bytes: int, pool: BufferPool, budget: Budget) -> None:
        self._frame_bytes = frame_bytes
        self._pool = pool
        self._budget = budget
        # Whole frames, as this may be all that the block grows to.
        self._first_bytes = _FIRST_BYTES // frame_bytes * frame_bytes or _FIRST_BYTES
        self._room: memoryview | None = None
        self._filled = 0

    def free(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._room is None:
            self._room = self._take(self._first_bytes)
        elif self._filled == len(self._room):
            self._grow()
        return self._room[self._filled :]

    def advance(self, size: int) -> Block | None:
        """``size`` bytes were put there.

        Returns:
            A block, once it is as large as it may grow.
        """
        self._filled += size
        assert self._room is not None
        if self._filled < len(self._room) or self._filled < self._goal():
            return None
        return self.take()

    def take(self) -> Block | None:
        """The block as it is, at the end of the stream; None if it is empty."""
        room, filled = self._room, self._filled
        self._room = None
        self._filled = 0
        if room is None:
            return None
        if filled == 0:
            self.give(room)
            return None
        return Block(room[:filled], room, self)

    def give(self, room: memoryview) -> None:
        """Memory of a block comes back."""
        self._budget.give(len(room))
        self._pool.give(room)

    def drop(self) -> None:
        """The stream is over for good: give everything back."""
        block = self.take()
        if block is not None:
            block.release()

    def _goal(self) -> int:
        return self._frame_bytes if self._budget.full else run_bytes(self._frame_bytes)

    def _grow(self) -> None:
        assert self._room is not None
        goal = self._goal()
        if goal <= self._filled:
            # Memory became short meanwhile: up to the next whole frame.
            goal = -(-(self._filled + 1) // self._frame_bytes) * self._frame_bytes
        larger = self._take(goal)
        larger[: self._filled] = self._room[: self._filled]
        self.give(self._room)
        self._room = larger

    def _take(self, size: int) -> memoryview:
        size = min(size, run_bytes(self._frame_bytes))
        self._budget.take(size)
        return self._pool.take(size)


class Source(Protocol):
    """A stream of bytes to be stored."""

    async def next_block(self) -> Block | None:
        """The next block, or None at the end.

        Raises:
            ClientGone: the stream broke off.
        """
        ...


class ChunkSource:
    """Blocks from an iterator of byte strings, such as a request's body.

    Args:
        chunks: the bytes; an exception of it ends the stream.
        filler: makes the blocks.
    """

    def __init__(self, chunks: AsyncIterator[Buffer], filler: BlockFiller) -> None:
        self._chunks = chunks
        self._filler = filler
        self._rest = memoryview(b"")
        self._ended = False

    async def next_block(self) -> Block | None:
        """See `Source.next_block`."""
        while not self._ended:
            while self._rest:
                free = self._filler.free()
                size = min(len(free), len(self._rest))
                free[:size] = self._rest[:size]
                self._rest = self._rest[size:]
                block = self._filler.advance(size)
                if block is not None:
                    return block
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._rest = memoryview(chunk)
        block = self._filler.take()
        if block is not None:
            block.last = True
        return block

    def close(self) -> None:
        """Give memory back, whatever happened."""
        self._filler.drop()
