"""The way of a read: verified bytes of some replica, or an error; never a wrong byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from common.checksum import ObjectHash
from common.errors import IntegrityError, NodesUnavailable, NotFound, PutterError
from common.limits import MIB, READER_LEASE_MS
from common.records import Version
from tests.node_kit import play, until
from tests.router_kit import FRAME, Store, metric, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store, Version, bytes], Awaitable[None]]
SIZE = 100_000


def with_file(scene: Scene, size: int = SIZE, putters: int = 2, **options: Any) -> None:
    """A store of some putters and a file in it."""

    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        data = payload(size)
        written = await store.write(data)
        await scene(store, written.version, data)
        for router in store.routers:
            assert router.reads.held_bytes == 0, "memory of every read came back"
        await store.stop()

    play(main)


class TestBytes:
    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0, 1),
            (FRAME - 1, FRAME + 1),
            (FRAME, 2 * FRAME),
            (5_000, 60_000),
            (SIZE - 1, SIZE),
            (0, SIZE - 1),
            (1, SIZE),
        ],
    )
    def test_a_range(self, start: int, end: int) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.read(start=start, end=end) == data[start:end]
            served = metric(store.router.metrics, "putter_served_bytes_total")
            assert served == end - start

        with_file(scene)

    def test_a_range_touches_only_its_frames(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            far = tickets_of(version)[40:]
            for putter in store.putters:
                putter.engine.free([(ticket, 1) for ticket in far])
            assert await store.read(start=10, end=2 * FRAME) == data[10 : 2 * FRAME]
            with pytest.raises(NotFound):
                await store.read()

        with_file(scene)

    def test_a_large_file_comes_in_pieces_of_about_a_run(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            sizes = []
            position = 0
            async for piece in store.router.reads.stream(version, 0, version.size):
                assert piece == data[position : position + len(piece)]
                position += len(piece)
                sizes.append(len(piece))
            assert position == len(data)
            assert max(sizes) <= MIB
            assert len(sizes) < 12

        with_file(scene, 9 * MIB)

    def test_a_name_that_holds_nothing(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            with pytest.raises(NotFound, match="photos/dog"):
                await store.read("dog")
            with pytest.raises(NotFound):
                await store.read("cat", bucket="elsewhere")

        with_file(scene)

    def test_the_least_busy_replica_is_asked_first(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for n, putter in enumerate(store.putters):
                link = store.router.fleet.link(putter.name)
                assert link is not None
                link._inflight_bytes = 1000 if n == 0 else 0
                putter.engine.log.clear()
            await store.read()
            assert "read" not in store.putters[0].engine.log
            assert "read" in store.putters[1].engine.log
            for putter in store.putters:
                link = store.router.fleet.link(putter.name)
                assert link is not None
                link._inflight_bytes = 0

        with_file(scene)


class TestReplicas:
    @pytest.mark.parametrize("victim", [0, 1])
    def test_one_that_is_away_is_not_needed(self, victim: int) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            await store.putters[victim].crash()
            assert await store.read() == data, "the link may not have noticed yet"
            await until(lambda: len(store.router.fleet.up()) == 1)
            assert await store.read() == data

        with_file(scene)

    @pytest.mark.parametrize("victim", [0, 1])
    @pytest.mark.parametrize("harm", ["rot", "loss"])
    def test_one_that_is_bad_is_passed_over(self, victim: int, harm: str) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for ticket in tickets_of(version)[3:60:7]:
                if harm == "rot":
                    store.putters[victim].rot(ticket)
                else:
                    store.putters[victim].engine.free([(ticket, 1)])
            for _ in range(4):
                assert await store.read() == data

        with_file(scene)

    @pytest.mark.parametrize("harm", ["rot", "loss"])
    def test_what_each_of_them_lacks_may_be_at_the_other(self, harm: str) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            tickets = tickets_of(version)
            for n, ticket in enumerate(tickets):
                if n % 3 < 2:
                    victim = store.putters[n % 3]
                    if harm == "rot":
                        victim.rot(ticket)
                    else:
                        victim.engine.free([(ticket, 1)])
            assert await store.read() == data
            assert await store.read(start=FRAME + 5, end=40_000) == data[FRAME + 5 : 40_000]

        with_file(scene)

    def test_bytes_that_are_wrong_everywhere_are_never_served(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            ticket = tickets_of(version)[20]
            for putter in store.putters:
                putter.rot(ticket)
            with pytest.raises(IntegrityError):
                await store.read()
            with pytest.raises(IntegrityError):
                await store.read(start=20 * FRAME + 100, end=20 * FRAME + 101)
            assert await store.read(start=0, end=20 * FRAME) == data[: 20 * FRAME]

        with_file(scene)

    def test_bytes_that_are_gone_everywhere(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for putter in store.putters:
                putter.engine.free([(tickets_of(version)[-1], 1)])
            with pytest.raises(NotFound):
                await store.read()

        with_file(scene)

    def test_while_a_replica_is_away_a_bad_one_is_no_verdict(self) -> None:
        """The one that cannot be asked may still be right: try again, not: it is lost."""

        async def scene(store: Store, version: Version, data: bytes) -> None:
            store.putters[0].rot(tickets_of(version)[5])
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            with pytest.raises(NodesUnavailable, match="p0, p1"):
                await store.read()
            await store.putters[1].start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            assert await store.read() == data

        with_file(scene)

    def test_all_away(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for putter in store.putters:
                await putter.crash()
            with pytest.raises(NodesUnavailable) as caught:
                await store.read()
            assert caught.value.http == 503

        with_file(scene)

    def test_one_that_says_nothing_is_not_waited_for_for_ever(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            store.network.partition("r0", "p0")
            began = store.world.loop.time()
            assert await store.read() == data
            assert store.world.loop.time() - began < 40
            store.network.heal()

        with_file(scene)

    def test_a_record_that_does_not_fit_its_bytes(self) -> None:
        """Every frame is right, and they are not this object."""

        async def scene(store: Store, version: Version, data: bytes) -> None:
            [stored] = version.objects
            wrong = msgspec.structs.replace(stored, blake3=bytes(32))
            lie = msgspec.structs.replace(version, objects=(wrong,))
            got = bytearray()

            async def read_on() -> None:
                async for piece in store.router.reads.stream(lie, 0, lie.size):
                    got.extend(piece)

            with pytest.raises(IntegrityError, match="BLAKE3"):
                await read_on()
            assert len(got) < len(data), "the reader never sees the end"

        with_file(scene, 3 * MIB)

    def test_a_record_that_changed_is_held_to_its_bytes_again(self) -> None:
        """That an object was read whole once says nothing of another description of it."""

        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.read() == data
            assert await store.read() == data
            [stored] = version.objects
            wrong = msgspec.structs.replace(stored, blake3=bytes(32))
            lie = msgspec.structs.replace(version, objects=(wrong,))
            with pytest.raises(IntegrityError, match="BLAKE3"):
                await store.read_version(lie)

        with_file(scene, 3 * MIB)

    def test_a_large_file_is_hashed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            made: list[int] = []

            class Counted(ObjectHash):
                def __init__(self) -> None:
                    super().__init__()
                    made.append(1)

            monkeypatch.setattr("router.reads.ObjectHash", Counted)
            for _ in range(3):
                assert await store.read() == data
            assert len(made) == 1

        with_file(scene, 3 * MIB)

    def test_tickets_of_somebody_else(self) -> None:
        """A record whose extents point elsewhere does not give another file's bytes."""

        async def scene(store: Store, version: Version, data: bytes) -> None:
            other = await store.write(payload(SIZE, "other"), "dog")
            [stored] = version.objects
            [foreign] = other.version.objects
            lie = msgspec.structs.replace(
                version, objects=(msgspec.structs.replace(stored, extents=foreign.extents),)
            )
            with pytest.raises(IntegrityError):
                await store.read_version(lie)

        with_file(scene)


class TestMemory:
    def test_slow_readers_hold_a_frame_each_once_memory_is_short(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("router.reads.READS_PENDING_BYTES_MAX", 3 * MIB)

        async def scene(store: Store, version: Version, data: bytes) -> None:
            reads = store.router.reads
            slow = [reads.stream(version, 0, version.size) for _ in range(60)]
            firsts = [await anext(each) for each in slow]
            await until(lambda: reads.held_bytes <= 3 * MIB + 5 * MIB + len(slow) * FRAME)
            assert len(firsts[-1]) == FRAME
            quick = await store.read()
            assert quick == data, "others are served all the same"
            for each in slow[1:]:
                await each.aclose()
            await until(lambda: reads.held_bytes <= 5 * MIB)
            rest = b"".join([bytes(piece) async for piece in slow[0]])
            assert len(rest) in range(len(data) - MIB, len(data))

        with_file(scene, 6 * MIB + 7)

    def test_a_read_that_fails_holds_nothing(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for putter in store.putters:
                putter.rot(tickets_of(version)[-1])
            with pytest.raises(IntegrityError):
                await store.read()
            assert store.router.reads.held_bytes == 0

        for size in (SIZE, 5 * MIB):
            with_file(scene, size)

    def test_a_reader_that_goes_away_in_the_middle_holds_nothing(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            reading = store.router.reads.stream(version, 0, version.size)
            await anext(reading)
            assert store.router.reads.held_bytes > 0
            await reading.aclose()
            assert store.router.reads.held_bytes == 0

        with_file(scene, 9 * MIB)


class TestHolding:
    def test_a_long_read_keeps_its_bytes_from_being_freed(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            pieces = store.router.reads.stream(version, 0, version.size)
            got = bytearray(await anext(pieces))
            assert await store.router.writes.delete("photos", "cat")
            await asyncio.sleep(3 * READER_LEASE_MS / 1000)
            await store.clean()
            assert all(p.tickets for p in store.putters)
            async for piece in pieces:
                got += piece
            assert bytes(got) == data
            await store.clean()
            assert not any(p.tickets for p in store.putters)

        with_file(scene, 12 * MIB)

    def test_a_reader_that_goes_away_lets_go(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            pieces = store.router.reads.stream(version, 0, version.size)
            await anext(pieces)
            await pieces.aclose()
            assert await store.router.writes.delete("photos", "cat")
            await store.clean()
            assert not any(p.tickets for p in store.putters)

        with_file(scene, 12 * MIB)

    def test_what_was_freed_cannot_be_held(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.router.writes.delete("photos", "cat")
            await store.clean()
            with pytest.raises(NotFound, match="deleted meanwhile"):
                await store.read_version(version)

        with_file(scene, 12 * MIB)

    def test_a_short_read_of_what_was_freed_meanwhile(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.router.writes.delete("photos", "cat")
            assert await store.read_version(version) == data, "grace"
            await store.clean()
            with pytest.raises(PutterError):
                await store.read_version(version)

        with_file(scene)
