"""Groups of small objects: what waits, how groups are made, what becomes of each."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from common.errors import PutterError
from common.limits import KIB
from common.records import Version
from common.wire import frames
from router.blocks import Block
from router.origin import NOBODY, Origin
from router.placement import Placement
from router.quorum import Policy
from router.targets import Target, Written

GROUP_OBJECTS_MAX: Final = 256
_GROUP_WIRE_BYTES_MAX: Final = 1024 * KIB


class RegroupError(PutterError):
    """The group did not make it as a whole."""


@dataclass(slots=True)
class Entry:
    """One object that waits, and what becomes of it."""

    block: Block
    target: Target
    policy: Policy
    request_id: str
    done: asyncio.Future[Written | None]
    origin: Origin = NOBODY
    object_id: str = ""
    first: int = 0
    count: int = 0
    stamp: int = 0
    digest: bytes = b""
    refused: bool = False
    error: PutterError | None = None


@dataclass(slots=True)
class Group:
    """What is written together: objects of which equally many putters have to hold each.

    Attributes:
        entries: the objects.
        placement: putters that get them; None until it is chosen.
        begun: those that Redis has heard of.
        versions: what they become, once their records may be durable somewhere.
        failed: of a group that was given up, the ObjectIDs that Redis will not publish any more.
    """

    entries: list[Entry]
    placement: Placement | None = None
    begun: list[Entry] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    @property
    def policy(self) -> Policy:
        """How many putters have to hold each of them."""
        return self.entries[0].policy

    @property
    def nodes(self) -> tuple[str, ...]:
        """The putters that get them, once these are chosen."""
        return () if self.placement is None else self.placement.nodes

    def may_travel_again(self, entry: Entry) -> bool:
        """Whether nothing of the first try can come to life beside a second one."""
        return not self.versions or entry.object_id in self.failed


def take_group(waiting: deque[Entry], frame_bytes: int) -> list[Entry]:
    """Take the next group out of what waits; those that are left keep their order.

    Args:
        waiting: the objects, the oldest first.
        frame_bytes: data bytes of a frame.
    """
    group: list[Entry] = []
    others: list[Entry] = []
    size = 0
    while waiting and len(group) < GROUP_OBJECTS_MAX:
        entry = waiting[0]
        wire = frames.wire_bytes(len(entry.block.data), frame_bytes)
        if group and size + wire > _GROUP_WIRE_BYTES_MAX:
            break
        waiting.popleft()
        if entry.done.done():
            entry.block.release()  # its sender gave up
        elif group and entry.policy != group[0].policy:
            others.append(entry)
        else:
            size += wire
            group.append(entry)
    waiting.extendleft(reversed(others))
    return group
