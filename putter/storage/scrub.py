"""Words of the scrub: what verifies, what is found, and how far a pass over a disk is.

Pure. What an engine does with them is in `putter.storage.engine`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final, Protocol

import numpy as np

from common.checksum import Buffer
from common.tickets import format_id
from common.wire.frames import Statuses

THINGS_MAX: Final = 256
"""Runs, records, tickets … that one piece of a pass looks at, however short they are."""


class Part(StrEnum):
    """What is damaged."""

    TICKETS = "tickets"
    """Frames do not fit their checksums, or cannot be read."""
    HEADER = "header"
    """What describes a run; its frames can be read and are right."""
    RECORD = "record"
    """A commit record."""
    REMOVAL = "removal"
    """What says that something was freed or dropped."""
    INDEX = "index"
    """The index of a sealed segment: it is made again from that."""
    SEGMENT = "segment"
    """The first block of a segment."""
    KEYS = "keys"
    """One of the two files with the data keys: the other one, or the memory, has them."""
    STATE = "state"
    """The state of a layout, with the ceilings: it is written again from memory."""


@dataclass(frozen=True)
class Finding:
    """Something that is not what was written.

    Attributes:
        part: what it is.
        first: number of the first ticket, or of the commit record; else 0.
        count: tickets, 1 for a commit record; else 0.
        object_id: the object that it belongs to; "" if it is not known, or there is none.
        place: file in the data directory, and where in it.
        reason: what is wrong.
        raw: raw tickets.
        mended: it was made again at once, and is whole now.
    """

    part: Part
    first: int
    count: int
    object_id: str
    place: str
    reason: str
    raw: bool = False
    mended: bool = False

    @property
    def end(self) -> int:
        """Behind the last ticket."""
        return self.first + self.count

    @property
    def of_tickets(self) -> bool:
        """Whether it is about tickets."""
        return self.part in (Part.TICKETS, Part.HEADER)

    def __str__(self) -> str:
        """What is wrong, with what, and where."""
        what = self.part.value
        if self.of_tickets:
            what = f"{self.count} tickets from {format_id(self.first)} on"
            if self.raw:
                what += " (raw)"
        elif self.part is Part.RECORD:
            what = f"commit record {self.first}"
        owner = f" of object {self.object_id}" if self.object_id else ""
        return f"{what}{owner}: {self.reason} ({self.place})"


@dataclass(frozen=True)
class Scrubbed:
    """What one piece of a pass did.

    Attributes:
        cursor: where to go on; "" at the end of the pass.
        verified_bytes: that were read and looked at.
        total_bytes: about how many a whole pass reads; None if that is not known.
        findings: what is damaged.
        end: at the end of the pass, what stands for that in `Engine.looked_at`; "" where the layout
            cannot tell.
    """

    cursor: str
    verified_bytes: int
    total_bytes: int | None
    findings: tuple[Finding, ...] = ()
    end: str = ""


class Check(Protocol):
    """Tells whether stored bytes are what was written. Any thread may ask."""

    def frames(self, key_id: str, first: int, frame_bytes: int, rows: Buffer) -> Statuses | None:
        """One status a ticket, ``WRITTEN`` where frame and ticket fit; None: no such key."""
        ...

    def record(self, body: bytes) -> bool:
        """Whether this is a commit record of this or a later version."""
        ...


class Stage(IntEnum):
    """How far a pass is in engines that keep all tickets in one order."""

    TICKETS = 0
    RAW = 1
    RECORDS = 2
    END = 3


@dataclass
class Gathered:
    """What a piece has done so far.

    Attributes:
        budget_bytes: about so many are verified.
    """

    budget_bytes: int
    verified_bytes: int = 0
    things: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether it is enough."""
        return self.verified_bytes >= self.budget_bytes or self.things >= THINGS_MAX

    @property
    def room(self) -> int:
        """How many things it may still look at."""
        return max(0, THINGS_MAX - self.things)

    def add(self, size: int, *findings: Finding) -> None:
        """One thing more was looked at."""
        self.things += 1
        self.verified_bytes += size
        self.findings += findings

    def done(self, cursor: str, total_bytes: int | None, end: str = "") -> Scrubbed:
        """The answer."""
        return Scrubbed(cursor, self.verified_bytes, total_bytes, tuple(self.findings), end)


def numbers_of(cursor: str, count: int) -> tuple[int, ...]:
    """The numbers in a cursor; zeros at the beginning, or if it is none of ours."""
    words = cursor.split(".")
    if len(words) != count or not all(word.isascii() and word.isdigit() for word in words):
        return (0,) * count
    return tuple(int(word[:20]) for word in words)


def cursor_of(*numbers: int) -> str:
    """A cursor with these numbers."""
    return ".".join(map(str, numbers))


def bad_stretches(statuses: Statuses) -> Iterator[tuple[int, int]]:
    """``(index, count)`` of consecutive tickets that are not good."""
    bad = np.flatnonzero(np.diff(np.concatenate(([0], (statuses != 0).view(np.uint8), [0]))))
    for low, high in bad.reshape(-1, 2).tolist():
        yield low, high - low
