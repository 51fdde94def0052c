"""The coordinator as one simulated process sees it, over a wire of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from common.errors import MetadataUnavailable
from common.meta.memory import MemoryMetadata

T = TypeVar("T")


class Noun:
    """One repository of the coordinator as a process sees it."""

    def __init__(self, target: Any, view: View) -> None:
        self._target = target
        self._view = view

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        async def call(*args: Any, **named: Any) -> Any:
            self._view.check()
            for attempt in range(100):
                try:
                    result = await self._view.tell(method(*args, **named))
                except MetadataUnavailable:
                    # What the client of a real coordinator does within its patience.
                    self._view.lapses += 1
                    self._view.check()
                    if attempt == 99:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    self._view.check()
                    return result
            raise AssertionError

        return call


class Recovery(Noun):
    def refuse(self, reason: object) -> None:
        """Each process has its own."""


class View:
    """The coordinator as one process sees it: gone once the process is dead.

    Attributes:
        alive: whether the process is.
        mute: whether nothing that it asks gets there.
        deaf: whether what it asks is done, and no answer comes.
        lapses: how often a question was asked in vain.
    """

    def __init__(self, target: MemoryMetadata) -> None:
        self.alive = True
        self.mute = False
        self.deaf = False
        self.lapses = 0
        self.counters = Noun(target.counters, self)
        self.objects = Noun(target.objects, self)
        self.announcements = Noun(target.announcements, self)
        self.files = Noun(target.files, self)
        self.versions = Noun(target.versions, self)
        self.buckets = Noun(target.buckets, self)
        self.access = Noun(target.access, self)
        self.claims = Noun(target.claims, self)
        self.handoff = Noun(target.handoff, self)
        self.outbox = Noun(target.outbox, self)
        self.members = Noun(target.members, self)
        self.leases = Noun(target.leases, self)
        self.repairs = Noun(target.repairs, self)
        self.recovery = Recovery(target.recovery, self)

    async def tell(self, question: Awaitable[T]) -> T:
        """Ask once, over a wire that may be cut in one direction or both.

        Raises:
            MetadataUnavailable: it is cut, or the coordinator is away.
        """
        if self.mute:
            if asyncio.iscoroutine(question):
                question.close()
            raise MetadataUnavailable("what this process says does not get there")
        answer = await question
        if self.deaf:
            raise MetadataUnavailable("the answer does not get here")
        return answer

    def check(self) -> None:
        if not self.alive:
            raise MetadataUnavailable("this process is dead")
