"""What a fetch brought: data of frames where it lies, without a copy where frames are large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from common.buffers import BufferPool
from common.checksum import ObjectHash
from common.errors import IntegrityError, NodesUnavailable, NotFound, error_for_status
from common.keys import Keyring
from common.limits import FRAME_HEADER_BYTES, KIB
from common.records import StoredObject
from common.sessions import Answer
from common.wire import frames
from common.wire.session import Data
from router.object_keys import TRANSFORM_ROOM_BYTES, Transform

_VIEWS_ABOVE_BYTES: Final = 8 * KIB
"""Data of smaller frames is joined: a view and its place in a write cost as much as a copy."""


def verified(
    answers: Sequence[Answer], stored: StoredObject, first: int, keyring: Keyring
) -> Iterator[tuple[Data, memoryview]]:
    """The messages of an answer to `Read` that bring frames, one after the other.

    Args:
        answers: the messages.
        stored: the object that is read.
        first: number of the ticket that must come first.
        keyring: any of its keys verifies.

    Raises:
        NotFound: other tickets come, or one is cut short.
        IntegrityError: frames are damaged.
        PutterError: the putter says that it cannot read, or something else.
    """
    expected = first
    for header, payload in answers:
        if not isinstance(header, Data):
            raise NodesUnavailable("a putter answered something else")
        if header.status:
            raise error_for_status(header.status, header.reason)
        if not header.more and not payload:
            continue
        if header.first != expected or header.frame_bytes != stored.frame_bytes:
            raise NotFound(f"tickets from {expected} on are missing")
        if frames.data_bytes_of(len(payload), header.frame_bytes) < 1:
            raise NotFound(f"ticket {expected} is cut short")
        key = keyring.named(header.key_id).checksum
        statuses = frames.check(payload, header.first, header.frame_bytes, key)
        if statuses.any():
            raise IntegrityError(
                f"{int(statuses.astype(bool).sum())} of {header.count} frames from ticket "
                f"{header.first} on are damaged"
            )
        if header.count != len(statuses):
            raise NodesUnavailable(f"a putter miscounted tickets from {expected} on")
        yield header, payload
        expected += header.count


class Fetched:
    """Data bytes in order.

    Attributes:
        parts: views of them.
        buffers: the memory that they lie in, from a pool.
        size: how many.
        replicas: on how many putters they were verified; 0 where one is all that is asked for.
        wanted: on how many they should be, where it is more than one; else 0.
    """

    def __init__(self) -> None:
        self.parts: list[memoryview] = []
        self.buffers: list[memoryview] = []
        self.size = 0
        self.replicas = 0
        self.wanted = 0

    def take(
        self, payload: memoryview, frame_bytes: int, low: int, high: int, pool: BufferPool
    ) -> None:
        """Add the data of some frames.

        Args:
            payload: whole frames of a pool's memory, which is this one's from now on.
            frame_bytes: data bytes of every frame but the last.
            low: the first of their data bytes that is wanted.
            high: behind the last one.
            pool: gets the payload back where it is not needed any more.
        """
        if low >= high:
            pool.give(payload)
            return
        self.size += high - low
        if frame_bytes < _VIEWS_ABOVE_BYTES and len(payload) > frame_bytes + FRAME_HEADER_BYTES:
            size = frames.data_bytes_of(len(payload), frame_bytes)
            joined = pool.take(size)
            frames.strip_into(joined, payload, frame_bytes)
            pool.give(payload)
            self.buffers.append(joined)
            self.parts.append(joined[low:high])
            return
        self.buffers.append(payload)
        for index in range(low // frame_bytes, -(-high // frame_bytes)):
            base = index * frame_bytes
            at = (index + 1) * FRAME_HEADER_BYTES  # where data byte 0 would be
            self.parts.append(payload[at + max(low, base) : at + min(high, base + frame_bytes)])

    def add(self, other: Fetched) -> None:
        """Add what another one holds; it is empty then."""
        self.replicas = min(self.replicas, other.replicas) if self.parts else other.replicas
        self.wanted = other.wanted
        self.parts += other.parts
        self.buffers += other.buffers
        self.size += other.size
        other.parts, other.buffers, other.size = [], [], 0

    def transform(self, transform: Transform, pool: BufferPool) -> None:
        """Put what a transformation makes of all bytes in their place.

        Args:
            transform: stands where they begin.
            pool: gets their memory back.
        """
        room = pool.take(self.size + TRANSFORM_ROOM_BYTES)
        position = 0
        for part in self.parts:
            transform.into(part, room[position:])
            position += len(part)
        self.parts.clear()
        for buffer in self.buffers:
            pool.give(buffer)
        self.parts, self.buffers = [room[:position]], [room]

    def hash_into(self, hasher: ObjectHash) -> None:
        """Add all bytes to a hash."""
        for part in self.parts:
            hasher.update(part)
