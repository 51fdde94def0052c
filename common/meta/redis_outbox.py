"""Events that wait for their delivery, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from common.errors import IntegrityError
from common.meta.calls import BucketVerb, Calls, bucket_script
from common.meta.files import RedisFiles
from common.meta.link import Argument, Command
from common.meta.outbox import Post, Queue, Waiting
from common.meta.schema import bucket_key
from common.meta.values import pack_post
from common.uploads import is_hidden

_DIGITS: Final = 16


class RedisOutbox:
    """`common.meta.outbox.Outbox` in Redis."""

    def __init__(self, calls: Calls, files: RedisFiles) -> None:
        self._calls = calls
        self._files = files
        self._sent = BucketVerb("sent")

    async def post(self, bucket: str, posts: Sequence[Post]) -> None:
        """Let events wait that come with no change."""
        if posts:
            words = [pack_post(each) for each in posts]
            await self._calls.run(bucket_script("post", bucket, *words))

    async def buckets(self) -> list[str]:
        """The buckets in which events wait, sorted."""
        names = [each for each in await self._files.registered() if not is_hidden(each)]
        there = await self._calls.run_all(
            [Command((b"EXISTS", bucket_key(name, "events"))) for name in names]
        )
        return [name for name, yes in zip(names, there, strict=True) if yes]

    async def queues(self, bucket: str) -> list[Queue]:
        """The targets for which events of a bucket wait, or had to go, by name."""
        told = await self._calls.run(bucket_script("queues", bucket), absent=[])
        found = [
            Queue(target.decode(), int(waiting), int(dropped))
            for target, waiting, dropped in zip(told[::3], told[1::3], told[2::3], strict=True)
        ]
        return sorted(found, key=lambda each: each.target)

    async def first(self, bucket: str, target: str, limit: int) -> list[Waiting]:
        """The events that wait for a target the longest, in order; they go on waiting."""
        members = await self._calls.run(bucket_script("first", bucket, target, limit), absent=[])
        return [_unpacked(bucket, member) for member in members]

    async def done(self, bucket: str, target: str, numbers: Sequence[int]) -> None:
        """Events are delivered: they wait no more."""
        await asyncio.gather(
            *(
                self._calls.gather(self._sent, bucket, (target, f"{number:0{_DIGITS}}"))
                for number in numbers
            )
        )

    async def forward(
        self, stream: str, entries: Sequence[Mapping[str, bytes]], length_max: int
    ) -> None:
        """Add entries to a stream of the coordinator itself, in order."""
        await self._calls.run_all(additions(stream, entries, length_max))


def additions(
    stream: str, entries: Sequence[Mapping[str, bytes]], length_max: int
) -> list[Command]:
    """The commands that add entries to a stream.

    Args:
        stream: its key.
        entries: values by field.
        length_max: about how many entries the stream keeps.
    """
    head: tuple[Argument, ...] = (b"XADD", stream, b"MAXLEN", b"~", length_max, b"*")
    return [Command((*head, *_flat(each))) for each in entries]


def _flat(entry: Mapping[str, bytes]) -> list[Any]:
    return [word for pair in entry.items() for word in pair]


def _unpacked(bucket: str, member: bytes) -> Waiting:
    try:
        _, number, body = member.split(b" ", 2)
        return Waiting(int(number), body)
    except ValueError as error:
        raise IntegrityError(f"Redis holds something else than an event of {bucket!r}") from error
