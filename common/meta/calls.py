"""Calls to Redis: gathered into round trips, tried again while it is away.

Whatever is called in the same moment leaves in one pipeline. Calls of the same verb for the same
bucket (or sequence) become one command in it. All of them are idempotent, so a pipeline whose
answer was lost simply travels again, with whatever came in meanwhile, until the patience of each
call is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common.batching import Again, Gatherer
from common.clock import Clock
from common.errors import MetadataUnavailable
from common.limits import KIB
from common.meta.link import Argument, Command, Link, Trouble
from common.meta.schema import BUCKET_NOUNS, BUCKETS, bucket_keys
from common.meta.scripts import script

RETRY_DELAY_MS_MIN: Final = 10
RETRY_DELAY_MS_MAX: Final = 1_000
WAIT_REPORT_MS: Final = 10_000
PIPELINE_CALLS_MAX: Final = KIB

Args = tuple[Argument, ...]


class Verb(Protocol):
    """How calls of one kind become one command."""

    @property
    def registers(self) -> bool:
        """Whether the group is a bucket that must be noted first."""
        ...

    def command(self, group: str, calls: Sequence[Args]) -> Command:
        """The command for these calls of one bucket (or sequence)."""
        ...

    def results(self, reply: Any, calls: Sequence[Args]) -> Sequence[Any]:
        """The result of each call."""
        ...


@dataclass(frozen=True)
class BucketVerb:
    """A script that answers one byte for each item.

    Attributes:
        name: the script.
        before: what stands in ``ARGV`` before the items.
        registers: the bucket is noted in the same round trip, ahead of the call: nothing is
            ever in a bucket that nobody would find.
        translate: makes the result of a call, which may be an exception, from its byte.
    """

    name: str
    before: Args = ()
    registers: bool = False
    translate: Callable[[int, Args], Any] | None = None

    def command(self, group: str, calls: Sequence[Args]) -> Command:
        """One call of the script with all items."""
        args: list[Argument] = [len(BUCKET_NOUNS), *bucket_keys(group), *self.before]
        for each in calls:
            args += each
        return Command(tuple(args), script(self.name))

    def results(self, reply: Any, calls: Sequence[Args]) -> Sequence[Any]:
        """One byte, as a number, for each; or what it is translated to."""
        if len(reply) != len(calls):
            raise RuntimeError(f"script {self.name} answered {len(reply)} of {len(calls)} items")
        answers: bytes = reply
        if self.translate is None:
            return answers
        return [self.translate(answer, args) for answer, args in zip(answers, calls, strict=True)]


def bucket_script(name: str, bucket: str, *args: Argument) -> Command:
    """A call of a bucket's script that is not gathered."""
    return Command((len(BUCKET_NOUNS), *bucket_keys(bucket), *args), script(name))


@dataclass(slots=True)
class _Call:
    verb: Verb | None
    group: str
    payload: Any
    since_ms: int
    tries: int = 1
    result: Any = None


class Calls:
    """All calls of one process to one Redis.

    Args:
        link: the way there.
        clock: measures the patience.
        patience_ms: how long a call is tried before `MetadataUnavailable` is raised.
    """

    def __init__(self, link: Link, clock: Clock, patience_ms: int) -> None:
        self._link = link
        self._clock = clock
        self._patience_ms = patience_ms
        self._gatherer: Gatherer[_Call, Any] = Gatherer(self._send, batch_max=PIPELINE_CALLS_MAX)

    async def run(self, command: Command) -> Any:
        """One command; its reply.

        Raises:
            MetadataUnavailable: no answer within the patience, or a refusal.
        """
        return await self._gatherer(_Call(None, "", command, self._clock.monotonic_ms()))

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands that do not depend on each other; their replies.

        Raises:
            MetadataUnavailable: no answer within the patience, or a refusal.
        """
        return list(await asyncio.gather(*(self.run(command) for command in commands)))

    async def gather(self, verb: Verb, group: str, args: Args) -> Any:
        """One item of a verb, which shares a command with others of the same group.

        Raises:
            MetadataUnavailable: no answer within the patience, or a refusal.
        """
        return await self.submit(verb, group, args)

    def submit(self, verb: Verb, group: str, args: Args) -> asyncio.Future[Any]:
        """The same, on its way at once; the future gives and raises what `gather` does."""
        return self._gatherer.submit(_Call(verb, group, args, self._clock.monotonic_ms()))

    async def wait_ready(self, on_wait: Callable[[str], None]) -> None:
        """Return when Redis answers, however long that takes.

        Args:
            on_wait: gets one line of text when the first try failed, and again at most every
                ten seconds.
        """
        told_ms: int | None = None
        failures = 0
        while True:
            (reply,) = await self._link.run([Command((b"PING",))])
            if not isinstance(reply, Trouble):
                return
            now_ms = self._clock.monotonic_ms()
            if told_ms is None or now_ms - told_ms >= WAIT_REPORT_MS:
                told_ms = now_ms
                on_wait(f"waiting for Redis at {self._link.address}: {reply.reason}")
            failures += 1
            await asyncio.sleep(retry_delay_ms(failures) / 1000)

    async def close(self) -> None:
        """Give up what is under way and close all connections."""
        await self._gatherer.close()
        await self._link.close()

    async def _send(self, calls: Sequence[_Call]) -> Sequence[Any | Exception | Again]:
        """One round trip for a batch."""
        groups = _grouped(calls)
        commands = [_command(group) for group in groups]
        buckets = {group[0].group for group in groups if _registers(group[0])}
        if buckets:
            commands.insert(0, Command((b"SADD", BUCKETS, *buckets)))
        replies = await self._link.run(commands)
        noted = replies.pop(0) if buckets else None

        for group, answer in zip(groups, replies, strict=True):
            reply = noted if isinstance(noted, Trouble) and _registers(group[0]) else answer
            if isinstance(reply, Trouble):
                for call in group:
                    call.result = self._verdict(call, reply)
            else:
                _share(group, reply)
        return [call.result for call in calls]

    def _verdict(self, call: _Call, trouble: Trouble) -> MetadataUnavailable | Again:
        """Once more, or what to tell the caller."""
        if not trouble.passing:
            return MetadataUnavailable(
                f"Redis at {self._link.address} refuses to work: {trouble.reason}"
            )
        waited_ms = self._clock.monotonic_ms() - call.since_ms
        if waited_ms < self._patience_ms:
            delay_ms = retry_delay_ms(call.tries)
            call.tries += 1
            return Again(delay_ms)
        return MetadataUnavailable(
            f"Redis at {self._link.address} did not answer for {waited_ms / 1000:.1f} s: "
            f"{trouble.reason}",
            hint="check that it runs and can be reached; what was asked may be asked again",
        )


def _grouped(calls: Sequence[_Call]) -> list[list[_Call]]:
    """Calls that share a command; one without a verb shares it with nobody."""
    groups: dict[tuple[int, str], list[_Call]] = {}
    for call in calls:
        key = (id(call.verb or call), call.group)
        group = groups.get(key)
        if group is None:
            groups[key] = [call]
        else:
            group.append(call)
    return list(groups.values())


def _registers(call: _Call) -> bool:
    return call.verb is not None and call.verb.registers


def _command(group: list[_Call]) -> Command:
    first = group[0]
    if first.verb is None:
        command: Command = first.payload
        return command
    return first.verb.command(first.group, [call.payload for call in group])


def _share(group: list[_Call], reply: Any) -> None:
    """Give each call of a group its part of the reply."""
    verb = group[0].verb
    if verb is None:
        group[0].result = reply
        return
    results = verb.results(reply, [call.payload for call in group])
    for call, result in zip(group, results, strict=True):
        call.result = result


def retry_delay_ms(tries: int) -> int:
    """The pause after so many tries without success."""
    return min(RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN << min(tries - 1, 10))
