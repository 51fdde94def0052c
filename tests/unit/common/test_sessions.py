"""The client's end of a session, against a putter that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from common.buffers import BufferPool
from common.errors import (
    NodesUnavailable,
    NotAuthorised,
    ProtocolError,
    PutterError,
    TooLarge,
    Unavailable,
)
from common.limits import HANDSHAKE_TIMEOUT_MS
from common.sessions import ClientSession, open_session
from common.twins.network import MemoryNetwork
from common.wire.greeting import ServerGreeting
from common.wire.handshake import Identity
from common.wire.reader import MessageReader
from common.wire.session import (
    AnyMessage,
    Batch,
    Data,
    Done,
    FindRecord,
    Ping,
    Read,
    RecordsDone,
    Refused,
    RunHeader,
    RunsDone,
    Stat,
    StatReply,
    encode,
)
from tests.node_kit import OTHER_RING, RING, Client, hello_of, network_of, play, until
from tests.simulation.loop import World

Answer = Callable[["Script", AnyMessage, bytes], None]


class Script(asyncio.Protocol):
    """A putter's end: it greets, then answers as it is told."""

    def __init__(self, answer: Answer) -> None:
        self.greeting = ServerGreeting(RING, Identity("putter-1", "i"), b"s" * 16)
        self.answer = answer
        self.greets = True
        self.reader = MessageReader()
        self.heard: list[tuple[AnyMessage, bytes]] = []
        self.lost = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self.greets:
            return
        if self.greeting.peer is None:
            try:
                self.transport.write(self.greeting.receive(data))
            except PutterError as error:
                self.transport.write(self.greeting.refusal(error))
                self.transport.close()
            return
        for message, payload in self.reader.feed(data):
            self.heard.append((message, bytes(payload)))
            self.answer(self, message, bytes(payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def say(self, *messages: AnyMessage, payload: bytes = b"") -> None:
        for message in messages:
            self.transport.write(encode(message, len(payload)) + payload)


class Putter:
    """Who listens; the last one that connected talks."""

    def __init__(self, network: MemoryNetwork, answer: Answer) -> None:
        self.network = network
        self.answer = answer
        self.greets = True
        self.scripts: list[Script] = []

    @property
    def script(self) -> Script:
        return self.scripts[-1]

    def accept(self) -> Script:
        self.scripts.append(Script(self.answer))
        self.script.greets = self.greets
        return self.script

    async def open(self) -> Putter:
        await self.network.host("putter").listen(self.accept, "putter", 5000)
        return self


def nothing(script: Script, message: AnyMessage, payload: bytes) -> None:
    """Says nothing."""


def with_putter(
    answer: Answer, scene: Callable[[World, Client, Putter], Awaitable[None]], **hello: object
) -> None:
    """A conversation with a scripted putter."""

    async def main(world: World) -> None:
        network = network_of(world.random)
        putter = await Putter(network, answer).open()
        client = await Client(**hello).open(network)
        await scene(world, client, putter)
        client.session.close()

    play(main)


class TestCalls:
    def test_each_caller_gets_its_own_answer_in_any_order(self) -> None:
        waiting: list[AnyMessage] = []

        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            waiting.append(message)
            if len(waiting) == 3:
                for each in reversed(waiting):
                    assert isinstance(each, Stat)
                    script.say(StatReply(each.request, found=True, size=each.ticket))

        async def scene(world: World, client: Client, putter: Putter) -> None:
            answers = await asyncio.gather(
                *(
                    client.session.call(lambda n, t=ticket: Stat(n, t), timeout_ms=1_000)
                    for ticket in (70, 80, 90)
                )
            )
            sizes = [reply.size for ((reply, _),) in answers]  # type: ignore[union-attr]
            assert sizes == [70, 80, 90]

        with_putter(answer, scene)

    def test_what_is_asked_in_one_turn_leaves_in_one_write_and_before_what_is_sent_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            if isinstance(message, Ping):
                script.say(Done(message.request, 0))

        async def scene(world: World, client: Client, putter: Putter) -> None:
            session = client.session
            transport = session._transport
            assert transport is not None
            writes: list[int] = []
            written = transport.write

            def write(data: bytes) -> None:
                writes.append(len(data))
                written(data)

            monkeypatch.setattr(transport, "write", write)
            asking = [asyncio.create_task(session.call(Ping, timeout_ms=1_000)) for _ in range(5)]
            await asyncio.gather(*asking)
            assert len(writes) == 1
            asking = [asyncio.create_task(session.call(Ping, timeout_ms=1_000)) for _ in range(2)]
            while not session._asked:
                await asyncio.sleep(0)
            session.send(FindRecord(99, "A"))
            await asyncio.gather(*asking)
            assert len(writes) == 3
            heard = [message.request for message, _ in putter.script.heard]  # type: ignore[union-attr]
            assert heard == [1, 2, 3, 4, 5, 6, 7, 99]

        with_putter(answer, scene)

    def test_an_answer_of_many_parts(self) -> None:
        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            assert isinstance(message, Read)
            for first in (7, 8):
                part = Data(message.request, first, 1, 1458, "k", more=True)
                script.say(part, payload=b"part %d" % first)
            script.say(Done(999, 0))  # of a caller that gave up: nobody waits for it
            script.say(Data(message.request, 0, 0, 0, "", more=False, status=3, reason="why"))

        async def scene(world: World, client: Client, putter: Putter) -> None:
            answers = await client.session.call(lambda n: Read(n, 0, 9), timeout_ms=1_000)
            assert [bytes(payload) for _, payload in answers] == [b"part 7", b"part 8", b""]
            last = answers[-1][0]
            assert isinstance(last, Data)
            assert (last.status, last.reason) == (3, "why")

        with_putter(answer, scene)

    def test_an_error_may_answer_any_question(self) -> None:
        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            script.say(Done(1, 3, "the disk is on fire"))

        async def scene(world: World, client: Client, putter: Putter) -> None:
            answers = await client.session.call(lambda n: Read(n, 0, 9), timeout_ms=1_000)
            assert answers[0][0] == Done(1, 3, "the disk is on fire")

        with_putter(answer, scene)

    def test_a_putter_that_does_not_answer_in_time(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            began = world.loop.time()
            with pytest.raises(NodesUnavailable, match="no answer within 1500 ms"):
                await client.session.call(Ping, timeout_ms=1_500)
            assert 1.49 < world.loop.time() - began < 1.51
            assert not client.session.closed, "the session lives on"
            putter.script.say(Done(1, 0))  # too late: swallowed
            putter.script.answer = lambda script, message, _: script.say(
                Done(message.request, 0, "second")  # type: ignore[union-attr]
            )
            ((reply, _),) = await client.session.call(Ping, timeout_ms=1_500)
            assert reply == Done(2, 0, "second")

        with_putter(nothing, scene)

    def test_parts_of_a_late_answer_are_swallowed(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            with pytest.raises(NodesUnavailable):
                await client.session.call(lambda n: Read(n, 0, 9), timeout_ms=100)
            putter.script.say(Data(1, 7, 1, 1458, "k", more=True), payload=b"late")
            putter.script.say(Data(1, 0, 0, 0, "", more=False))
            await asyncio.sleep(1)
            assert not client.session.closed
            assert client.heard == []

        with_putter(nothing, scene)

    def test_a_request_too_large_to_send_is_its_callers_alone(self) -> None:
        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            script.say(Done(message.request, 0))  # type: ignore[union-attr]

        async def scene(world: World, client: Client, putter: Putter) -> None:
            with pytest.raises(TooLarge):
                await client.session.call(lambda n: FindRecord(n, "x" * 2**21), timeout_ms=100)
            await client.session.call(Ping, timeout_ms=100)

        with_putter(answer, scene)

    def test_numbers_of_requests_are_never_used_twice(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            numbers = [client.session.next_request() for _ in range(3)]
            with pytest.raises(NodesUnavailable):
                await client.session.call(Ping, timeout_ms=10)
            numbers.append(putter.script.heard[0][0].request)  # type: ignore[union-attr]
            numbers.append(client.session.next_request())
            assert len(set(numbers)) == 5

        with_putter(nothing, scene)


class TestMessages:
    def test_what_is_no_answer_is_handed_on(self) -> None:
        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            script.say(RunsDone(((7, 1, 0),)), RecordsDone(((3, 0),)))

        async def scene(world: World, client: Client, putter: Putter) -> None:
            pieces = [bytes([n]) * 1000 for n in range(3)]
            client.session.send(Batch((RunHeader(7, 3000, "O"),)), *pieces)
            assert await client.hears(2) == [RunsDone(((7, 1, 0),)), RecordsDone(((3, 0),))]
            assert putter.script.heard == [(Batch((RunHeader(7, 3000, "O"),)), b"".join(pieces))]

        with_putter(answer, scene)

    def test_who_expects_nothing_takes_it_for_a_mistake(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            putter = await Putter(network, nothing).open()
            losses: list[PutterError] = []
            session, _ = await open_session(
                network,
                "putter",
                5000,
                lambda: ClientSession(RING, hello_of(), BufferPool(), on_lost=losses.append),
            )
            putter.script.say(RunsDone(((7, 1, 0),)))
            await until(lambda: session.closed)
            assert "RunsDone was not expected here" in str(losses[0])

        play(main)


class TestLoss:
    def test_everybody_who_waits_hears_of_it_and_it_is_told_once(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            calls = [
                asyncio.create_task(client.session.call(Ping, timeout_ms=60_000)) for _ in range(3)
            ]
            await until(lambda: len(putter.script.heard) == 3)
            putter.network.cut("localhost", "putter")
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, Unavailable) for error in errors)
            assert world.loop.time() < 10, "nobody waited for its time-out"
            assert len(client.losses) == 1
            assert client.session.closed
            with pytest.raises(PutterError):
                await client.session.call(Ping, timeout_ms=1_000)
            client.session.send(Ping(9))
            client.session.close()
            client.session.abort()
            await asyncio.sleep(1)
            assert len(client.losses) == 1

        with_putter(nothing, scene)

    def test_an_orderly_end_is_a_loss_too(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            putter.script.transport.close()
            await until(lambda: len(client.losses) == 1)
            assert client.session.closed

        with_putter(nothing, scene)

    def test_the_reason_of_a_refusal_reaches_the_callers(self) -> None:
        def answer(script: Script, message: AnyMessage, payload: bytes) -> None:
            script.say(Refused(7, "that was nonsense"))
            script.transport.close()

        async def scene(world: World, client: Client, putter: Putter) -> None:
            with pytest.raises(ProtocolError, match="that was nonsense"):
                await client.session.call(Ping, timeout_ms=1_000)
            await until(lambda: len(client.losses) == 1)
            with pytest.raises(ProtocolError, match="that was nonsense"):
                await client.session.call(Ping, timeout_ms=1_000)

        with_putter(answer, scene)

    def test_nonsense_ends_the_session(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            putter.script.transport.write(bytes(8))
            await until(lambda: len(client.losses) == 1)
            assert isinstance(client.losses[0], ProtocolError)
            await putter.script.lost.wait()

        with_putter(nothing, scene)

    def test_the_reason_of_an_abort_is_what_callers_hear(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            call = asyncio.create_task(client.session.call(Ping, timeout_ms=60_000))
            await until(lambda: bool(putter.script.heard))
            client.session.abort(NodesUnavailable("it was silent"))
            with pytest.raises(NodesUnavailable, match="it was silent"):
                await call
            assert [str(error) for error in client.losses] == ["it was silent"]

        with_putter(nothing, scene)

    def test_closing_sends_what_is_queued(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            wire = bytes(3_000_000)
            client.session.send(Batch((RunHeader(7, len(wire), "O"),)), wire)
            client.session.close()
            await putter.script.lost.wait()
            assert putter.script.heard[0][1] == wire

        with_putter(nothing, scene)

    def test_a_long_queue_is_felt(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            putter.script.transport.pause_reading()
            await client.session.writable()
            wire = bytes(3_000_000)
            client.session.send(Batch((RunHeader(7, len(wire), "O"),)), wire)
            waiting = asyncio.create_task(client.session.writable())
            await asyncio.sleep(1)
            assert not waiting.done()
            putter.script.transport.resume_reading()
            await waiting

        with_putter(nothing, scene)

    def test_who_waits_to_write_hears_of_the_end(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            putter.script.transport.pause_reading()
            wire = bytes(3_000_000)
            client.session.send(Batch((RunHeader(7, len(wire), "O"),)), wire)
            waiting = asyncio.create_task(client.session.writable())
            await asyncio.sleep(1)
            client.session.abort()
            await waiting
            assert client.session.closed

        with_putter(nothing, scene)


class TestOpening:
    def test_both_know_each_other(self) -> None:
        async def scene(world: World, client: Client, putter: Putter) -> None:
            assert client.peer.welcome.node == "putter-1"
            assert client.peer.frame_bytes == 8192
            assert putter.script.greeting.peer == client.peer
            assert await client.session.ready() == client.peer

        with_putter(nothing, scene, frame_bytes=8192)

    def test_nobody_listens(self) -> None:
        async def main(world: World) -> None:
            with pytest.raises(Unavailable):
                await Client().open(network_of(world.random))

        play(main)

    def test_a_session_that_was_never_ready_is_not_told_as_lost(self) -> None:
        """Whoever opened it has heard already, by the error."""

        async def main(world: World) -> None:
            network = network_of(world.random)
            putter = await Putter(network, nothing).open()
            client = Client(OTHER_RING)
            with pytest.raises(NotAuthorised, match="no cluster key in common"):
                await client.open(network)
            await putter.script.lost.wait()
            await asyncio.sleep(1)
            assert client.losses == []

        play(main)

    def test_a_connection_that_breaks_during_the_greeting(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            putter = await Putter(network, nothing).open()
            putter.greets = False
            client = Client()
            opening = asyncio.create_task(client.open(network))
            await until(lambda: bool(putter.scripts))
            await asyncio.sleep(0.1)
            network.cut("localhost", "putter")
            with pytest.raises(Unavailable, match="was lost"):
                await opening
            assert client.losses == []

        play(main)

    def test_who_does_not_greet_in_time_is_let_go(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            putter = await Putter(network, nothing).open()
            putter.greets = False
            with pytest.raises(Unavailable, match="did not finish the greeting within") as caught:
                await Client().open(network)
            assert "something else" in caught.value.hint
            assert world.loop.time() < HANDSHAKE_TIMEOUT_MS / 1000 + 1
            await putter.script.lost.wait()

        play(main)

    def test_a_caller_that_gives_up_leaves_no_connection_behind(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            putter = await Putter(network, nothing).open()
            putter.greets = False
            opening = asyncio.create_task(Client().open(network))
            await until(lambda: bool(putter.scripts))
            await asyncio.sleep(0.1)
            opening.cancel()
            async with asyncio.timeout(1):
                await putter.script.lost.wait()

        play(main)
