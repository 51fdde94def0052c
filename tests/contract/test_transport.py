"""What every `common.transport.Network` promises: TCP on both loops, and the twin in memory."""

from __future__ import annotations

import asyncio
import random
import socket
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvloop

from common.errors import Unavailable
from common.shortcut import Shortcuts
from common.transport import Network, TcpNetwork, abort
from common.twins.network import MemoryNetwork
from tests.simulation.loop import World, run
from tests.simulation.recorder import BufferedRecorder, Recorder

HOST = "127.0.0.1"
TIMEOUT_MS = 5_000

Scenario: TypeAlias = Callable[[Network], Coroutine[Any, Any, None]]
Play: TypeAlias = Callable[[Scenario], None]
AnyRecorder: TypeAlias = Recorder | BufferedRecorder


class NearNetwork(TcpNetwork):
    """Every port has a Unix socket beside it, and every connection finds it."""

    async def connect(self, *args: Any, **options: Any) -> Any:
        transport, protocol = await super().connect(*args, **options)
        assert transport.get_extra_info("socket").family == socket.AF_UNIX
        return transport, protocol

    async def listen(self, *args: Any, **options: Any) -> Any:
        return await super().listen(*args, **(options | {"shortcut": True}))


class EagerNetwork(TcpNetwork):
    """Every port reads at once what has come."""

    async def listen(self, *args: Any, **options: Any) -> Any:
        return await super().listen(*args, **(options | {"eager": True}))


def _on_tcp(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    kind: type[TcpNetwork] = TcpNetwork,
) -> Play:
    def play(scenario: Scenario) -> None:
        async def bounded() -> None:
            with tempfile.TemporaryDirectory() as directory:
                async with asyncio.timeout(30):
                    await scenario(kind(Shortcuts(Path(directory) / "near")))

        runner = asyncio.Runner(loop_factory=loop_factory)
        try:
            runner.run(bounded())
        except BaseException:
            # What a failed scenario left open is no news, and uvloop hangs on warnings as errors.
            with warnings.catch_warnings(action="ignore"):
                runner.close()
            raise
        runner.close()

    return play


def _in_memory(seed: int) -> Play:
    def play(scenario: Scenario) -> None:
        async def main(world: World) -> None:
            await scenario(MemoryNetwork(world.random))

        run(main, seed, limit_s=3600)

    return play


PLAYS = {
    "tcp-asyncio": _on_tcp(asyncio.SelectorEventLoop),
    "tcp-uvloop": _on_tcp(uvloop.new_event_loop),
    "near-asyncio": _on_tcp(asyncio.SelectorEventLoop, NearNetwork),
    "near-uvloop": _on_tcp(uvloop.new_event_loop, NearNetwork),
    "eager-asyncio": _on_tcp(asyncio.SelectorEventLoop, EagerNetwork),
    "eager-uvloop": _on_tcp(uvloop.new_event_loop, EagerNetwork),
    "memory-1": _in_memory(1),
    "memory-2": _in_memory(2),
    "memory-3": _in_memory(3),
}


@pytest.fixture(params=PLAYS)
def play(request: pytest.FixtureRequest) -> Play:
    return PLAYS[request.param]


@pytest.fixture(params=[name for name in PLAYS if not name.startswith("near-")])
def far(request: pytest.FixtureRequest) -> Play:
    """Unix sockets have neither addresses nor resets; who uses them needs neither."""
    return PLAYS[request.param]


@pytest.fixture(params=[Recorder, BufferedRecorder])
def kind(request: pytest.FixtureRequest) -> type[AnyRecorder]:
    chosen: type[AnyRecorder] = request.param
    return chosen


async def joined(
    network: Network, kind: Callable[[], AnyRecorder]
) -> tuple[AnyRecorder, AnyRecorder, Callable[[], Awaitable[None]]]:
    """A client and a server of one connection, and what closes the port."""
    accepted: list[AnyRecorder] = []
    arrived = asyncio.Event()

    def accept() -> AnyRecorder:
        accepted.append(kind())
        arrived.set()
        return accepted[-1]

    listener = await network.listen(accept, HOST, 0)
    assert listener.host == HOST
    assert listener.port > 0
    _, client = await network.connect(kind, HOST, listener.port, timeout_ms=TIMEOUT_MS)
    await arrived.wait()
    await accepted[0].made.wait()
    return client, accepted[0], listener.close


def test_bytes_go_both_ways_in_order(play: Play, kind: type[AnyRecorder]) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, kind)
        there, back = random.Random(1).randbytes(100_000), random.Random(2).randbytes(70_000)
        for begin in range(0, len(there), 999):
            client.transport.write(there[begin : begin + 999])
        server.transport.writelines([back[:1], memoryview(back)[1:], b""])
        assert await server.has(len(there)) == there
        assert await client.has(len(back)) == back
        client.transport.close()
        assert await client.lost is None
        await server.ended.wait()
        server.transport.close()
        assert await server.lost is None
        await close()

    play(scenario)


def test_names_of_both_ends_fit_together(far: Play) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, Recorder)
        here = client.transport.get_extra_info("sockname")
        there = client.transport.get_extra_info("peername")
        assert server.transport.get_extra_info("peername")[1] == here[1]
        assert server.transport.get_extra_info("sockname")[1] == there[1]
        for end in (client, server):
            end.transport.close()
            await end.lost
        await close()

    far(scenario)


def test_a_half_closed_peer_still_hears_the_answer(play: Play, kind: type[AnyRecorder]) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, kind)
        assert client.transport.can_write_eof()
        client.transport.write(b"question")
        client.transport.write_eof()
        await server.ended.wait()
        assert bytes(server.received) == b"question"
        server.transport.write(b"answer")
        server.transport.close()
        await client.ended.wait()
        assert bytes(client.received) == b"answer"
        client.transport.close()
        assert await client.lost is None
        assert await server.lost is None
        assert client.events == ["made", "bytes", "eof", "lost"]
        assert server.events == ["made", "bytes", "eof", "lost"]
        await close()

    play(scenario)


def test_who_does_not_want_half_a_connection_has_it_closed(
    play: Play, kind: type[AnyRecorder]
) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, lambda: kind(keep_open=False))
        client.transport.write_eof()
        assert await server.lost is None
        assert server.transport.is_closing()
        assert await client.lost is None
        await close()

    play(scenario)


def test_close_sends_what_is_buffered(play: Play) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, Recorder)
        data = random.Random(3).randbytes(4_000_000)
        client.transport.write(data)
        client.transport.close()
        await server.ended.wait()
        assert bytes(server.received) == data
        server.transport.close()
        await asyncio.gather(client.lost, server.lost)
        await close()

    play(scenario)


def test_a_slow_reader_slows_the_writer(play: Play, kind: type[AnyRecorder]) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, kind)
        server.transport.pause_reading()
        data = random.Random(4).randbytes(16_000_000)
        sending = asyncio.create_task(client.send(data))
        await asyncio.sleep(0.2)
        assert "pause" in client.events
        assert not sending.done()
        assert not server.received
        assert client.transport.get_write_buffer_size() <= 64 * 1024 + 256 * 1024
        server.transport.resume_reading()
        assert await server.has(len(data)) == data
        await sending
        assert "resume" in client.events
        for end in (client, server):
            end.transport.close()
            await end.lost
        await close()

    play(scenario)


def test_an_aborted_connection_is_lost_with_an_error(far: Play, kind: type[AnyRecorder]) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, kind)
        client.transport.write(b"some bytes")
        await server.has(10)
        abort(client.transport)
        assert client.transport.is_closing()
        assert await client.lost is None
        assert isinstance(await server.lost, ConnectionResetError)
        assert "eof" not in server.events
        abort(client.transport)  # no harm in doing it twice
        await close()

    far(scenario)


def test_writing_to_who_has_gone_loses_the_connection(play: Play) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, Recorder)
        server.transport.close()
        await server.lost
        await client.ended.wait()
        while not client.lost.done():
            client.transport.write(b"anybody there?")
            await asyncio.sleep(0.01)
        assert isinstance(await client.lost, ConnectionError)
        await close()

    play(scenario)


def test_nobody_listens(play: Play) -> None:
    async def scenario(network: Network) -> None:
        listener = await network.listen(Recorder, HOST, 0)
        await listener.close()
        await listener.close()
        with pytest.raises(Unavailable, match=f"{HOST}:{listener.port}: Connection refused"):
            await network.connect(Recorder, HOST, listener.port, timeout_ms=TIMEOUT_MS)

    play(scenario)


def test_a_closed_port_keeps_its_connections(play: Play) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, Recorder)
        await close()
        client.transport.write(b"still here")
        await server.has(10)
        for end in (client, server):
            end.transport.close()
            await end.lost

    play(scenario)


def test_a_port_that_is_taken(play: Play) -> None:
    async def scenario(network: Network) -> None:
        first = await network.listen(Recorder, HOST, 0)
        with pytest.raises(
            Unavailable, match=f"port {first.port} on {HOST} is already in use"
        ) as caught:
            await network.listen(Recorder, HOST, first.port, flag="--ingest-port")
        assert caught.value.hint == ("is another store running? choose another with --ingest-port")
        await first.close()
        again = await network.listen(Recorder, HOST, first.port)
        await again.close()

    play(scenario)


def test_a_port_that_is_shared(play: Play) -> None:
    async def scenario(network: Network) -> None:
        first = await network.listen(Recorder, HOST, 0, reuse_port=True)
        second = await network.listen(Recorder, HOST, first.port, reuse_port=True)
        assert second.port == first.port
        with pytest.raises(Unavailable, match="in use"):
            await network.listen(Recorder, HOST, first.port)
        await first.close()
        await second.close()

    play(scenario)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_does_not_exist(play: Play, port: int) -> None:
    async def scenario(network: Network) -> None:
        with pytest.raises(Unavailable, match="no such port"):
            await network.listen(Recorder, HOST, port)
        with pytest.raises(Unavailable, match="no such port"):
            await network.connect(Recorder, HOST, port, timeout_ms=TIMEOUT_MS)

    play(scenario)


def test_an_address_of_another_machine_cannot_be_listened_on(play: Play) -> None:
    async def scenario(network: Network) -> None:
        with pytest.raises(Unavailable, match=r"192\.0\.2\.77 is not an address of this machine"):
            await network.listen(Recorder, "192.0.2.77", 5001)

    play(scenario)


def test_write_after_the_half_close_is_refused(play: Play) -> None:
    async def scenario(network: Network) -> None:
        client, server, close = await joined(network, Recorder)
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            client.transport.write(b"late")
        for end in (client, server):
            end.transport.close()
            await end.lost
        await close()

    play(scenario)
