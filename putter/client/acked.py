"""Bookkeeping of raw frames: which tickets were sent, and what their acks said."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from common import tickets
from common.errors import ProtocolError, PutterError, UsageError, error_for_status
from common.limits import RAW_DATA_BYTES
from common.wire.frames import Statuses, frame_count
from common.wire.status import Status

_FIRST_OF_EIGHT: Final = tickets.parse_ticket("0" * tickets.FIELD_BYTES)


@dataclass(frozen=True)
class Part:
    """The consecutive frames that one connection sends.

    Attributes:
        first: number of the first ticket.
        count: how many tickets.
        offset: place of the first byte in the data.
        size: data bytes.
    """

    first: int
    count: int
    offset: int
    size: int


def plan(size: int, connections: int) -> list[Part]:
    """Spread data over connections, under consecutive tickets of eight characters.

    The first ticket is random, so that two senders do not meet. Only the last frame of all may
    be short.

    Args:
        size: data bytes, 1 or more.
        connections: at most so many parts.

    Raises:
        UsageError: there are not so many tickets of eight characters.
    """
    count = frame_count(size, RAW_DATA_BYTES)
    room = tickets.TICKETS_MAX - _FIRST_OF_EIGHT - count
    if room < 0:
        raise UsageError(f"{size} bytes need {count} tickets, more than there are")
    first = _FIRST_OF_EIGHT + secrets.randbelow(room + 1)
    each = -(-count // connections)
    parts = []
    for at in range(0, count, each):
        offset = at * RAW_DATA_BYTES
        frames = min(each, count - at)
        parts.append(Part(first + at, frames, offset, min(frames * RAW_DATA_BYTES, size - offset)))
    return parts


class Tally:
    """Counts the acks of one part; every ticket must be acknowledged exactly once."""

    def __init__(self, part: Part) -> None:
        self._first = part.first
        self._seen = np.zeros(part.count, np.bool_)
        self._counts = np.zeros(256, np.int64)

    @property
    def acked(self) -> int:
        """How many tickets have been acknowledged, with whatever status."""
        return int(self._counts.sum())

    @property
    def complete(self) -> bool:
        """Whether all of them have."""
        return self.acked == len(self._seen)

    def take(self, numbers: tickets.Numbers, statuses: Statuses) -> None:
        """Count a batch of acks.

        Args:
            numbers: int64 ticket numbers, -1 where the field was no TicketID.
            statuses: uint8, one for each.

        Raises:
            ProtocolError: an ack for a ticket that was not sent here, or a second one.
        """
        places = numbers - self._first
        foreign = (places < 0) | (places >= len(self._seen))
        if foreign.any():
            number = int(numbers[foreign][0])
            ticket = tickets.format_id(number) if number >= 0 else "that is no TicketID"
            raise ProtocolError(f"the putter acknowledged a ticket that was not sent: {ticket}")
        if len(np.unique(places)) < len(places) or self._seen[places].any():
            raise ProtocolError("the putter acknowledged a ticket twice")
        self._seen[places] = True
        self._counts += np.bincount(statuses, minlength=256)

    def counts(self) -> dict[int, int]:
        """How many acks came with each status byte."""
        return {int(status): int(self._counts[status]) for status in np.flatnonzero(self._counts)}


def total(tallies: Sequence[Tally]) -> dict[int, int]:
    """The counts of several tallies together."""
    counts: dict[int, int] = {}
    for tally in tallies:
        for status, count in tally.counts().items():
            counts[status] = counts.get(status, 0) + count
    return counts


def error_of(counts: dict[int, int]) -> PutterError | None:
    """The error that these acks amount to; None if every ticket was written.

    A checksum mismatch weighs most, then the lowest status.
    """
    bad = {status: count for status, count in counts.items() if status != Status.WRITTEN}
    if not bad:
        return None
    status = min(bad)
    error = error_for_status(
        status, f"{sum(bad.values())} of {sum(counts.values())} frames were not written"
    )
    if status == Status.CHECKSUM_MISMATCH:
        error.hint = "either the putter has another cluster key, or the way there changes bytes"
    return error
