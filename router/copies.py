"""What a putter holds of a slice, ticket by ticket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import NodesUnavailable, error_for_status
from common.keys import Keyring
from common.sessions import Answer
from common.wire import frames
from common.wire.session import Data
from router.ranges import Slice

Mask = npt.NDArray[np.bool_]


class Copy:
    """What one node holds of a slice.

    Attributes:
        part: the slice.
        data: its bytes; only those of good tickets count.
        good, bad: for each ticket whether it is there and right, or there and wrong.
    """

    def __init__(self, part: Slice, frame_bytes: int) -> None:
        self.part: Final = part
        self.data: Final = bytearray(part.size)
        self.good: Mask = np.zeros(part.count, np.bool_)
        self.bad: Mask = np.zeros(part.count, np.bool_)
        self._frame_bytes = frame_bytes

    def bytes_of(self, at: int, count: int) -> slice:
        """Where the data of some tickets stand."""
        low = at * self._frame_bytes
        return slice(low, min(low + count * self._frame_bytes, self.part.size))

    def take(self, answer: Answer, keyring: Keyring) -> int:
        """Look at one message of a node's answer.

        Returns:
            The number behind its last ticket; 0 if it has none.

        Raises:
            PutterError: it is none, or says that the node cannot read.
        """
        header, payload = answer
        if not isinstance(header, Data):
            raise NodesUnavailable("a putter answered something else")
        if header.status:
            raise error_for_status(header.status, header.reason)
        if not payload:
            return 0
        behind = header.first + header.count
        at = header.first - self.part.first
        if header.count < 1 or not 0 <= at <= self.part.count - header.count:
            raise NodesUnavailable("a putter sent other tickets than it was asked for")
        these = slice(at, at + header.count)
        if header.frame_bytes != self._frame_bytes:
            self.bad[these] = True
            return behind
        key = keyring.named(header.key_id).checksum
        right = frames.check(payload, header.first, header.frame_bytes, key) == 0
        data = frames.strip(payload, header.frame_bytes)
        place = self.bytes_of(at, header.count)
        size = place.stop - place.start
        if len(right) != header.count:
            raise NodesUnavailable("a putter miscounted its tickets")
        if len(data) != size:
            right[-1] = False  # a ticket of another length than the record says
            data = data[:size].ljust(size, b"\0")
        self.data[place] = data
        self.good[these] = right
        self.bad[these] = ~right
        return behind


def stretches(mask: Mask) -> Iterator[tuple[int, int]]:
    """Where a mask is set: start and length of each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start, end - start
