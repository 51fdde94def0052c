"""What a session asks that is no write: read, verify, stat, find, list, ping; free, raise, scrub.

Reads and verifications are answered by `putter.node.reading`. Other answers that need the disk run
as tasks, a bounded number at a time, and wait while the client does not read what was sent. The
rest are small; the session stops reading questions before too many of them wait to be sent
(`Queries.unread`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final

from common.checksum import Buffer
from common.errors import ProtocolError, PutterError
from common.limits import ANSWERS_UNREAD_BYTES_MAX
from common.metrics import Metrics
from common.tickets import TICKETS_MAX
from common.wire.inventory import AskDigests, AskEntries, Count, ListHoldings
from common.wire.locations import Locate
from common.wire.message import Message
from common.wire.scrubbing import Scrub
from common.wire.session import (
    AnyMessage,
    Done,
    FindRecord,
    Free,
    ListRecords,
    Ping,
    Raise,
    Read,
    RecordReply,
    Stat,
    StatReply,
    encode,
)
from common.wire.verification import Verify
from putter.node.committer import Committer
from putter.node.fence import Fence
from putter.node.inventory import answer_inventory
from putter.node.locating import answer_locate
from putter.node.reading import Reading
from putter.node.recounts import answer_count, answer_holdings, answer_list, answer_raise
from putter.node.scrub import Scrubber, answer_scrub
from putter.node.verify import NodeCheck
from putter.storage.engine import Engine
from putter.storage.stored import Stored

Answer = tuple[Message, Buffer]
_AT_ONCE: Final = 16
_QUEUED_MAX: Final = 1024


class Queries:
    """Answers one session's questions.

    Args:
        transport: where answers go.
        engine: is only read here.
        committer: for what needs the disk thread.
        readers: threads for the reading.
        metrics: counters.
        fence: gets the objects that are freed.
        scrubber: verifies what is at rest.
        check: verifies frames.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        engine: Engine,
        committer: Committer,
        readers: Executor,
        metrics: Metrics,
        fence: Fence,
        scrubber: Scrubber,
        check: NodeCheck,
    ) -> None:
        self._transport = transport
        self._fence = fence
        self._scrubber = scrubber
        self._engine = engine
        self._committer = committer
        self._readers = readers
        self._reading = Reading(transport, engine, readers, metrics, check)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writable = asyncio.Event()
        self._writable.set()

    def send(self, message: Message, payload: Buffer = b"") -> None:
        """Send one message; swallowed if the client is gone."""
        if self._transport.is_closing():
            return
        header = encode(message, len(payload))
        if payload:
            self._transport.writelines([header, payload])
        else:
            self._transport.write(header)

    @property
    def unread(self) -> bool:
        """Whether so much waits to be sent that no more questions should be read."""
        if self._writable.is_set():
            return False
        return self._transport.get_write_buffer_size() > ANSWERS_UNREAD_BYTES_MAX

    @property
    def asked(self) -> int:
        """Questions that are not answered yet."""
        return len(self._tasks) + self._reading.count

    def pause(self) -> None:
        """The client does not read."""
        self._writable.clear()
        self._reading.pause()

    def resume(self) -> None:
        """It reads again."""
        self._writable.set()
        self._reading.resume()

    def cancel(self) -> None:
        """The client is gone."""
        self._writable.set()
        self._reading.cancel()
        for task in self._tasks:
            task.cancel()

    def take(self, message: AnyMessage) -> None:
        """Answer a question.

        Raises:
            ProtocolError: this message is no question.
        """
        match message:
            case Ping():
                self.send(Done(message.request, 0))
            case Read() | Verify():
                _check_range(message.first, message.count)
                self._check_room()
                self._reading.take(message)
            case Stat():
                self._spawn(lambda: self._stat(message), message.request)
            case FindRecord():
                self._spawn(lambda: answer_find(message, self._committer), message.request)
            case ListRecords():
                self._spawn(lambda: answer_list(message, self._committer), message.request)
            case Free():
                self._fence.add(message.objects)
                self._spawn(lambda: answer_free(message, self._committer), message.request)
            case Raise():
                self._spawn(lambda: answer_raise(message, self._committer), message.request)
            case ListHoldings() | Locate():
                self._spawn(lambda: self._look_up(message), message.request)
            case AskDigests() | AskEntries():
                self._spawn(
                    lambda: answer_inventory(message, self._engine, self._readers), message.request
                )
            case Count():
                self._spawn(
                    lambda: answer_count(message, self._committer, self._scrubber),
                    message.request,
                )
            case Scrub():
                self._spawn(lambda: answer_scrub(message, self._scrubber), message.request)
            case _:
                raise ProtocolError(f"{type(message).__name__} was not expected here")

    def _spawn(self, answer: Callable[[], Awaitable[Answer]], request: int) -> None:
        self._start(lambda: self._send_later(answer, request))

    # -- inside ----------------------------------------------------------------------------

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        self._check_room()
        task = asyncio.get_running_loop().create_task(self._bounded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check_room(self) -> None:
        if self.asked >= _QUEUED_MAX:
            raise ProtocolError(f"more than {_QUEUED_MAX} questions at once")

    async def _bounded(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._slots:
            await work()

    async def _send_later(self, answer: Callable[[], Awaitable[Answer]], request: int) -> None:
        await self._until_writable()  # an answer that nobody takes need not be in memory yet
        try:
            message, payload = await answer()
        except PutterError as error:
            message, payload = Done(request, error.status, error.message), b""
        await self._until_writable()
        self.send(message, payload)

    async def _until_writable(self) -> None:
        """Others wait as well, and whoever comes first may fill the queue again."""
        while not self._writable.is_set():
            await self._writable.wait()

    async def _look_up(self, message: ListHoldings | Locate) -> Answer:
        loop = asyncio.get_running_loop()
        if isinstance(message, ListHoldings):
            return await loop.run_in_executor(self._readers, answer_holdings, message, self._engine)
        _check_range(message.first, message.count)
        return await loop.run_in_executor(self._readers, answer_locate, message, self._engine)

    async def _stat(self, message: Stat) -> Answer:
        _check_range(message.ticket, 1)
        loop = asyncio.get_running_loop()
        info = await loop.run_in_executor(
            self._readers, lambda: self._engine.stat(message.ticket, raw=message.raw)
        )
        if info is None:
            return StatReply(message.request, found=False), b""
        run = info.run or Stored()
        reply = StatReply(
            message.request,
            found=True,
            size=info.size,
            checksum=info.checksum,
            object_id=info.object_id,
            key_id=info.key_id,
            damaged=info.damaged,
            compression=run.compression,
            encryption=run.encryption,
            plain_bytes=run.plain_bytes,
            stored_bytes=run.stored_bytes,
        )
        return reply, b""


async def answer_find(message: FindRecord, committer: Committer) -> Answer:
    """The record that commits an object."""
    found = await committer.run(lambda engine: engine.find_record(message.object_id))
    if found is None:
        return RecordReply(message.request, found=False), b""
    return RecordReply(message.request, found=True, number=found.number), found.record.body


async def answer_free(message: Free, committer: Committer) -> Answer:
    """Free tickets and drop records; the answer is durable."""

    def free(engine: Engine) -> int:
        for first, count in message.ranges:
            _check_range(first, count)
        whose = frozenset(message.objects) if message.objects and not message.raw else None
        removed = engine.free(message.ranges, raw=message.raw, objects=whose)
        if message.objects:
            engine.drop_records(message.objects)
        return removed

    return Done(message.request, 0, count=await committer.run(free)), b""


def _check_range(first: int, count: int) -> None:
    if first < 0 or count < 1 or first + count > TICKETS_MAX:
        raise ProtocolError(f"tickets {first} + {count} do not exist")
