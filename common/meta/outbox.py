"""The seam to events that wait for their delivery.

Whatever publishes a change can post an event in the same atomic step (`Post`): there is no moment
in which the change is visible and its event is not kept. Events of a bucket wait in its outbox, in
order, for each target by itself, until whoever delivers them says that they are done. A target
that takes nothing for long has a bounded queue; then the oldest go, and are counted.

Events are nowhere else: a coordinator that lost everything lost those that waited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.limits import EVENTS_WAITING_MAX


@dataclass(frozen=True)
class Post:
    """An event, with where it goes.

    Attributes:
        target: name of it, a word without blanks.
        body: whatever whoever delivers it understands.
        waiting_max: how many may wait for the target in this bucket, with this one.
    """

    target: str
    body: bytes
    waiting_max: int = EVENTS_WAITING_MAX


@dataclass(frozen=True)
class Queue:
    """What waits for a target of a bucket.

    Attributes:
        target: its name.
        waiting: how many events wait.
        dropped: how many had to go undelivered since the outbox was empty of memory.
    """

    target: str
    waiting: int
    dropped: int = 0


@dataclass(frozen=True)
class Waiting:
    """An event that waits.

    Attributes:
        number: its place in the outbox; an event that was posted later has a higher one.
        body: as it was posted.
    """

    number: int
    body: bytes


class Outbox(Protocol):
    """Events of buckets that wait."""

    async def post(self, bucket: str, posts: Sequence[Post]) -> None:
        """Let events wait that come with no change. A repeated call posts them again."""
        ...

    async def buckets(self) -> list[str]:
        """The buckets in which events wait, sorted."""
        ...

    async def queues(self, bucket: str) -> list[Queue]:
        """The targets for which events of a bucket wait, or had to go, by name."""
        ...

    async def first(self, bucket: str, target: str, limit: int) -> list[Waiting]:
        """The events that wait for a target the longest, in order; they go on waiting."""
        ...

    async def done(self, bucket: str, target: str, numbers: Sequence[int]) -> None:
        """Events are delivered: they wait no more."""
        ...

    async def forward(
        self, stream: str, entries: Sequence[Mapping[str, bytes]], length_max: int
    ) -> None:
        """Add entries to a stream of the coordinator itself, in order.

        Args:
            stream: its key.
            entries: values by field.
            length_max: about how many entries the stream keeps; the oldest go.
        """
        ...
