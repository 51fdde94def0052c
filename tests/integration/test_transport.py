"""What only real sockets can show; the rest is in the contract suite of the transport."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop

from common.buffers import BufferPool
from common.errors import Unavailable
from common.transport import KEEPALIVE_IDLE_S, TcpNetwork, _tune, abort, address, reason
from tests.simulation.recorder import Recorder

HOST = "127.0.0.1"


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uv"])
def runner(request: pytest.FixtureRequest) -> Callable[..., object]:
    def go(scenario: Callable[[TcpNetwork], object]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await scenario(TcpNetwork())  # type: ignore[misc]

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(bounded())

    return go


async def both_ends(network: TcpNetwork) -> tuple[Recorder, Recorder]:
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    listener = await network.listen(accept, HOST, 0)
    _, client = await network.connect(Recorder, HOST, listener.port, timeout_ms=5_000)
    while not accepted:
        await asyncio.sleep(0.001)
    await accepted[0].made.wait()
    await listener.close()
    return client, accepted[0]


def test_both_ends_send_at_once_and_watch_each_other(runner: Callable[..., None]) -> None:
    async def scenario(network: TcpNetwork) -> None:
        for end in await both_ends(network):
            sock = end.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                idle_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                assert idle_s == KEEPALIVE_IDLE_S
            end.transport.close()
            await end.lost

    runner(scenario)


def test_abort_forgets_what_is_buffered(runner: Callable[..., None]) -> None:
    async def scenario(network: TcpNetwork) -> None:
        client, server = await both_ends(network)
        server.transport.pause_reading()
        client.transport.write(bytes(32_000_000))
        assert client.transport.get_write_buffer_size()
        abort(client.transport)
        assert await client.lost is None
        server.transport.resume_reading()
        assert isinstance(await server.lost, ConnectionResetError)
        assert "eof" not in server.events
        assert len(server.received) < 32_000_000

    runner(scenario)


@pytest.mark.parametrize("ahead", [0, 10, 5_000_000])
def test_a_buffer_is_used_again_once_no_transport_holds_it(
    runner: Callable[..., None], ahead: int
) -> None:
    """Written as a session does it, and given back while it is queued: it is sent as it was."""

    async def scenario(network: TcpNetwork) -> None:
        client, server = await both_ends(network)
        server.transport.pause_reading()
        pool = BufferPool()
        client.transport.write(bytes(ahead))
        buffers = [pool.take(size) for size in (3_000_000, 20_000)]
        for buffer in buffers:
            buffer[:] = b"a" * len(buffer)
            client.transport.writelines([b"", memoryview(buffer)])
        await asyncio.sleep(0.05)
        for buffer in buffers:
            pool.give(buffer)
        for size in (3_000_000, 20_000) * 3:
            pool.take(size)[:] = bytes(size)
        server.transport.resume_reading()
        assert await server.has(ahead + 3_020_000) == bytes(ahead) + b"a" * 3_020_000

        # One that nobody holds any more is kept, beside what came back of the others.
        buffer = pool.take(4_000_000)
        client.transport.writelines([b"", memoryview(buffer)])
        await server.has(ahead + 7_020_000)
        await asyncio.sleep(0.01)
        before = pool.kept_bytes
        pool.give(buffer)
        assert pool.kept_bytes == before + (1 << 22)
        for each in (client, server):
            each.transport.close()
        for each in (client, server):
            assert await each.lost is None

    runner(scenario)


def test_abort_of_what_was_lost_to_the_peer(runner: Callable[..., None]) -> None:
    async def scenario(network: TcpNetwork) -> None:
        client, server = await both_ends(network)
        abort(server.transport)
        await client.lost
        abort(client.transport)
        await asyncio.sleep(0.01)
        abort(client.transport)
        abort(server.transport)

    runner(scenario)


def test_nobody_answers(runner: Callable[..., None]) -> None:
    """A port whose queue of connections is full stays silent, as a dead machine would."""

    async def scenario(network: TcpNetwork) -> None:
        with socket.socket() as full:
            full.bind((HOST, 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = []
            try:
                for _ in range(4):
                    waiting.append(socket.socket())
                    waiting[-1].setblocking(False)
                    waiting[-1].connect_ex((HOST, port))
                with pytest.raises(Unavailable) as caught:
                    await network.connect(Recorder, HOST, port, timeout_ms=150)
            finally:
                for each in waiting:
                    each.close()
        assert str(caught.value) == f"cannot connect to {HOST}:{port}: no answer within 150 ms"

    runner(scenario)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300])
def test_names_that_nobody_has(runner: Callable[..., None], host: str) -> None:
    async def scenario(network: TcpNetwork) -> None:
        with pytest.raises(Unavailable, match="cannot connect to"):
            await network.connect(Recorder, host, 5000, timeout_ms=10_000)
        with pytest.raises(Unavailable):
            await network.listen(Recorder, host, 0)

    runner(scenario)


def test_a_failing_factory_is_not_mistaken_for_the_network(runner: Callable[..., None]) -> None:
    async def scenario(network: TcpNetwork) -> None:
        def broken() -> asyncio.Protocol:
            raise ValueError("a bug of ours")

        with pytest.raises(ValueError, match="a bug of ours"):
            await network.connect(broken, HOST, 5000, timeout_ms=1_000)

    runner(scenario)


def test_a_connect_that_is_cancelled_leaves_no_socket(runner: Callable[..., None]) -> None:
    async def scenario(network: TcpNetwork) -> None:
        listener = await network.listen(lambda: Recorder(keep_open=False), HOST, 0)
        for turns in range(8):
            task = asyncio.create_task(
                network.connect(Recorder, HOST, listener.port, timeout_ms=5_000)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task])
            assert task in done
            if not task.cancelled():
                task.result()[0].close()
        await asyncio.sleep(0.05)
        await listener.close()

    runner(scenario)


def test_a_reset_from_outside_is_a_reset_inside(runner: Callable[..., None]) -> None:
    async def scenario(network: TcpNetwork) -> None:
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        listener = await network.listen(accept, HOST, 0)
        outside = socket.create_connection((HOST, listener.port))
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while not accepted:
            await asyncio.sleep(0.001)
        outside.close()
        assert isinstance(await accepted[0].lost, ConnectionResetError)
        await listener.close()

    runner(scenario)


def test_a_connection_that_is_gone_cannot_be_tuned_and_that_is_no_error(
    runner: Callable[..., None],
) -> None:
    """Its protocol hears of the loss; whoever connects must not hear of it in a second way."""

    async def scenario(network: TcpNetwork) -> None:
        listener = await network.listen(Recorder, HOST, 0)
        transport, client = await network.connect(Recorder, HOST, listener.port, timeout_ms=5_000)
        sock = transport.get_extra_info("socket")
        _tune(sock)
        abort(transport)
        await client.lost
        await asyncio.sleep(0)
        with pytest.raises((OSError, ValueError)):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _tune(sock)
        await listener.close()

    runner(scenario)


def test_addresses_as_people_write_them() -> None:
    assert address("127.0.0.1", 5001) == "127.0.0.1:5001"
    assert address("::1", 5001) == "[::1]:5001"


def test_reasons_in_words() -> None:
    assert reason(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")) == (
        "Connection refused"
    )
    assert reason(socket.gaierror(-2, "Name or service not known")) == "Name or service not known"
    assert reason(OSError("Multiple exceptions: …")) == "Multiple exceptions: …"
    assert reason(ValueError()) == "ValueError"
