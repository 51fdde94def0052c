"""The way back to the routers: acks in order, bounded, over connections that come and go."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
import structlog

from common.limits import ACK_BYTES, HANDSHAKE_TIMEOUT_MS
from common.twins.network import MemoryNetwork
from common.wire.handshake import Identity
from putter.node import acks
from putter.node.acks import AckAddress, AckLink, AckLinks
from tests.node_kit import (
    OTHER_RING,
    RING,
    AckConnection,
    AckPort,
    acks_in,
    network_of,
    play,
    until,
)
from tests.simulation.loop import World

ADDRESS = AckAddress("router-1.1", "router", 5002)
ME = Identity("putter-1", "start-1", "test", "memory")
KEPT = 10_000


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "ACKS_KEPT_BYTES_MAX", KEPT * ACK_BYTES)


def link_to(network: MemoryNetwork) -> AckLink:
    return AckLink(ADDRESS, network.host("putter"), RING, ME, random.Random(5))


def test_acks_arrive_in_order_with_their_statuses() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        port = await AckPort(network).open()
        link = link_to(network)
        for first, count, status in [(7, 2, 0), (9, 1, 0), (10, 1, 4), (3, 1, 4), (4, 1, 4)]:
            link.send(first, count, status)
        await until(lambda: len(port.got) == 6)
        assert port.got == [(7, 0), (8, 0), (9, 0), (10, 4), (3, 4), (4, 4)]
        hello = port.connections[0].greeting.peer.hello  # type: ignore[union-attr]
        assert (hello.role, hello.node, hello.instance) == ("acks", "putter-1", "start-1")
        await link.close(0)

    play(main)


def test_acks_of_one_moment_go_out_in_one_write() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        port = await AckPort(network).open()
        link = link_to(network)
        link.send(1, 1, 0)
        await until(lambda: len(port.got) == 1)
        sizes: list[int] = []
        transport = link._sender.transport  # type: ignore[union-attr]
        write = transport.write
        transport.write = lambda data: (sizes.append(len(data)), write(data))  # type: ignore[method-assign,func-returns-value]
        for number in range(2, 100, 2):
            link.send(number, 1, 0)
        await until(lambda: len(port.got) == 50)
        assert sizes == [49 * ACK_BYTES]
        link.send(200, 1, 0)
        await until(lambda: len(port.got) == 51)
        assert sizes == [49 * ACK_BYTES, ACK_BYTES]
        await link.close(0)

    play(main)


def test_a_router_that_comes_later_gets_what_was_kept() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        link = link_to(network)
        link.send(1, 3, 0)
        await asyncio.sleep(10)
        link.send(9, 1, 2)
        assert not link.idle
        port = await AckPort(network).open()
        await until(lambda: len(port.got) == 4)
        assert port.got == [(1, 0), (2, 0), (3, 0), (9, 2)]
        assert link.idle
        await link.close(0)

    play(main)


def test_beyond_the_limit_the_oldest_are_dropped() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        link = link_to(network)
        for number in range(KEPT + 1000):
            link.send(2 * number, 1, 0)
        port = await AckPort(network).open()
        await until(lambda: len(port.got) >= KEPT)
        assert port.got == [(2 * number, 0) for number in range(1000, KEPT + 1000)]
        await link.close(0)

    play(main)


def test_the_limit_holds_for_acks_that_are_kept_as_one_range() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        link = link_to(network)
        for first in range(0, KEPT + 1000, 500):
            link.send(first, 500, 0)
        newest = first + 500
        port = await AckPort(network).open()
        await until(lambda: bool(port.got))
        await asyncio.sleep(5)
        assert len(port.got) == KEPT
        assert (port.got[0], port.got[-1]) == ((newest - KEPT, 0), (newest - 1, 0))
        await link.close(0)

    play(main)


def test_a_lost_connection_is_made_again() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        port = await AckPort(network).open()
        link = link_to(network)
        link.send(1, 1, 0)
        await until(lambda: len(port.got) == 1)
        network.cut("router", "putter")
        await until(lambda: port.lost == 1)
        link.send(2, 1, 0)
        await until(lambda: len(port.connections) == 2 and len(port.got) == 2)
        assert acks_in(bytes(port.connections[1].received)) == [(2, 0)]
        await link.close(0)

    play(main)


def test_whatever_a_try_to_connect_failed_with_there_is_a_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        port = await AckPort(network).open()
        host, tries = network.host("putter"), itertools.count()
        connect = host.connect

        async def failing(*args: Any, **options: Any) -> Any:
            if next(tries) < 2:
                raise ValueError("negative file descriptor")
            return await connect(*args, **options)

        monkeypatch.setattr(host, "connect", failing)
        link = AckLink(ADDRESS, host, RING, ME, random.Random(5))
        link.send(1, 1, 0)
        await until(lambda: port.got == [(1, 0)], 30)
        await link.close(0)

    play(main)


def test_a_router_with_another_key_gets_nothing_and_is_not_pestered() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        port = await AckPort(network, OTHER_RING).open()
        link = link_to(network)
        link.sessions = 1
        link.send(1, 1, 0)
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(59)
        assert port.got == []
        assert 20 < len(port.connections) < 80, "once or twice in two seconds"
        assert [line.get("held_back", 0) for line in lines] == [0], "and is told of once a minute"
        await link.close(0)

    play(main)


def test_a_router_that_says_nothing_is_given_up_and_tried_again() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        port = await AckPort(network).open()
        port.mute = True
        link = link_to(network)
        link.send(1, 1, 0)
        await asyncio.sleep(HANDSHAKE_TIMEOUT_MS / 1000 + 1)
        assert port.lost >= 1, "the silent connection was closed"
        port.mute = False
        await until(lambda: port.got == [(1, 0)], 30)
        await link.close(0)

    play(main)


def test_something_else_on_the_port_is_no_router() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)

        class Web(AckConnection):
            def data_received(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = AckPort(network)
        await network.host("router").listen(lambda: Web(port), "router", 5002)
        link = link_to(network)
        link.send(1, 1, 0)
        await asyncio.sleep(5)
        assert port.lost >= 2, "closed each time, tried again"
        assert not link.idle
        await link.close(0)

    play(main)


def test_a_router_that_does_not_read_costs_a_bounded_amount() -> None:
    async def main(world: World) -> None:
        network = network_of(world.random, window_bytes=4096)
        port = await AckPort(network).open()
        port.reads_not = True
        link = link_to(network)
        link.send(0, 1, 0)
        await until(
            lambda: bool(port.connections) and port.connections[0].greeting.peer is not None
        )
        await asyncio.sleep(1)
        total = 4 * KEPT
        for number in range(1, total):
            link.send(2 * number, 1, 0)
            if number % 1000 == 0:
                await asyncio.sleep(0.001)
        sender = link._sender
        assert sender is not None
        waiting = sender.transport.get_write_buffer_size()  # type: ignore[union-attr]
        assert waiting <= 2 * 64 * 1024
        port.connections[0].transport.resume_reading()
        await until(lambda: bool(port.got) and port.got[-1] == (2 * total - 2, 0), 100)
        assert KEPT < len(port.got) < 2 * KEPT
        assert port.got == sorted(port.got)
        await link.close(0)

    play(main)


class TestClose:
    def test_what_is_queued_goes_first(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            link = link_to(network)
            link.send(1, 1000, 6)
            await link.close(5_000)
            await until(lambda: port.lost == 1)
            assert port.got == [(number, 6) for number in range(1, 1001)]

        play(main)

    def test_a_router_that_comes_back_in_time_gets_it(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            link = link_to(network)
            link.send(1, 2, 0)
            await asyncio.sleep(3)
            closing = asyncio.create_task(link.close(10_000))
            await asyncio.sleep(1)
            port = await AckPort(network).open()
            await closing
            await until(lambda: port.lost == 1)
            assert port.got == [(1, 0), (2, 0)]
            assert world.loop.time() < 8

        play(main)

    def test_it_does_not_wait_for_a_router_that_is_gone(self) -> None:
        async def main(world: World) -> None:
            link = link_to(network_of(world.random))
            link.send(1, 1, 0)
            began = world.loop.time()
            await link.close(5_000)
            assert 4.9 < world.loop.time() - began < 5.5

        play(main)


class TestLinks:
    def links(self, network: MemoryNetwork) -> AckLinks:
        return AckLinks(network.host("putter"), RING, ME, random.Random(5))

    def test_sessions_of_one_instance_share_a_connection(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            links = self.links(network)
            one, other = links.open(ADDRESS), links.open(ADDRESS)
            assert one is other
            restarted = links.open(AckAddress("router-1.2", "router", 5002))
            assert restarted is not one
            assert len(links) == 2
            one.send(1, 1, 0)
            restarted.send(2, 1, 0)
            await until(lambda: len(port.got) == 2)
            assert len(port.connections) == 2
            await links.close(0)

        play(main)

    def test_it_outlives_its_sessions_for_half_a_minute(self) -> None:
        """The last acks of a session that broke still reach the router."""

        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            links = self.links(network)
            link = links.open(ADDRESS)
            links.leave(link)
            await asyncio.sleep(29)
            link.send(1, 1, 0)
            await until(lambda: port.got == [(1, 0)])
            assert port.lost == 0
            await asyncio.sleep(5)
            assert (len(links), port.lost) == (0, 1)
            await links.close(0)

        play(main)

    def test_a_session_that_comes_back_keeps_it(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            links = self.links(network)
            link = links.open(ADDRESS)
            links.leave(link)
            await asyncio.sleep(10)
            assert links.open(ADDRESS) is link
            await asyncio.sleep(100)
            link.send(1, 1, 0)
            await until(lambda: port.got == [(1, 0)])
            assert (len(port.connections), port.lost) == (1, 0)
            links.leave(link)
            await links.close(0)

        play(main)

    def test_closing_flushes_all(self) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            links = self.links(network)
            for instance in ("a", "b", "c"):
                links.open(AckAddress(instance, "router", 5002)).send(7, 1, 6)
            await links.close(5_000)
            await until(lambda: port.lost == 3)
            assert port.got == [(7, 6)] * 3

        play(main)
