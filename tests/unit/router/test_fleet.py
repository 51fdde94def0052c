"""All putters together: who is there, where to put, and several links to one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from common.errors import NodesUnavailable
from common.limits import GIB, MEMBER_LOST_MS, MIB, ROOM_GAINED_BYTES
from common.meta.interface import Member, Seen
from router.blocks import ChunkSource
from router.fleet import Fleet
from router.quorum import Policy
from router.targets import Target, Written
from tests.node_kit import play, until
from tests.router_kit import SESSIONS, SimPutter, Store, payload
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        await store.stop()

    play(main)


class TestWhoIsThere:
    def test_members_are_connected_and_shown(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            await until(lambda: fleet.expected() == 3)
            views = fleet.views()
            assert [view.node for view in views] == ["p0", "p1", "p2"]
            assert all(view.link == "up" and view.reason == "" for view in views)
            assert all(view.member is not None and view.member.role == "putter" for view in views)
            assert views[0].address == f"p0:{SESSIONS}"

        with_store(scene, 3)

    def test_one_that_comes_later(self) -> None:
        async def scene(store: Store) -> None:
            late = SimPutter(store, "late")
            store.putters.append(late)
            await late.start()
            await until(lambda: store.router.fleet.link("late") is not None, 5)
            await until(lambda: len(store.router.fleet.up()) == 3, 5)

        with_store(scene)

    def test_one_that_is_down_says_why_and_comes_back(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            await store.putters[1].crash()
            await until(lambda: len(fleet.up()) == 1)
            await asyncio.sleep(1)
            down = next(view for view in fleet.views() if view.node == "p1")
            assert (down.link, bool(down.reason)) == ("down", True)
            assert fleet.expected() == 2, "its last sign of life is not long ago"
            await asyncio.sleep(MEMBER_LOST_MS / 1000 + 2)
            assert fleet.expected() == 1
            await store.putters[1].start()
            await until(lambda: len(fleet.up()) == 2, 10)

        with_store(scene)

    def test_one_that_moved_is_found_at_its_new_address(self) -> None:
        async def scene(store: Store) -> None:
            putter = store.putters[1]
            await putter.crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            moved = Member("p1", "putter", "p1.9", "elsewhere", 7000)
            await store.meta.members.heartbeat(moved)
            link = store.router.fleet.link("p1")
            assert link is not None
            await until(lambda: (link.host, link.port) == ("elsewhere", 7000), 5)

        with_store(scene)

    def test_one_that_left_is_forgotten(self) -> None:
        async def scene(store: Store) -> None:
            putter = store.putters[1]
            assert putter.node is not None
            await putter.node.stop()
            putter.node = None
            await until(lambda: [view.node for view in store.router.fleet.views()] == ["p0"], 10)

        with_store(scene)

    def test_waiting_for_the_first_one(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            with pytest.raises(NodesUnavailable, match="500 ms") as caught:
                await fleet.wait_up(500)
            assert "putter server" in caught.value.hint
            waiting = asyncio.create_task(fleet.wait_up(10_000))
            store.putters.append(SimPutter(store, "first"))
            await store.putters[-1].start()
            await waiting
            assert fleet.up()

        with_store(scene, 0)

    def test_without_redis_those_named_by_hand_do(self) -> None:
        async def scene(store: Store) -> None:
            store.meta.down = True
            by_hand = await store.add_router(nodes=(("p0", SESSIONS), ("p1", SESSIONS)))
            assert sorted(link.node for link in by_hand.fleet.up()) == ["p0", "p1"]
            store.meta.down = False

        with_store(scene)


class TestWhereToPut:
    def test_as_many_as_wanted_of_those_that_are_there(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            places = Counter(node for n in range(300) for node in fleet.place(f"o/{n}").nodes)
            assert sum(places.values()) == 600
            assert min(places.values()) > 120
            assert all(len(set(fleet.place(f"o/{n}").nodes)) == 2 for n in range(20))
            await store.putters[2].crash()
            await until(lambda: len(fleet.up()) == 2)
            assert {fleet.place(f"o/{n}").nodes for n in range(50)} <= {("p0", "p1"), ("p1", "p0")}
            await store.putters[1].crash()
            await until(lambda: len(fleet.up()) == 1)
            assert fleet.place("o").nodes == ("p0",)
            await store.putters[0].crash()
            await until(lambda: not fleet.up())
            with pytest.raises(NodesUnavailable):
                fleet.place("o")

        with_store(scene, 3, policy=Policy(2, 2))

    def test_free_space_is_the_weight(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            await until(lambda: fleet.expected() == 2)
            firsts = Counter(fleet.place(f"o/{n}").nodes[0] for n in range(2000))
            assert 0.7 < firsts["p1"] / 2000 < 0.8, "three quarters of the space"

        with_store(scene, 2, capacities=(1 << 30, 3 << 30), policy=Policy(1, 1))

    def test_zones_are_told_apart(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            for node, zone in (("p0", "a"), ("p1", "a"), ("p2", "b")):
                await store.meta.members.heartbeat(
                    Member(node, "putter", "i", node, SESSIONS, free_bytes=100, zone=zone)
                )
            await fleet._update(
                [s for s in await store.meta.members.seen() if s.member.role == "putter"]
            )
            assert all("p2" in fleet.place(f"o/{n}").nodes for n in range(100))

        with_store(scene, 3, policy=Policy(2, 2))

    def test_a_full_one_is_avoided_as_long_as_there_are_others(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            link = fleet.link("p1")
            assert link is not None
            link.full = True
            fleet._link_changed(link)
            assert {fleet.place(f"o/{n}").nodes for n in range(50)} == {("p0",)}
            for other in fleet.up():
                other.full = True
            fleet._link_changed(link)
            assert len({fleet.place(f"o/{n}").nodes[0] for n in range(50)}) == 2, (
                "one has to be asked"
            )

        with_store(scene)

    def test_a_full_one_is_tried_again_when_it_has_gained_room(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            link = fleet.link("p1")
            assert link is not None
            link.full = True
            gained = {0: False, 100: False, ROOM_GAINED_BYTES - 1: False, ROOM_GAINED_BYTES: True}
            for free, again in gained.items():
                await tell_free(fleet, p0=MIB, p1=free)
                assert link.full != again, free
                assert ("p1" in {fleet.place(f"o/{n}").nodes[0] for n in range(99)}) == again

        with_store(scene, policy=Policy(1, 1))

    def test_what_one_had_when_it_was_full_before_does_not_count(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            link = fleet.link("p1")
            assert link is not None
            for free in (0, 2 * ROOM_GAINED_BYTES):
                link.full = True
                await tell_free(fleet, p1=free)
                assert link.full
                link.full = False  # it took something
                await tell_free(fleet, p1=free)

        with_store(scene)

    def test_one_without_a_free_byte_comes_last(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            await tell_free(fleet, p0=0, p1=MIB)
            assert {fleet.place(f"o/{n}").nodes[0] for n in range(99)} == {"p1"}

        with_store(scene)


class TestOneThatLeaves:
    """A clean stop: it is no member any more, and its link is taken away."""

    def test_what_is_meant_for_it_waits_until_it_is_back(self) -> None:
        async def scene(store: Store) -> None:
            written = await leaving(store, {"p0"}, payload(3 * MIB))
            assert written.holders == 1
            assert await store.read() == payload(3 * MIB)
            await store.clean()

        with_store(scene, 1)

    def test_it_goes_elsewhere_if_there_is_somebody(self) -> None:
        async def scene(store: Store) -> None:
            written = await leaving(store, {"p0", "p1"}, payload(3 * MIB))
            assert written.holders == 1
            assert await store.read() == payload(3 * MIB)

        with_store(scene, 2, policy=Policy(1, 1))

    def test_what_is_given_up_waits_no_more(self) -> None:
        async def scene(store: Store) -> None:
            with pytest.raises(NodesUnavailable):
                await leaving(store, {"p0"}, payload(3 * MIB), back_after_s=200)
            assert not store.router.fleet._homeless

        with_store(scene, 1)


async def leaving(store: Store, nodes: set[str], data: bytes, back_after_s: float = 8) -> Written:
    """Write a stream while these putters leave; the last one comes back, in time or not."""
    fleet, path = store.router.fleet, store.router.writes
    last = store.putters[-1]

    async def back() -> None:
        await asyncio.sleep(back_after_s)
        await last.start()

    async def body() -> AsyncIterator[bytes]:
        yield data[:MIB]
        await until(lambda: not any(link.busy for link in fleet.up()), 30)
        for putter in store.putters:
            await putter.crash()
            await store.meta.members.leave(putter.name)
        await until(lambda: all(fleet.link(node) is None for node in nodes), 30)
        returning.append(asyncio.create_task(back()))
        yield data[MIB:]

    returning: list[asyncio.Task[None]] = []
    source = ChunkSource(body(), path.filler())
    try:
        return await path.write(source, Target("photos", "cat"))
    finally:
        source.close()
        for task in returning:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def tell_free(fleet: Fleet, **free: int) -> None:
    """What the putters' signs of life say of their disks."""
    await fleet._update(
        [
            Seen(
                Member(node, "putter", "i", node, SESSIONS, capacity_bytes=GIB, free_bytes=each), 0
            )
            for node, each in free.items()
        ]
    )


class TestNamedByHandAndAMember:
    def test_under_one_address_it_has_one_link(self) -> None:
        async def scene(store: Store) -> None:
            router = await store.add_router(nodes=(("p0", SESSIONS), ("p1", SESSIONS)))
            await asyncio.sleep(5)
            assert [view.node for view in router.fleet.views()] == ["p0", "p1"]

        with_store(scene)

    def test_writes_survive_the_loss_of_either_of_two_links(self) -> None:
        """What travels on one link is acked, sent again and withdrawn there and not elsewhere."""

        async def scene(store: Store) -> None:
            router = store.router
            for name in ("p0", "p1"):
                router.fleet._open(name, SESSIONS, "")
            await until(lambda: len(router.fleet.up()) == 4)
            for n in range(20):
                write = asyncio.create_task(store.write(payload(2_000_000, n), f"f{n}"))
                await until(lambda: any(link._runs for link in router.fleet._links))
                loaded = next(link for link in router.fleet._links if link._runs)
                assert loaded._session is not None
                began = store.world.loop.time()
                loaded._session.abort()
                await asyncio.sleep(0.000_02 * (n % 5))
                for name in ("p0", "p1"):
                    router.fleet.link(name)  # as any read would ask
                written = await write
                assert store.world.loop.time() - began < 5, "no silence had to end it"
                assert written.holders >= 1
                assert await store.read(f"f{n}") == payload(2_000_000, n)
                await until(lambda: not any(link.busy for link in router.fleet._links))
                await until(lambda: len(router.fleet.up()) == 4)

        with_store(scene, weather={"latency_us_min": 100, "latency_us_max": 500})
