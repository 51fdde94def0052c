"""The door on 5001: bytes in, one line back, whatever the client does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.callers import CallerLimits
from common.checksum import object_digest
from common.errors import NoSpace, PutterError
from common.limits import LEAVING_MAX, MIB
from common.logs import add_request_id
from router.ingest import failure_line
from tests.node_kit import Wire, play, until
from tests.router_kit import FRAME, INGEST, Store, metric, payload
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        path = store.router.writes
        await until(lambda: path.writing == 0, 60)
        assert path.pending_bytes == 0, "memory of every stream came back"
        await store.stop()

    play(main)


class Stubborn(Wire):
    """Goes on sending when the other side has said all it has to say."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True


async def connect(store: Store) -> Wire:
    return await Wire.open(store.network.host("client"), "r0", INGEST)


async def names(store: Store) -> set[str]:
    page = await store.meta.files.list("objects", "", "", 1000)
    return {entry.key for entry in page.entries}


def connections(store: Store) -> float:
    return metric(store.router.metrics, "putter_connections", port="ingest")


def object_of(line: bytes, data: bytes) -> str:
    """The ObjectID of an answer, which has to be the one line of a success."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    word = line.decode().split()
    assert word[:3] == ["OBJECT", "WRITTEN", "OK"], line
    assert word[4:] == [str(len(data)), object_digest(data).hex()]
    return word[3]


def failure_of(line: bytes) -> str:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.startswith(b"OBJECT WRITE FAILED "), line
    return line.decode().split()[3]


class TestStoring:
    @pytest.mark.parametrize("size", [1, FRAME, FRAME + 1, 16_384, 16_385, 200_000, 2 * MIB + 5])
    def test_a_stream_becomes_a_file_named_after_its_object(self, size: int) -> None:
        data = payload(size)

        async def scene(store: Store) -> None:
            wire = await connect(store)
            object_id = object_of(await wire.send(data).finish().all(), data)
            assert await store.read(object_id, bucket="objects") == data
            assert await names(store) == {object_id}
            await wire.lost.wait()
            assert wire.error is None
            ingested = metric(store.router.metrics, "putter_ingest_bytes_total", port="ingest")
            assert ingested == size
            await until(lambda: connections(store) == 0)

        with_store(scene)

    def test_byte_by_byte(self) -> None:
        data = payload(300)

        async def scene(store: Store) -> None:
            wire = await connect(store)
            for byte in data:
                wire.send(bytes([byte]))
                await asyncio.sleep(0.001)
            object_of(await wire.finish().all(), data)

        with_store(scene)

    def test_many_at_once(self) -> None:
        async def scene(store: Store) -> None:
            async def one(n: int) -> tuple[str, bytes]:
                data = payload(1 + n * 997, n)
                wire = await connect(store)
                return object_of(await wire.send(data).finish().all(), data), data

            stored = await asyncio.gather(*(one(n) for n in range(60)))
            assert await names(store) == {object_id for object_id, _ in stored}
            for object_id, data in stored:
                assert await store.read(object_id, bucket="objects") == data

        with_store(scene)

    @pytest.mark.slow
    def test_a_slow_disk_slows_the_client(self) -> None:
        """What waits in the router is bounded, however much the client would send."""

        async def scene(store: Store) -> None:
            for putter in store.putters:
                store.network.partition("r0", putter.name)
            wire = await connect(store)
            data = payload(26 * MIB)
            wire.send(data)
            await asyncio.sleep(5)
            assert wire.transport.get_write_buffer_size() > 6 * MIB
            store.network.heal()
            object_of(await wire.finish().all(), data)

        with_store(scene, 1, frame_bytes=MIB)


class TestNotStoring:
    def test_no_byte_at_all(self) -> None:
        async def scene(store: Store) -> None:
            wire = await connect(store)
            assert failure_of(await wire.finish().all()) == "empty"
            assert await names(store) == set()

        with_store(scene)

    @pytest.mark.parametrize("size", [0, 10, 100_000, 3 * MIB])
    def test_a_reset_leaves_nothing(self, size: int) -> None:
        async def scene(store: Store) -> None:
            wire = await connect(store)
            wire.send(payload(size))
            await asyncio.sleep(0.5)
            wire.reset()
            await until(lambda: connections(store) == 0)
            await asyncio.sleep(1)
            assert await names(store) == set()
            await store.clean()
            assert not any(p.tickets for p in store.putters)

        with_store(scene)

    def test_one_that_was_complete_is_stored_though_its_client_is_gone(self) -> None:
        data = payload(100_000)

        async def scene(store: Store) -> None:
            wire = await connect(store)
            wire.send(data).finish()
            connection = None

            def complete() -> bool:
                nonlocal connection
                connection = next(iter(store.router._ingest.served.all()), connection)
                return connection is not None and connection._ended

            await until(complete)
            wire.reset()
            await asyncio.sleep(2)
            [name] = await names(store)
            assert await store.read(name, bucket="objects") == data

        with_store(scene, weather={"latency_us_min": 2_000, "latency_us_max": 9_000})

    @pytest.mark.parametrize("sent", [0, 10, 3 * MIB])
    def test_silence_past_the_limit(self, sent: int) -> None:
        async def scene(store: Store) -> None:
            wire = await connect(store)
            if sent:
                wire.send(payload(sent))
            began = store.world.loop.time()
            line = await wire.all()
            assert failure_of(line) == "idle"
            assert b"half-close" in line
            assert 1.9 < store.world.loop.time() - began < 3
            refused = metric(
                store.router.metrics, "putter_refused_total", port="ingest", reason="idle"
            )
            assert refused == 1
            await store.clean()
            assert await names(store) == set()
            assert not any(p.tickets for p in store.putters)

        with_store(scene, idle_ms=2_000)

    def test_slow_is_not_silent(self) -> None:
        data = payload(20)

        async def scene(store: Store) -> None:
            wire = await connect(store)
            for byte in data:
                wire.send(bytes([byte]))
                await asyncio.sleep(1.5)
            object_of(await wire.finish().all(), data)

        with_store(scene, idle_ms=2_000)

    @pytest.mark.slow
    def test_waiting_for_a_slow_store_is_not_silence_of_the_client(self) -> None:
        data = payload(25 * MIB)

        async def scene(store: Store) -> None:
            store.network.partition("r0", "p0")
            wire = await connect(store)
            wire.send(data)
            await asyncio.sleep(8)
            assert not wire.ended.is_set()
            store.network.heal()
            object_of(await wire.finish().all(), data)

        with_store(scene, 1, idle_ms=2_000, frame_bytes=MIB)

    def test_a_client_that_still_sends_hears_why(self) -> None:
        """Closing under its bytes would reset the connection, and the answer would be lost."""

        async def scene(store: Store) -> None:
            for putter in store.putters:
                putter.engine.fail["put"] = NoSpace("the disk is full")
            wire = await connect(store)
            for _ in range(200):
                if wire.ended.is_set():
                    break
                wire.send(payload(100_000))
                await asyncio.sleep(0.01)
            assert failure_of(bytes(wire.received)) == "no-space"
            wire.transport.close()
            await until(lambda: connections(store) == 0, 10)

        with_store(scene)

    def test_one_that_does_not_stop_sending_is_cut_off(self) -> None:
        async def scene(store: Store) -> None:
            for putter in store.putters:
                putter.engine.fail["put"] = NoSpace("the disk is full")
            wire = await Stubborn.open(store.network.host("client"), "r0", INGEST)
            began = store.world.loop.time()
            while not wire.lost.is_set():
                wire.send(payload(50_000))
                await asyncio.sleep(0.01)
                assert store.world.loop.time() - began < 10
            assert failure_of(bytes(wire.received)) == "no-space"
            assert store.world.loop.time() - began > 1, "there was time to read the answer"
            await until(lambda: connections(store) == 0)

        with_store(scene)

    def test_without_putters(self) -> None:
        async def scene(store: Store) -> None:
            wire = await connect(store)
            assert failure_of(await wire.send(b"x").finish().all()) == "no-putters"

        with_store(scene, 0, write_timeout_ms=1_000)

    def test_while_redis_is_away(self) -> None:
        async def scene(store: Store) -> None:
            store.meta.down = True
            for size in (10, 100_000):
                wire = await connect(store)
                assert failure_of(await wire.send(payload(size)).finish().all()) == "redis"
            store.meta.down = False

        with_store(scene)


class TestTheDoor:
    def test_too_many_are_told_so(self) -> None:
        async def scene(store: Store) -> None:
            wires = [await connect(store) for _ in range(3)]
            await until(lambda: connections(store) == 3)
            late = await connect(store)
            line = await late.send(b"x").finish().all()
            assert failure_of(line) == "connections"
            assert b"serves 3 connections at a time" in line
            object_of(await wires[0].send(b"abc").finish().all(), b"abc")
            await until(lambda: connections(store) == 2)
            again = await connect(store)
            object_of(await again.send(b"abcd").finish().all(), b"abcd")
            for wire in wires:
                wire.transport.close()

        with_store(scene, callers=CallerLimits(3))

    def test_one_address_may_not_take_all_places(self) -> None:
        async def scene(store: Store) -> None:
            wires = [await connect(store) for _ in range(2)]
            await until(lambda: connections(store) == 2)
            late = await connect(store)
            line = await late.send(b"x").finish().all()
            assert failure_of(line) == "connections"
            assert b"connections_per_address" in line
            neighbour = await Wire.open(store.network.host("other"), "r0", INGEST)
            object_of(await neighbour.send(b"abc").finish().all(), b"abc")
            refused = metric(
                store.router.metrics, "putter_refused_total", port="ingest", reason="address"
            )
            assert refused == 1
            for wire in wires:
                wire.transport.close()

        with_store(scene, callers=CallerLimits(100, 2))

    def test_many_that_are_turned_away_do_not_stay(self) -> None:
        async def scene(store: Store) -> None:
            held = [await connect(store) for _ in range(2)]
            await until(lambda: connections(store) == 2)
            network, leaving = store.network.host("client"), store.router._ingest.served.leaving
            late = [await Stubborn.open(network, "r0", INGEST) for _ in range(2 * LEAVING_MAX)]
            await until(lambda: all(wire.ended.is_set() for wire in late))
            assert 0 < len(leaving) <= LEAVING_MAX
            assert all(failure_of(bytes(wire.received)) == "connections" for wire in late)
            await until(lambda: len(leaving) == 0, 10)
            assert connections(store) == 2
            for wire in held + late:
                wire.transport.close()

        with_store(scene, callers=CallerLimits(2))

    def test_idle_connections_cost_no_memory_of_the_budget(self) -> None:
        async def scene(store: Store) -> None:
            wires = [await connect(store) for _ in range(200)]
            await until(lambda: connections(store) == 200)
            assert store.router.writes.pending_bytes == 0
            data = payload(100_000)
            wire = await connect(store)
            object_of(await wire.send(data).finish().all(), data)
            for each in wires:
                each.transport.close()
            await until(lambda: connections(store) == 0)

        with_store(scene)

    def test_stopping_tells_those_that_are_not_done(self) -> None:
        async def scene(store: Store) -> None:
            idle, busy = await connect(store), await connect(store)
            busy.send(payload(2 * MIB))
            await until(lambda: store.router.writes.writing == 1)
            router = store.routers.pop()
            await router.stop()
            assert failure_of(await busy.all()) == "shutting-down"
            await idle.lost.wait()
            assert idle.received == b""
            store.routers.append(router)

        with_store(scene)

    def test_a_stream_that_ends_in_time_is_stored_while_stopping(self) -> None:
        async def scene(store: Store) -> None:
            data = payload(2 * MIB)
            wire = await connect(store)
            wire.send(data[:-1])
            await until(lambda: store.router.writes.writing == 1)
            router = store.routers.pop()
            stopping = asyncio.create_task(router.stop())
            await asyncio.sleep(1)
            object_of(await wire.send(data[-1:]).finish().all(), data)
            await stopping
            store.routers.append(router)

        with_store(scene)


@pytest.mark.parametrize(
    ("message", "hint"),
    [("plain", ""), ("two\nlines", "and\r\na hint"), ("", ""), ("tabs\t\x0b\x0c", "\n")],
)
def test_a_failure_is_always_one_line(message: str, hint: str) -> None:
    line = failure_line(PutterError(message, hint=hint))
    assert failure_of(line) == "error"
    assert b"\r" not in line
    assert line.decode().strip().splitlines() == [line.decode().strip()]


class TestRequestIds:
    """Each stream has one, also where many are stored together."""

    @pytest.mark.parametrize("size", [100, 50_000])
    def test_each_failure_is_logged_with_its_own(self, size: int) -> None:
        async def scene(store: Store) -> None:
            first = await connect(store)
            object_of(await first.send(b"x").finish().all(), b"x")
            for putter in store.putters:
                putter.engine.fail["put"] = NoSpace("full")
            with capture_logs(processors=[add_request_id]) as lines:
                wires = [await connect(store) for _ in range(8)]
                answers = [wire.send(payload(size, n)).finish() for n, wire in enumerate(wires)]
                assert all([failure_of(await wire.all()) for wire in answers])
            failed = [line for line in lines if line["event"] == "object failed"]
            assert len({line["request_id"] for line in failed}) == len(wires)
            assert all(line["request_id"] for line in failed)
            together = [line for line in lines if "travels again" in line["event"]]
            assert bool(together) == (size == 100)
            refused = [line for line in lines if line["event"].startswith("nothing of this group")]
            assert refused, "the putters name them, too"
            for line in (*together, *refused):
                assert {*line["requests"]} <= {each["request_id"] for each in failed}

        with_store(scene, write_timeout_ms=3_000)

    def test_each_success_of_a_group_is_logged_with_its_own(self) -> None:
        async def scene(store: Store) -> None:
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1, 60)
            with capture_logs(processors=[add_request_id]) as lines:
                wires = [await connect(store) for _ in range(8)]
                answers = [wire.send(payload(100, n)).finish() for n, wire in enumerate(wires)]
                for n, wire in enumerate(answers):
                    object_of(await wire.all(), payload(100, n))
            told = [line for line in lines if line["event"].startswith("written on fewer")]
            assert len({line["request_id"] for line in told} - {""}) == len(told) == len(wires)
            assert len({line["name"] for line in told}) == len(wires)

        with_store(scene)
