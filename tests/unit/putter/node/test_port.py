"""The door on 5000: who is raw, who is a session, who is silent, who is too many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from common import tickets
from common.callers import CallerLimits
from common.errors import NotAuthorised, ProtocolError, ShuttingDown, Unavailable
from common.limits import HANDSHAKE_TIMEOUT_MS, RAW_DATA_BYTES
from common.twins.network import MemoryHost, MemoryNetwork
from common.wire.greeting import ClientGreeting
from common.wire.reader import MessageReader
from common.wire.session import (
    GREETING,
    Done,
    Ping,
    Proof,
    Refused,
    Welcome,
    encode,
)
from common.wire.status import Status
from putter.node.app import PutterNode
from tests.node_kit import (
    OTHER_RING,
    RING,
    Client,
    FaultyEngine,
    Wire,
    acks_in,
    hello_of,
    make_node,
    network_of,
    play,
    raw_frame,
    raw_frames,
    stored,
    until,
)
from tests.simulation.loop import World

FULL = bytes(range(256)) * 5 + bytes(RAW_DATA_BYTES - 1280)
IDLE_S = 10.0

Scene = Callable[[World, MemoryNetwork, PutterNode], Awaitable[None]]


def with_node(scene: Scene, engine: FaultyEngine | None = None, **options: Any) -> None:
    """A scene before a node whose patience is ten seconds."""

    async def main(world: World) -> None:
        network = network_of(world.random)
        node = make_node(network, engine, **({"idle_ms": int(IDLE_S * 1000)} | options))
        await node.start()
        await scene(world, network, node)
        await node.stop()

    play(main)


async def slowly(wire: Wire, data: bytes) -> None:
    """Byte by byte, each in a segment of its own."""
    for at in range(len(data)):
        wire.send(data[at : at + 1])
        await asyncio.sleep(0.001)


def shown(node: PutterNode) -> str:
    return node.metrics.render().decode()


def messages(data: bytes) -> list[object]:
    assert data[:8] == GREETING
    return [message for message, _ in MessageReader().feed(data[8:])]


async def works(network: MemoryNetwork, ticket: int) -> None:
    """Both kinds of connections are served."""
    wire = await Wire.open(network)
    assert acks_in(await wire.send(raw_frames(ticket, FULL)).finish().all()) == [(ticket, 0)]
    client = await Client().open(network)
    ((reply, _),) = await client.session.call(Ping, timeout_ms=1_000)
    assert reply == Done(1, 0)
    client.session.close()


class TestTellingApart:
    def test_a_raw_frame_byte_by_byte(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            await slowly(wire, raw_frames(7, b"short"))
            assert acks_in(await wire.finish().all()) == [(7, 0)]

        with_node(scene)

    def test_a_session_byte_by_byte(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            greeting = ClientGreeting(RING, hello_of())
            await slowly(wire, greeting.opening)
            welcome = await wire.has(20)
            await asyncio.sleep(0.1)
            proof = greeting.receive(bytes(wire.received))
            seen = len(wire.received)
            await slowly(wire, proof)
            await wire.has(seen + 1)
            await asyncio.sleep(0.1)
            assert greeting.receive(bytes(wire.received[seen:])) == b""
            assert greeting.peer is not None
            seen = len(wire.received)
            await slowly(wire, encode(Ping(5)))
            await asyncio.sleep(0.1)
            assert wire.received[seen:] == encode(Done(5, 0))
            assert welcome.startswith(GREETING)
            wire.transport.close()

        with_node(scene)

    @pytest.mark.parametrize("first", [b"PUTTERS1", b"P", b"PUTTER", b"PUTTER1\0"])
    def test_a_ticket_may_begin_like_a_greeting(self, first: bytes) -> None:
        """``/`` is what no TicketID has."""

        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            field = first.ljust(8, b"\0")
            wire = await Wire.open(network)
            wire.send(raw_frame(field, b"data"))
            number = tickets.decode_field(field)
            assert acks_in(await wire.finish().all()) == [(number, 0)]

        with_node(scene)

    @pytest.mark.parametrize("size", range(1, 8))
    def test_who_ends_within_the_first_word_is_a_raw_sender(self, size: int) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            answer = await wire.send(GREETING[:size]).finish().all()
            assert answer == GREETING[:size].ljust(8, b"\0") + bytes([Status.MALFORMED])

        with_node(scene)

    def test_who_says_nothing_and_ends_is_let_go(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            assert await wire.finish().all() == b""
            assert world.loop.time() < 1
            await works(network, 1)

        with_node(scene)

    @pytest.mark.parametrize("pieces", ["whole", "byte by byte"])
    def test_garbage_is_frames_that_nobody_can_store(self, pieces: str) -> None:
        engine = FaultyEngine()
        garbage = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(3000)

        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            if pieces == "whole":
                wire.send(garbage)
            else:
                await slowly(wire, garbage)
            found = acks_in(await wire.finish().all())
            assert found == [(-1, Status.MALFORMED)] * 3
            assert stored(engine, 0, 10**9, raw=True) == {}
            await works(network, 1)

        with_node(scene, engine)


class TestRefusedSessions:
    @pytest.mark.parametrize("whole", [True, False])
    def test_an_unknown_version(self, whole: bool) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            if whole:
                wire.send(b"PUTTER/2" + bytes(100))
            else:
                await slowly(wire, b"PUTTER/2")
            (refused,) = messages(await wire.all())
            assert isinstance(refused, Refused)
            assert refused.status == Status.MALFORMED
            assert "b'2' is unknown" in refused.reason
            assert "PUTTER/1" in refused.hint
            await works(network, 1)

        with_node(scene)

    def test_another_key(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            with pytest.raises(NotAuthorised, match="no cluster key in common") as caught:
                await Client(OTHER_RING).open(network)
            assert "--key-file" in caught.value.hint
            await works(network, 1)

        with_node(scene)

    def test_another_key_is_logged_once_a_minute(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            with structlog.testing.capture_logs() as lines:
                for pause_s in (0, 0, 0, 61):
                    await asyncio.sleep(pause_s)
                    with pytest.raises(NotAuthorised):
                        await Client(OTHER_RING).open(network)
                await Wire.open(network)  # lets the node see the last one's end
            refused = [line for line in lines if "refused" in line["event"]]
            assert [line.get("held_back", 0) for line in refused] == [0, 2]
            text = node.metrics.render().decode()
            assert 'putter_refused_total{port="putter",reason="not-authorised"} 4.0' in text

        with_node(scene)

    def test_a_wrong_proof(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            wire.send(GREETING + encode(hello_of()))
            await wire.has(100)
            wire.send(encode(Proof(bytes(32))))
            welcome, refused = messages(await wire.all())
            assert isinstance(welcome, Welcome)
            assert isinstance(refused, Refused)
            assert refused.status == Status.NOT_AUTHORISED
            assert "wrong proof" in refused.reason

        with_node(scene)

    def test_a_request_without_a_greeting(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            wire.send(GREETING + encode(Ping(1)))
            (refused,) = messages(await wire.all())
            assert isinstance(refused, Refused)
            assert "Ping does not belong into a greeting" in refused.reason

        with_node(scene)

    @pytest.mark.parametrize(
        ("nonsense", "reason"),
        [
            (b"\0" * 8, "without a header"),
            (b"\xff" * 8, "are allowed here"),
            (b"\0\0\0\1\0\0\0\0\xc1", "not a session message"),
            (b"\0\0\0\x0a\0\0\0\0\x93\xa4find\x01\xa2\xff\xfe", "not a session message"),
            (b"\0\0\x0f\xa7\0\0\0\0\x93\xa4ping\x01" + b"\x91" * 4000, "not a session message"),
        ],
        ids=["zeros", "ones", "msgpack", "text", "depth"],
    )
    def test_nonsense_after_the_greeting(self, nonsense: bytes, reason: str) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            client = await Client().open(network)
            client.session._transport.write(nonsense)  # type: ignore[union-attr]
            await until(lambda: client.session.closed)
            (error,) = client.losses
            assert isinstance(error, ProtocolError)
            assert reason in str(error)
            stranger = await Wire.open(network)
            stranger.send(GREETING + nonsense)
            (refused,) = messages(await stranger.all())
            assert isinstance(refused, Refused)
            assert reason in refused.reason
            await works(network, 1)

        with_node(scene)

    def test_something_else_listens_there(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            class Web(Wire):
                def data_received(self, data: bytes) -> None:
                    self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            await network.host("web").listen(Web, "web", 80)
            with pytest.raises(ProtocolError, match=r"not with b'HTTP/1\.1'"):
                await Client().open(network, "web", 80)

        with_node(scene)


class TestSilence:
    def test_who_says_nothing_is_closed(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            assert await wire.all() == b""
            assert IDLE_S - 0.1 < world.loop.time() < IDLE_S + 0.1
            assert "putter_refused_total" in node.metrics.render().decode()

        with_node(scene)

    @pytest.mark.parametrize(
        "part",
        [GREETING[:3], raw_frames(7, FULL)[:100], raw_frames(7, FULL) + b"abc"],
        ids=["a greeting", "a frame", "the second frame"],
    )
    def test_who_stops_in_the_middle_is_closed(self, part: bytes) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            await wire.send(part).all()
            assert world.loop.time() < 2 * IDLE_S + 1

        with_node(scene)

    def test_a_frame_that_stays_a_part_is_malformed(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            told = await wire.send(raw_frames(7, FULL) + raw_frames(8, FULL)[:100]).all()
            assert acks_in(told) == [(7, 0), (8, Status.MALFORMED)]

        with_node(scene)

    def test_a_client_that_does_not_read_is_left(self) -> None:
        """More acks than the buffers on the way take, of the same frames again and again."""

        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            wire.transport.pause_reading()
            some = raw_frames(1, FULL * 500)
            with structlog.testing.capture_logs() as lines:
                for _ in range(90):
                    wire.send(some)
                    await asyncio.sleep(0.1)
                gone = 'connections{port="putter"} 0.0'
                await until(lambda: gone in shown(node), 600, every_s=1)
            assert [line for line in lines if "takes nothing" in line["event"]]
            assert 'putter_refused_total{port="putter",reason="stalled"} 1.0' in shown(node)
            wire.reset()
            await works(network, 90_000)

        with_node(scene)

    def test_who_goes_on_is_not_closed(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            for number in range(10):
                wire.send(raw_frames(number, FULL))
                await asyncio.sleep(0.9 * IDLE_S)
            assert len(await wire.acks(10)) == 10
            assert not wire.ended.is_set()

        with_node(scene)

    def test_a_session_lives_on(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            client = await Client().open(network)
            await asyncio.sleep(20 * IDLE_S)
            await client.session.call(Ping, timeout_ms=1_000)
            client.session.close()

        with_node(scene)

    @pytest.mark.parametrize("dripping", [False, True])
    def test_a_greeting_has_to_end_in_time(self, dripping: bool) -> None:
        """Also where a byte comes now and then."""

        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            wire.send(GREETING)
            opening = encode(hello_of())
            for at in range(len(opening)):
                if wire.ended.is_set():
                    break
                if dripping:
                    wire.send(opening[at : at + 1])
                await asyncio.sleep(0.5)
            await wire.all()
            assert world.loop.time() < HANDSHAKE_TIMEOUT_MS / 1000 + 1

        with_node(scene, idle_ms=60_000)

    def test_a_short_patience_holds_for_greetings_too(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wire = await Wire.open(network)
            await wire.send(GREETING).all()
            assert world.loop.time() < 1.1

        with_node(scene, idle_ms=500)


async def slow_greeting(network: MemoryHost) -> object:
    """The only answer to a client that greets byte by byte."""
    wire = await Wire.open(network)
    await slowly(wire, GREETING)
    (told,) = messages(await wire.all())
    wire.transport.close()
    return told


class TestTooMany:
    def test_one_too_many_is_turned_away_and_nobody_else(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wires = [await Wire.open(network) for _ in range(3)]
            await asyncio.sleep(0.1)
            turned_away = await Wire.open(network)
            told = await turned_away.send(raw_frames(77, FULL)).all()
            assert acks_in(told) == [(77, Status.SHUTTING_DOWN)]
            with pytest.raises(ShuttingDown, match="serves 3 connections at a time"):
                await Client().open(network)
            silent = await Wire.open(network)
            await silent.all()
            assert silent.received == b""
            for number, wire in enumerate(wires):
                wire.send(raw_frames(number, FULL))
                assert await wire.acks(1) == [(number, 0)]
            text = node.metrics.render().decode()
            assert 'putter_refused_total{port="putter",reason="connections"} 3.0' in text
            assert 'putter_connections{port="putter"} 3.0' in text

        with_node(scene, callers=CallerLimits(3))

    def test_one_address_may_not_take_all_places(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            crowd = network.host("crowd")
            wires = [await Wire.open(crowd) for _ in range(2)]
            await asyncio.sleep(0.1)
            told = await slow_greeting(crowd)
            assert isinstance(told, Refused)
            assert "connections_per_address" in told.hint
            neighbour = await Wire.open(network.host("neighbour"))
            neighbour.send(raw_frames(1, FULL))
            assert await neighbour.acks(1) == [(1, 0)]
            for wire in wires:
                wire.transport.close()

        with_node(scene, callers=CallerLimits(100, 2))

    def test_who_leaves_makes_room(self) -> None:
        async def scene(world: World, network: MemoryNetwork, node: PutterNode) -> None:
            wires = [await Wire.open(network) for _ in range(3)]
            await asyncio.sleep(0.1)
            wires[0].reset()
            wires[1].transport.close()
            await asyncio.sleep(0.1)
            for number in range(2):
                wire = await Wire.open(network)
                wire.send(raw_frames(number, FULL))
                assert await wire.acks(1) == [(number, 0)]

        with_node(scene, callers=CallerLimits(3))


def test_a_session_to_nobody() -> None:
    async def main(world: World) -> None:
        with pytest.raises(Unavailable, match="Connection refused"):
            await Client().open(network_of(world.random))

    play(main)
