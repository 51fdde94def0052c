"""Small objects that are written together, and what becomes of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from common.errors import PutterError
from common.records import Version
from router.blocks import Block
from router.targets import Target, Written


class RegroupError(PutterError):
    """The group did not make it as a whole."""


@dataclass(slots=True)
class Entry:
    """One object that waits, and what becomes of it."""

    block: Block
    target: Target
    request_id: str
    done: asyncio.Future[Written | None]
    object_id: str = ""
    first: int = 0
    count: int = 0
    digest: bytes = b""
    refused: bool = False
    error: PutterError | None = None


@dataclass(slots=True)
class Group:
    """What is written together.

    Attributes:
        entries: the objects.
        nodes: putters that get them.
        begun: those that Redis has heard of.
        stamp: of the first version; the others follow.
        versions: what they become, once their records may be durable somewhere.
        failed: of a group that was given up, the ObjectIDs that Redis will not publish any more.
    """

    entries: list[Entry]
    nodes: tuple[str, ...] = ()
    begun: list[Entry] = field(default_factory=list)
    stamp: int = 0
    versions: list[Version] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def may_travel_again(self, entry: Entry) -> bool:
        """Whether nothing of the first try can come to life beside a second one."""
        return not self.versions or entry.object_id in self.failed
