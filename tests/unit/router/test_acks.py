"""The door on 5002: who may bring acks, what counts, and what is only counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
import structlog

from common.callers import CallerLimits
from common.limits import HANDSHAKE_TIMEOUT_MS
from common.metrics import Metrics
from common.tickets import encode_field
from common.twins.network import MemoryNetwork
from common.wire import acks
from common.wire.greeting import ClientGreeting
from common.wire.handshake import Identity
from common.wire.reader import MessageReader
from common.wire.session import AnyMessage, Refused
from router.acks import AckPort
from tests.node_kit import OTHER_RING, RING, Wire, hello_of, network_of, play, until
from tests.router_kit import ACKS, metric
from tests.simulation.loop import World

_ROOMY = CallerLimits(100)


class Taker:
    """Expects the tickets 100 … 199 of everybody."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int, int]] = []
        self.renewed: list[str] = []

    def acked(self, node: str, first: int, count: int, status: int) -> int:
        self.heard.append((node, first, count, status))
        return len(range(max(first, 100), min(first + count, 200)))

    def ack_connection_renewed(self, node: str) -> None:
        self.renewed.append(node)


class Port:
    def __init__(self, network: MemoryNetwork, limits: CallerLimits) -> None:
        self.network = network
        self.taker = Taker()
        self.metrics = Metrics("router")
        self.port = AckPort(
            self.taker,
            Identity("r0", "r0.1"),
            RING,
            network.host("r0"),
            random.Random(1),
            self.metrics,
            limits,
        )

    async def putter(self, node: str = "p0", ring: object = RING, **hello: object) -> Wire:
        """A putter that greets; look at what came back."""
        wire = await self.stranger()
        fields = {"role": "acks", "node": node} | hello
        greeting = ClientGreeting(ring, hello_of(ring, **fields))  # type: ignore[arg-type]
        wire.send(greeting.opening)
        seen = 0
        while greeting.peer is None and not wire.ended.is_set():
            before = len(wire.received)
            await until(lambda n=before: len(wire.received) > n or wire.ended.is_set())
            fresh, seen = bytes(wire.received[seen:]), len(wire.received)
            if fresh:
                try:
                    answer = greeting.receive(fresh)
                except Exception:  # noqa: BLE001 - the test looks at the refusal itself
                    break
                if answer:
                    wire.send(answer)
        return wire

    async def stranger(self) -> Wire:
        return await Wire.open(self.network.host("p0"), "r0", ACKS)

    def ignored(self, reason: str) -> float:
        return metric(self.metrics, "putter_acks_ignored_total", reason=reason)

    def refused(self, reason: str) -> float:
        return metric(self.metrics, "putter_refused_total", port="acks", reason=reason)


def with_port(scene: Callable[[Port], Awaitable[None]], limits: CallerLimits = _ROOMY) -> None:
    async def main(world: World) -> None:
        port = Port(network_of(world.random), limits)
        await port.port.start("r0", ACKS)
        await scene(port)
        await port.port.stop()

    play(main)


def messages_to(wire: Wire) -> list[AnyMessage]:
    return [message for message, _ in MessageReader().feed(bytes(wire.received[8:]))]


def refusal(wire: Wire) -> Refused:
    messages = messages_to(wire)
    assert isinstance(messages[-1], Refused), messages
    return messages[-1]


class TestAcks:
    def test_many_in_one_write_are_handed_over_as_ranges(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter()
            wire.send(acks.encode_range(100, 50, 0) + acks.encode_range(150, 2, 1))
            await until(lambda: sum(count for _, _, count, _ in port.taker.heard) == 52)
            assert {node for node, *_ in port.taker.heard} == {"p0"}
            good = [(f, c) for _, f, c, s in port.taker.heard if s == 0]
            assert [n for f, c in good for n in range(f, f + c)] == list(range(100, 150))
            assert metric(port.metrics, "putter_acks_total", status="written") == 50
            assert metric(port.metrics, "putter_acks_total", status="checksum_mismatch") == 2
            assert port.ignored("not in flight") == 0

        with_port(scene)

    def test_byte_by_byte(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter()
            for byte in acks.encode_range(100, 20, 0):
                wire.send(bytes([byte]))
            await until(lambda: sum(count for _, _, count, _ in port.taker.heard) == 20)

        with_port(scene)

    def test_those_not_in_flight_are_ignored_and_counted(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter()
            wire.send(acks.encode_range(190, 30, 0))
            wire.send(acks.encode_range(5, 3, 0))
            await until(lambda: port.ignored("not in flight") == 23)
            assert not wire.ended.is_set()

        with_port(scene)

    def test_malformed_tickets_are_ignored_and_counted_and_in_the_end_too_many(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter()
            bad = b"not-a-t!" + b"\0"
            wire.send(bad * 3 + acks.encode_range(100, 1, 0) + bytes(9))
            await until(lambda: port.ignored("malformed") == 4)
            assert port.taker.heard == [("p0", 100, 1, 0)]
            assert not wire.ended.is_set()
            wire.send(bad * 200)
            await wire.all()
            assert port.refused("protocol") == 1
            other = await port.putter("p1")
            other.send(acks.encode_range(101, 1, 0))
            await until(lambda: ("p1", 101, 1, 0) in port.taker.heard)

        with_port(scene)

    def test_a_status_of_the_future_is_handed_over(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter()
            wire.send(encode_field(100) + b"\xc8")
            await until(lambda: port.taker.heard == [("p0", 100, 1, 200)])
            assert metric(port.metrics, "putter_acks_total", status="unknown") == 1

        with_port(scene)


class TestWho:
    @pytest.mark.parametrize("role", ["router", "client", "", "x" * 1000])
    def test_another_role_is_told_that_this_is_the_wrong_door(self, role: str) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter(role=role)
            await wire.all()
            assert "acks of putters" in refusal(wire).reason
            assert len(messages_to(wire)) == 1, "neither welcome nor ready"
            assert port.refused("protocol") == 1
            assert port.taker.renewed == []

        with_port(scene)

    def test_another_key_is_told_so(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter(ring=OTHER_RING)
            await wire.all()
            told = refusal(wire)
            assert told.status == 5
            assert "key" in told.reason
            assert port.refused("not-authorised") == 1
            assert port.taker.heard == []

        with_port(scene)

    def test_another_key_is_logged_once_a_minute(self) -> None:
        async def scene(port: Port) -> None:
            with structlog.testing.capture_logs() as lines:
                for _ in range(5):
                    await (await port.putter(ring=OTHER_RING)).all()
                await asyncio.sleep(61)
                await (await port.putter(ring=OTHER_RING)).all()
            told = [line.get("held_back", 0) for line in lines if line["log_level"] == "error"]
            assert told == [0, 4]
            assert port.refused("not-authorised") == 6

        with_port(scene)

    @pytest.mark.parametrize(
        "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"PUTTER/9" + bytes(50), b"\xff" * 100, bytes(9)]
    )
    def test_garbage_is_refused_and_nobody_else_is_disturbed(self, garbage: bytes) -> None:
        async def scene(port: Port) -> None:
            good = await port.putter()
            bad = await port.stranger()
            bad.send(garbage)
            await bad.all()
            refusal(bad)
            good.send(acks.encode_range(100, 1, 0))
            await until(lambda: port.taker.heard == [("p0", 100, 1, 0)])

        with_port(scene)

    def test_who_says_nothing_has_to_go(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.stranger()
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_MS / 1000 + 1):
                await wire.all()
            assert "no greeting" in refusal(wire).reason
            quiet = await port.putter()
            await asyncio.sleep(2 * HANDSHAKE_TIMEOUT_MS / 1000)
            assert not quiet.ended.is_set(), "one that greeted may be silent"

        with_port(scene)

    def test_too_many_are_turned_away(self) -> None:
        async def scene(port: Port) -> None:
            wires = [await port.putter(f"p{n}") for n in range(2)]
            late = await port.stranger()
            await late.all()
            late.transport.close()
            assert "serves 2 connections" in refusal(late).reason
            assert port.refused("connections") == 1
            wires[0].transport.close()
            await wires[0].lost.wait()
            await until(lambda: metric(port.metrics, "putter_connections", port="acks") == 1)
            again = await port.putter("p9")
            again.send(acks.encode_range(100, 1, 0))
            await until(lambda: ("p9", 100, 1, 0) in port.taker.heard)

        with_port(scene, CallerLimits(2))

    def test_one_address_may_not_take_all_places(self) -> None:
        async def scene(port: Port) -> None:
            await port.putter()
            late = await port.stranger()
            await late.all()
            late.transport.close()
            assert "connections_per_address" in refusal(late).hint
            assert port.refused("address") == 1

        with_port(scene, CallerLimits(100, 1))

    def test_a_putter_that_comes_back_may_have_lost_acks(self) -> None:
        async def scene(port: Port) -> None:
            first = await port.putter()
            await port.putter("p1")
            assert port.taker.renewed == []
            first.reset()
            await port.putter()
            await until(lambda: port.taker.renewed == ["p0"])

        with_port(scene)

    def test_stopping_closes_all(self) -> None:
        async def scene(port: Port) -> None:
            wire = await port.putter()
            await port.port.stop()
            await wire.lost.wait()

        with_port(scene)
