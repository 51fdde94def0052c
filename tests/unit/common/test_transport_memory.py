"""The network in memory: what it decides by its seed, and the faults that tests ask for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import pytest

from common.errors import Unavailable
from common.transport import Listener, abort
from common.twins.lines import Weather
from common.twins.network import MemoryHost, MemoryNetwork
from tests.simulation.loop import World, run
from tests.simulation.recorder import BufferedRecorder, Recorder

T = TypeVar("T", Recorder, BufferedRecorder)

PORT = 5000


@dataclass
class Joined:
    """A client on host ``a``, a server on host ``b``."""

    network: MemoryNetwork
    client: Recorder
    server: Recorder
    listener: Listener


async def joined(network: MemoryNetwork, kind: Callable[[], Recorder] = Recorder) -> Joined:
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(kind())
        return accepted[-1]

    listener = await network.host("b").listen(accept, "b", PORT)
    client = await dial(network.host("a"), kind=kind)
    await accepted[0].made.wait()
    return Joined(network, client, accepted[0], listener)


async def dial(
    host: MemoryHost, to: str = "b", kind: Callable[[], T] = Recorder, timeout_ms: int = 1000
) -> T:
    _, client = await host.connect(kind, to, PORT, timeout_ms=timeout_ms)
    return client


# The seed


def trace(seed: int) -> list[str]:
    """Everything that two chatting hosts hear, with the moment they hear it."""
    heard: list[str] = []

    async def main(world: World) -> None:
        class Chatty(Recorder):
            def take(self, data: bytes | memoryview) -> None:
                heard.append(f"{world.loop.time():.6f} {id_of(self)} {len(data)}")
                super().take(data)

        names: dict[int, str] = {}

        def id_of(chatty: Chatty) -> str:
            return names.setdefault(id(chatty), f"n{len(names)}")

        network = MemoryNetwork(world.random)
        both = await joined(network, Chatty)
        await asyncio.gather(both.client.send(bytes(700_000)), both.server.send(bytes(300_000)))
        await asyncio.gather(both.client.has(300_000), both.server.has(700_000))
        network.cut("a", "b")
        await asyncio.gather(both.client.lost, both.server.lost)
        heard.append(f"{world.loop.time():.6f} lost")

    run(main, seed)
    return heard


def test_one_seed_gives_one_trace() -> None:
    assert trace(11) == trace(11)


def test_other_seeds_give_other_traces() -> None:
    assert len({tuple(trace(seed)) for seed in range(5)}) == 5


def test_bytes_arrive_late_and_in_pieces_of_many_sizes() -> None:
    async def main(world: World) -> list[int]:
        sizes: list[int] = []

        class Sizes(Recorder):
            def take(self, data: bytes | memoryview) -> None:
                sizes.append(len(data))
                super().take(data)

        network = MemoryNetwork(world.random, Weather(world.random, latency_us_min=500))
        both = await joined(network, Sizes)
        before = world.loop.time()
        both.client.transport.write(bytes(2_000_000))
        await both.server.has(1)
        assert world.loop.time() - before >= 0.000_5
        await both.server.has(2_000_000)
        return sizes

    sizes = run(main, seed=2)
    assert min(sizes) <= 16
    assert max(sizes) > 50_000


def test_pieces_of_several_writes_may_arrive_as_one() -> None:
    async def main(world: World) -> int:
        both = await joined(MemoryNetwork(world.random))
        pieces = 0

        def count(data: bytes) -> None:
            nonlocal pieces
            pieces += 1

        both.server.data_received = count  # type: ignore[method-assign]
        for _ in range(200):
            both.client.transport.write(b"x" * 100)
        both.client.transport.close()
        await both.server.ended.wait()
        return pieces

    assert run(main, seed=1) < 100


# Back-pressure


def test_what_is_under_way_is_bounded() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random, Weather(world.random, window_bytes=10_000))
        both = await joined(network)
        both.server.transport.pause_reading()
        assert not both.server.transport.is_reading()
        both.client.transport.set_write_buffer_limits(high=5_000)
        assert both.client.transport.get_write_buffer_limits() == (1_250, 5_000)
        both.client.transport.write(bytes(15_000))
        assert "pause" not in both.client.events
        both.client.transport.write(bytes(1))
        assert both.client.events[-1] == "pause"
        assert both.client.transport.get_write_buffer_size() == 5_001
        await asyncio.sleep(60)
        assert both.client.transport.get_write_buffer_size() == 5_001
        both.server.transport.resume_reading()
        await both.server.has(15_001)
        assert both.client.events[-1] == "resume"

    run(main, seed=1)


@pytest.mark.parametrize(("high", "low"), [(1, 2), (-1, None), (5, -1)])
def test_limits_that_make_no_sense(high: int, low: int | None) -> None:
    async def main(world: World) -> None:
        both = await joined(MemoryNetwork(world.random))
        with pytest.raises(ValueError, match="must be >="):
            both.client.transport.set_write_buffer_limits(high, low)

    run(main, seed=1)


def test_a_buffer_is_read_after_write_has_returned() -> None:
    """As on uvloop: who writes a buffer and then reuses it sends the new bytes."""

    async def main(world: World) -> bytes:
        both = await joined(MemoryNetwork(world.random))
        buffer = bytearray(b"old")
        both.client.transport.write(buffer)
        buffer[:] = b"new"
        return await both.server.has(3)

    assert run(main, seed=1) == b"new"


def test_an_empty_buffer_of_the_protocol_ends_the_connection() -> None:
    async def main(world: World) -> None:
        errors: list[BaseException] = []
        world.loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        network = MemoryNetwork(world.random)
        accepted: list[BufferedRecorder] = []

        def accept() -> BufferedRecorder:
            accepted.append(BufferedRecorder(buffer_bytes=0))
            return accepted[-1]

        await network.host("b").listen(accept, "b", PORT)
        client = await dial(network.host("a"))
        client.transport.write(b"x")
        assert isinstance(await accepted[0].lost, RuntimeError)
        assert isinstance(await client.lost, ConnectionResetError)
        assert "empty buffer" in str(errors[0])

    run(main, seed=1)


# Errors of protocols


def test_a_protocol_that_fails_is_reported_and_loses_its_connection() -> None:
    async def main(world: World) -> None:
        errors: list[dict[str, object]] = []
        world.loop.set_exception_handler(lambda _, context: errors.append(context))
        both = await joined(MemoryNetwork(world.random))
        both.server.data_received = lambda data: 1 // 0  # type: ignore[assignment,method-assign,return-value]
        both.client.transport.write(b"x")
        assert isinstance(await both.server.lost, ZeroDivisionError)
        assert isinstance(await both.client.lost, ConnectionResetError)
        assert [type(error["exception"]) for error in errors] == [ZeroDivisionError]

    run(main, seed=1)


def test_a_protocol_that_fails_when_it_is_paused_is_reported_and_lives_on() -> None:
    async def main(world: World) -> None:
        errors: list[dict[str, object]] = []
        world.loop.set_exception_handler(lambda _, context: errors.append(context))
        both = await joined(MemoryNetwork(world.random))
        both.client.pause_writing = lambda: 1 // 0  # type: ignore[assignment,method-assign,return-value]
        both.client.transport.write(bytes(1_000_000))
        await both.server.has(1_000_000)
        assert "pause_writing" in str(errors[0]["message"])

    run(main, seed=1)


# Ends


def outcomes(end: Callable[[Joined], None]) -> set[str]:
    """How the server may learn of what the client does right after writing 1 MB."""

    async def main(world: World) -> str:
        both = await joined(MemoryNetwork(world.random))
        both.client.transport.write(bytes(1_000_000))
        await asyncio.sleep(0.001)
        end(both)
        await asyncio.sleep(1)
        whole = "whole" if len(both.server.received) == 1_000_000 else "part"
        return f"{whole}, {both.server.events[-1]}"

    return {run(main, seed) for seed in range(25)}


def test_a_close_is_always_whole() -> None:
    assert outcomes(lambda both: both.client.transport.close()) == {"whole, eof"}


def test_a_bare_abort_may_look_like_an_orderly_end_of_fewer_bytes() -> None:
    assert outcomes(lambda both: both.client.transport.abort()) == {
        "part, eof",
        "part, lost ConnectionResetError",
    }


def test_our_abort_never_looks_like_an_end() -> None:
    assert outcomes(lambda both: abort(both.client.transport)) == {
        "part, lost ConnectionResetError"
    }


def test_closing_over_unread_bytes_resets_the_peer() -> None:
    async def main(world: World) -> None:
        both = await joined(MemoryNetwork(world.random))
        both.server.transport.pause_reading()
        both.client.transport.write(b"unread")
        await asyncio.sleep(1)
        both.server.transport.write(b"never mind")
        both.server.transport.close()
        assert isinstance(await both.client.lost, ConnectionResetError)

    run(main, seed=1)


def test_who_pauses_hears_of_a_reset_only_when_it_resumes() -> None:
    async def main(world: World) -> None:
        both = await joined(MemoryNetwork(world.random))
        both.server.transport.pause_reading()
        abort(both.client.transport)
        await asyncio.sleep(60)
        assert not both.server.lost.done()
        both.server.transport.resume_reading()
        assert isinstance(await both.server.lost, ConnectionResetError)

    run(main, seed=1)


def test_who_pauses_hears_of_a_reset_when_it_writes() -> None:
    async def main(world: World) -> None:
        both = await joined(MemoryNetwork(world.random))
        both.server.transport.pause_reading()
        abort(both.client.transport)
        await asyncio.sleep(1)
        both.server.transport.write(b"x")
        assert isinstance(await both.server.lost, ConnectionResetError)

    run(main, seed=1)


def test_who_waits_to_write_hears_of_a_reset_at_once() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random, Weather(world.random, window_bytes=1_000))
        both = await joined(network)
        both.server.transport.pause_reading()
        both.client.transport.pause_reading()
        both.server.transport.write(bytes(5_000))
        await asyncio.sleep(1)
        abort(both.client.transport)
        assert isinstance(await both.server.lost, ConnectionResetError)

    run(main, seed=1)


@pytest.mark.parametrize("strict", [True, False])
def test_late_writes(strict: bool) -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random, Weather(world.random, late_writes_raise=strict))
        both = await joined(network)
        both.client.transport.close()
        both.client.transport.write(b"ignored: it closes")
        await both.client.lost
        await asyncio.sleep(0)
        if strict:
            with pytest.raises(RuntimeError, match="handler is closed"):
                both.client.transport.write(b"too late")
        else:
            both.client.transport.write(b"ignored")
        await both.server.ended.wait()
        assert not both.server.received

    run(main, seed=1)


# Hosts


def test_loopback_is_the_own_host() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        await network.host("b").listen(Recorder, "127.0.0.1", PORT)
        await dial(network.host("b"), to="localhost")
        await dial(network.host("b"), to="b")
        with pytest.raises(Unavailable, match="cannot connect to b:5000: Connection refused"):
            await dial(network.host("a"))
        with pytest.raises(Unavailable, match="refused"):
            await dial(network.host("a"), to="127.0.0.1")

    run(main, seed=1)


def test_any_address_is_reached_from_everywhere() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        listener = await network.host("b").listen(Recorder, "0.0.0.0", 0)
        await network.host("a").connect(Recorder, "b", listener.port, timeout_ms=1000)
        with pytest.raises(Unavailable, match="c is not an address of this machine"):
            await network.host("b").listen(Recorder, "c", PORT)

    run(main, seed=1)


def test_each_end_calls_in_the_context_of_its_own_making() -> None:
    who: ContextVar[str] = ContextVar("who")

    async def main(world: World) -> list[str]:
        heard: list[str] = []

        class Speaker(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                heard.append(f"made by {who.get()}")
                super().connection_made(transport)

            def take(self, data: bytes | memoryview) -> None:
                heard.append(f"taken by {who.get()}")
                super().take(data)

        network = MemoryNetwork(world.random)
        who.set("server")
        accepted: list[Speaker] = []

        def accept() -> Speaker:
            accepted.append(Speaker())
            return accepted[-1]

        await network.host("b").listen(accept, "b", PORT)
        who.set("client")
        client = await dial(network.host("a"))
        client.transport.write(b"x")
        await asyncio.sleep(1)
        return heard

    assert run(main, seed=1) == ["made by server", "taken by server"]


# Faults


def test_cut_resets_one_connection_and_spares_the_others() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        other = await dial(network.host("a"))
        assert network.cut(both.server.transport) == 1
        assert isinstance(await both.client.lost, ConnectionResetError)
        assert isinstance(await both.server.lost, ConnectionResetError)
        await asyncio.sleep(1)
        assert not other.lost.done()
        assert network.connections == 1
        assert network.cut("b", "a") == 1
        assert isinstance(await other.lost, ConnectionResetError)
        assert network.cut("a", "c") == 0

    run(main, seed=1)


def test_a_partition_delays_everything_and_loses_nothing() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        both.client.transport.write(b"before ")
        network.partition("a", "b")
        network.partition("b", "a")
        assert network.is_partitioned("b", "a")
        both.client.transport.write(b"during")
        both.client.transport.close()
        await asyncio.sleep(600)
        assert not both.server.received
        with pytest.raises(Unavailable, match="no answer within 250 ms"):
            await dial(network.host("a"), timeout_ms=250)
        network.heal()
        await both.server.ended.wait()
        assert bytes(both.server.received) == b"before during"
        await dial(network.host("a"))

    run(main, seed=1)


def test_a_connect_that_waits_for_the_heal() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        await joined(network)
        network.partition("a", "b")
        connecting = asyncio.create_task(dial(network.host("a"), timeout_ms=10_000))
        await asyncio.sleep(5)
        network.heal()
        await connecting

    run(main, seed=1)


def test_a_partition_between_others_changes_nothing() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        network.partition("a", "c")
        both = await joined(network)
        both.client.transport.write(b"x")
        await both.server.has(1)

    run(main, seed=1)


def test_a_one_way_partition_holds_back_what_one_side_sends() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        network.partition("a", "b", one_way=True)
        assert network.is_partitioned("a", "b")
        assert not network.is_partitioned("b", "a")
        both.client.transport.write(b"unheard")
        both.server.transport.write(b"heard")
        await both.client.has(5)
        await asyncio.sleep(600)
        assert not both.server.received
        with pytest.raises(Unavailable, match="no answer within 250 ms"):
            await dial(network.host("a"), timeout_ms=250)
        network.heal()
        await both.server.has(7)

    run(main, seed=1)


def test_answers_that_are_held_back_do_not_hide_a_connection_from_the_listener() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        await joined(network)
        network.partition("b", "a", one_way=True)
        with pytest.raises(Unavailable, match="no answer within 250 ms"):
            await dial(network.host("a"), timeout_ms=250)

    run(main, seed=1)


def test_a_stalled_connection_delivers_behind_a_newer_one() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        assert network.stall("b", "a") == 1
        assert network.stall("a", "c") == 0
        both.client.transport.write(b"late")
        await dial(network.host("a"))
        await asyncio.sleep(60)
        assert not both.server.received
        network.heal()
        await both.server.has(4)

    run(main, seed=1)


def test_one_direction_may_be_slow() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        network.slow_down("a", "b", 5.0)
        began = world.loop.time()
        both.client.transport.write(b"slow")
        both.server.transport.write(b"fast")
        await both.client.has(4)
        assert world.loop.time() - began < 1
        await both.server.has(4)
        assert world.loop.time() - began >= 5
        network.heal()
        both.client.transport.write(b"again")
        await both.server.has(9)
        assert world.loop.time() - began < 6

    run(main, seed=1)


def test_a_crash_is_silent_at_home_and_a_reset_abroad() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        old = network.host("b")
        events = list(both.server.events)
        network.crash("b")
        assert isinstance(await both.client.lost, ConnectionResetError)
        await asyncio.sleep(1)
        assert both.server.events == events
        assert both.server.transport.is_closing()
        both.server.transport.write(b"from beyond")
        both.server.transport.close()
        abort(both.server.transport)
        assert network.connections == 0
        with pytest.raises(Unavailable, match="refused"):
            await dial(network.host("a"))
        with pytest.raises(Unavailable):
            await old.connect(Recorder, "a", PORT, timeout_ms=1000)
        with pytest.raises(Unavailable):
            await old.listen(Recorder, "b", PORT)
        await network.host("b").listen(Recorder, "b", PORT)
        await dial(network.host("a"))

    run(main, seed=1)


def test_a_crash_of_a_host_that_was_never_there() -> None:
    async def main(world: World) -> None:
        network = MemoryNetwork(world.random)
        both = await joined(network)
        network.crash("nobody")
        both.client.transport.write(b"x")
        await both.server.has(1)

    run(main, seed=1)


def test_a_connect_that_is_given_up_leaves_nothing_open() -> None:
    async def main(world: World) -> bool:
        network = MemoryNetwork(world.random)
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        await network.host("b").listen(accept, "b", PORT)
        connecting = asyncio.create_task(dial(network.host("a")))
        await asyncio.sleep(world.random.uniform(0, 0.004))
        connecting.cancel()
        try:
            client = await connecting
        except asyncio.CancelledError:
            pass
        else:
            client.transport.close()
            accepted[0].transport.close()
        await asyncio.sleep(1)
        assert network.connections == 0
        return bool(accepted) and "lost ConnectionResetError" in accepted[0].events

    assert {run(main, seed) for seed in range(30)} == {True, False}


def test_it_works_on_a_loop_of_the_real_world() -> None:
    async def main() -> None:
        both = await joined(MemoryNetwork(random.Random(1)))
        await both.client.send(bytes(100_000))
        await both.server.has(100_000)
        both.client.transport.close()
        both.server.transport.close()
        await asyncio.gather(both.client.lost, both.server.lost)

    asyncio.run(main())
