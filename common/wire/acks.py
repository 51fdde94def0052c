"""Acks: what became of each ticket, many in one write.

```
offset  size  field
0       8     TicketID, ASCII base 36, padded right with NUL
8       1     status (`common.wire.status`)
```
"""

from __future__ import annotations

import numpy as np

from common import tickets
from common.limits import ACK_BYTES
from common.wire.frames import Statuses


def encode(fields: tickets.Fields, statuses: Statuses) -> bytes:
    """Acks for many tickets.

    Args:
        fields: uint8, shape ``(count, 8)``.
        statuses: uint8, shape ``(count,)``.
    """
    out = np.empty((len(fields), ACK_BYTES), np.uint8)
    out[:, :8] = fields
    out[:, 8] = statuses
    return out.tobytes()


def encode_range(first: int, count: int, status: int) -> bytes:
    """Acks for consecutive tickets that share a status."""
    if count == 1:
        return tickets.encode_field(first) + bytes([status])
    return encode(tickets.encode_range(first, count), np.full(count, status, np.uint8))


class AckDecoder:
    """Cuts a byte stream into acks, wherever it was split on its way."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> tuple[tickets.Numbers, Statuses]:
        """Take the next bytes.

        Returns:
            The ticket numbers (int64, -1 where the field is not a TicketID) and statuses (uint8)
            of all acks that are complete now.
        """
        if self._rest:
            data = self._rest + data
        count = len(data) // ACK_BYTES
        self._rest = bytes(data[count * ACK_BYTES :])
        table = np.frombuffer(data, np.uint8, count * ACK_BYTES).reshape(count, ACK_BYTES)
        return tickets.decode_fields(table[:, :8]), table[:, 8].copy()

    def ranges(self, data: bytes) -> list[tuple[int, int, int]]:
        """The same as stretches of consecutive tickets: see `common.tickets.segments`."""
        if len(data) == ACK_BYTES and not self._rest:  # a lone small object
            return [(tickets.number_or_none(data[:-1]), 1, data[-1])]
        return tickets.segments(*self.receive(data))

    @property
    def pending_bytes(self) -> int:
        """Bytes of an ack that is not complete yet, 0…8."""
        return len(self._rest)
