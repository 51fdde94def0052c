"""Calls to Redis: gathered into round trips, tried again while it is away.

Whatever is called in the same moment leaves in one pipeline. Calls of the same verb for the same
bucket (or sequence) become one command in it. All of them are idempotent, so a pipeline whose
answer was lost simply travels again, with whatever came in meanwhile, until the patience of each
call is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common.batching import Again, Gatherer
from common.clock import Clock
from common.errors import MetadataUnavailable, PutterError
from common.limits import KIB
from common.meta.link import Argument, Command, Link, Trouble
from common.meta.schema import KEYS_OF_BUCKET, bucket_keys, bucket_of
from common.meta.scripts import script

RETRY_DELAY_MS_MIN: Final = 10
RETRY_DELAY_MS_MAX: Final = 1_000
WAIT_REPORT_MS: Final = 10_000
PIPELINE_CALLS_MAX: Final = KIB
LOOK_MS: Final = 500
"""Between two looks for calls whose patience is over."""

Args = tuple[Argument, ...]
Admit = Callable[[str, str, str, bool], Awaitable[bool]]
"""Have a bucket served: its name, the run of its server, the run it is marked with, whether it
comes into being. False if nobody ever used it and it does not; else it may be tried again."""
_UNSERVED: Final = "UNSERVED "
_NONE: Final = object()
_NO: Final = ord("0")


class Verb(Protocol):
    """How calls of one kind become one command."""

    @property
    def registers(self) -> bool:
        """Whether the group is a bucket that comes into being with the call."""
        ...

    @property
    def absent(self) -> Any:
        """The result where the group is a bucket that nobody ever used, and does not register."""
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
        registers: the bucket is noted before the call: nothing is ever in a bucket that nobody
            would find.
        translate: makes the result of a call, which may be an exception, from its byte.
        absent: the byte of each item where nobody ever used the bucket.
    """

    name: str
    before: Args = ()
    registers: bool = False
    translate: Callable[[int, Args], Any] | None = None
    absent: Any = _NO

    def command(self, group: str, calls: Sequence[Args]) -> Command:
        """One call of the script with all items."""
        args: list[Argument] = [KEYS_OF_BUCKET, *bucket_keys(group), *self.before]
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
    return Command((KEYS_OF_BUCKET, *bucket_keys(bucket), *args), script(name))


@dataclass(slots=True)
class _Call:
    verb: Verb | None
    group: str
    payload: Any
    since_ms: int
    patience_ms: int
    tries: int = 1
    trouble: str = "no answer in time"
    result: Any = None
    absent: Any = _NONE
    admission: asyncio.Task[bool] | None = None


class Calls:
    """All calls of one process to one Redis.

    Attributes:
        refusal: what calls get at once while Redis is not complete; None: they wait.
        lapses: how often a call had no answer of a complete Redis at once.

    Args:
        link: the way there.
        clock: measures the patience.
        patience_ms: how long a call is tried before `MetadataUnavailable` is raised.
    """

    def __init__(self, link: Link, clock: Clock, patience_ms: int) -> None:
        self._link = link
        self._clock = clock
        self._patience_ms = patience_ms
        self._admit: Admit | None = None
        self._admissions: dict[tuple[str, bool], asyncio.Task[bool]] = {}
        self.refusal: PutterError | None = None
        self.lapses = 0
        self._gatherer: Gatherer[_Call, Any] = Gatherer(self._send, batch_max=PIPELINE_CALLS_MAX)
        self._look: asyncio.TimerHandle | None = None

    async def run(self, command: Command, *, absent: Any = _NONE) -> Any:
        """One command; its reply.

        Args:
            command: what to do.
            absent: the reply of a bucket that nobody ever used; without it, it comes into being.

        Raises:
            MetadataUnavailable: no answer within the patience, or a refusal.
        """
        now_ms = self._clock.monotonic_ms()
        return await self._gatherer(
            _Call(None, "", command, now_ms, self._patience_ms, absent=absent)
        )

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands that do not depend on each other; their replies.

        Raises:
            MetadataUnavailable: no answer within the patience, or a refusal.
        """
        return list(await asyncio.gather(*(self.run(command) for command in commands)))

    async def gather(
        self, verb: Verb, group: str, args: Args, patience_ms: int | None = None
    ) -> Any:
        """One item of a verb, which shares a command with others of the same group.

        Args:
            verb: what to do.
            group: the bucket (or sequence).
            args: of this item.
            patience_ms: how long it is tried; as all, if None.

        Raises:
            MetadataUnavailable: no answer within the patience, or a refusal.
        """
        return await self.submit(verb, group, args, patience_ms)

    def submit(
        self, verb: Verb, group: str, args: Args, patience_ms: int | None = None
    ) -> asyncio.Future[Any]:
        """The same, on its way at once; the future gives and raises what `gather` does."""
        now_ms = self._clock.monotonic_ms()
        patience_ms = self._patience_ms if patience_ms is None else patience_ms
        return self._gatherer.submit(_Call(verb, group, args, now_ms, patience_ms))

    def admit_with(self, admit: Admit) -> None:
        """Who is asked about buckets that are not served."""
        self._admit = admit

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
        for admission in self._admissions.values():
            admission.cancel()
        if self._look is not None:
            self._look.cancel()
        await self._gatherer.close()
        await self._link.close()

    async def _send(self, calls: Sequence[_Call]) -> Sequence[Any | Exception | Again]:
        """One round trip for a batch."""
        if self._look is None:
            self._look_later()
        groups = _grouped(calls)
        replies = await self._link.run([_command(group) for group in groups])
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, Trouble):
                for call in group:
                    call.result = self._verdict(call, reply)
            else:
                _share(group, reply)
        return [call.result for call in calls]

    def _verdict(self, call: _Call, trouble: Trouble) -> Any | PutterError | Again:
        """Once more, or what to tell the caller."""
        self.lapses += 1
        if trouble.reason.startswith(_UNSERVED):
            return self._unserved(call, *trouble.reason.split()[1:3])
        if not trouble.passing:
            return MetadataUnavailable(
                f"Redis at {self._link.address} refuses to work: {trouble.reason}"
            )
        call.trouble = trouble.reason
        over = self._over(call)
        if over is not None:
            return over
        delay_ms = retry_delay_ms(call.tries)
        call.tries += 1
        return Again(delay_ms)

    def _over(self, call: _Call) -> PutterError | None:
        """What a call gets whose patience is over."""
        waited_ms = self._clock.monotonic_ms() - call.since_ms
        if waited_ms < call.patience_ms:
            return None
        if call.admission is None:
            return MetadataUnavailable(
                f"Redis at {self._link.address} did not answer for {waited_ms / 1000:.1f} s: "
                f"{call.trouble}",
                hint="check that it runs and can be reached; what was asked may be asked again",
            )
        return self.refusal or MetadataUnavailable(
            f"Redis at {self._link.address} was not brought up to date with the putters within "
            f"{waited_ms / 1000:.1f} s",
            hint="it was restarted or emptied: see the log of the routers, or `putter status`",
        )

    def _look_later(self) -> None:
        """A server that is there and silent keeps a batch for longer than its calls may wait."""
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(min(LOOK_MS, self._patience_ms) / 1000, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if self._gatherer.expire(self._over):
            self._look_later()

    def _unserved(self, call: _Call, run: str, marked: str) -> Any | PutterError | Again:
        """The bucket may be served in a moment; or it has to be brought up to date first."""
        done = call.admission
        if done is not None and done.done() and not done.cancelled():
            error = done.exception()
            if isinstance(error, PutterError):
                return error
            if error is None and not done.result():
                return call.absent if call.verb is None else call.verb.absent
            if self.refusal is not None:
                return self.refusal
        call.admission = self._admission(call, run, marked)
        over = self._over(call)
        if over is not None:
            return over
        delay_ms = retry_delay_ms(call.tries) if call.tries > 1 else 1
        call.tries += 1
        return Again(delay_ms)

    def _admission(self, call: _Call, run: str, marked: str) -> asyncio.Task[bool]:
        """One question for all calls to a bucket."""
        bucket = call.group if call.verb is not None else _bucket_of(call.payload)
        registers = call.absent is _NONE if call.verb is None else call.verb.registers
        key = (bucket, registers)
        task = self._admissions.get(key)
        if task is None:
            assert self._admit is not None
            admission = self._admit(bucket, run, marked, registers)
            task = asyncio.ensure_future(admission)
            self._admissions[key] = task
            task.add_done_callback(lambda done: self._admitted(key, done))
        return task

    def _admitted(self, key: tuple[str, bool], task: asyncio.Task[bool]) -> None:
        del self._admissions[key]
        if not task.cancelled():
            task.exception()  # the calls try again, and have a patience of their own


def _bucket_of(command: Command) -> str:
    """The bucket whose keys a script gets; "" if it is none of a bucket."""
    key = command.args[1]
    return bucket_of(key) if isinstance(key, bytes) else ""


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
