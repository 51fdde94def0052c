"""All putters together: who is there, where to put, and several links to one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from common.errors import NodesUnavailable
from common.limits import GIB, MEMBER_LOST_MS, MIB, ROOM_GAINED_BYTES
from common.membership import Decision, State
from common.meta.interface import Member, Seen
from router.blocks import ChunkSource
from router.fleet import Fleet
from router.quorum import Policy
from router.targets import Target, Written
from tests.node_kit import play, until
from tests.router_kit import SESSIONS, SimPutter, Store, metric, payload
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

    def test_whatever_a_look_failed_with_there_is_a_next_one(self) -> None:
        async def scene(store: Store) -> None:
            members = store.meta.members
            seen, failed = members.seen, []

            async def failing() -> list[Seen]:
                if len(failed) < 3:
                    failed.append(ValueError("a bug"))
                    raise failed[-1]
                return await seen()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(members, "seen", failing)
                await until(lambda: len(failed) == 3, 10)
                late = SimPutter(store, "late")
                store.putters.append(late)
                await late.start()
                await until(lambda: len(store.router.fleet.up()) == 3, 10)

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
            moved = Member("p1", "putter", "p1.9", "elsewhere", 7000, starts=9)
            assert not (await store.meta.members.heartbeat(moved)).taken, "it may live yet"
            await asyncio.sleep(MEMBER_LOST_MS / 1000)
            assert (await store.meta.members.heartbeat(moved)).taken
            link = store.router.fleet.link("p1")
            assert link is not None
            await until(lambda: (link.host, link.port) == ("elsewhere", 7000), 5)

        with_store(scene)

    def test_one_that_is_named_by_hand_and_moved_is_found(self) -> None:
        async def scene(store: Store) -> None:
            router = await store.add_router(nodes=(("p0", SESSIONS), ("p1", SESSIONS)))
            await asyncio.sleep(2)
            await store.putters[1].crash()
            await asyncio.sleep(MEMBER_LOST_MS / 1000 + 1)
            moved = SimPutter(store, "elsewhere")
            moved.engine, moved.starts = store.putters[1].engine, store.putters[1].starts
            store.putters[1] = moved
            moved.identity = "p1"
            await moved.start()
            await until(lambda: len(router.fleet.up()) == 2, 10)
            views = [(v.address, v.node, v.state, v.link) for v in router.fleet.views()]
            assert (f"elsewhere:{SESSIONS}", "p1", State.LIVE, "up") in views
            assert (f"p1:{SESSIONS}", "p1", State.LIVE, "down") in views

        with_store(scene)

    def test_another_directory_at_the_address_gets_nothing(self) -> None:
        """Whoever answers there, what is meant for a putter goes to no other one."""

        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            first, second = store.putters
            await first.crash()
            await second.crash()
            first.identity, second.identity = "p1", "p0"
            first.engine, second.engine = second.engine, first.engine
            first.starts = second.starts = 1
            await first.start()
            await asyncio.sleep(2)
            reasons = {view.node: view.reason for view in fleet.views() if view.link == "down"}
            assert reasons["p0"] == f"p0:{SESSIONS} is putter p1, not p0" or not first.node.ready
            # At another address than before: a copy, for all that is known, until p1 is lost.
            assert "alive at p1" in first.node.trouble
            await asyncio.sleep(MEMBER_LOST_MS / 1000)
            await until(lambda: first.node.ready, 5)
            await until(lambda: [link.node for link in fleet.up()] == ["p1"], 10)
            [down] = [view for view in fleet.views() if view.node == "p0"]
            assert (down.state, down.link) == (State.DOWN, "down")
            await until(lambda: "is putter p1, not p0" in fleet.link("p0").reason, 10)
            written = await store.write(payload(100_000), "cat")
            assert written.holders == 1
            assert fleet.link("p1").host == "p0"

        with_store(scene)

    def test_an_old_process_is_left_for_the_one_that_took_its_place(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            link = fleet.link("p1")
            old = link.instance
            entries = await store.meta.members.seen()
            newer = [
                Seen(msgspec.structs.replace(each.member, instance="newer"), 0)
                for each in entries
                if each.member.node == "p1"
            ]
            await fleet._update([*newer, *(e for e in entries if e.member.node == "p0")])
            await until(lambda: "another process speaks for putter p1" in link.reason)
            await until(lambda: link.up, 5)
            assert link.instance == old, "it is the one that answers there"

        with_store(scene)

    def test_states_are_shown_and_counted(self) -> None:
        async def scene(store: Store) -> None:
            fleet, members = store.router.fleet, store.meta.members

            def told(state: State) -> float:
                return metric(store.router.metrics, "putter_members", state=state.value)

            def states() -> list[str]:
                return [view.state for view in fleet.views()]

            await until(lambda: states() == [State.LIVE] * 3, 5)
            assert (told(State.LIVE), told(State.DOWN)) == (3, 0)
            assert await members.declare("p0", Decision.DRAINING)
            await until(lambda: states() == [State.DRAINING, State.LIVE, State.LIVE], 5)
            await store.putters[1].crash()
            await until(lambda: states()[1] == State.SUSPECT, 10)
            await until(lambda: states()[1] == State.DOWN, 10)
            assert (told(State.DRAINING), told(State.DOWN), told(State.LIVE)) == (1, 1, 1)
            assert await members.declare("p1", Decision.GONE)
            await until(lambda: states()[1] == State.GONE, 5)
            assert fleet.link("p1") is None, "nobody tries to reach it"

        with_store(scene, 3)

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
            places = Counter(
                node for n in range(300) for node in fleet.place(f"o/{n}", store.policy).nodes
            )
            assert sum(places.values()) == 600
            assert min(places.values()) > 120
            assert all(len(set(fleet.place(f"o/{n}", store.policy).nodes)) == 2 for n in range(20))
            await store.putters[2].crash()
            await until(lambda: len(fleet.up()) == 2)
            assert {fleet.place(f"o/{n}", store.policy).nodes for n in range(50)} <= {
                ("p0", "p1"),
                ("p1", "p0"),
            }
            await store.putters[1].crash()
            await until(lambda: len(fleet.up()) == 1)
            assert fleet.place("o", store.policy).nodes == ("p0",)
            await store.putters[0].crash()
            await until(lambda: not fleet.up())
            with pytest.raises(NodesUnavailable):
                fleet.place("o", store.policy)

        with_store(scene, 3, policy=Policy(2, 2))

    def test_those_that_drain_or_are_gone_get_nothing_new(self) -> None:
        async def scene(store: Store) -> None:
            fleet, members = store.router.fleet, store.meta.members
            assert await members.declare("p0", Decision.DRAINING)
            await until(
                lambda: (
                    {n for k in range(50) for n in fleet.place(f"{k}", store.policy).nodes}
                    == {"p1", "p2"}
                ),
                5,
            )
            assert await members.declare("p1", Decision.GONE)
            await until(lambda: [link.node for link in fleet.up()] == ["p0", "p2"], 10)
            await until(
                lambda: (
                    {n for k in range(50) for n in fleet.place(f"{k}", store.policy).nodes}
                    == {"p2"}
                ),
                5,
            )
            owed = {n for k in range(50) for n in fleet.place(f"{k}", store.policy).owed}
            assert not owed & {"p0", "p1"}, "and none is kept for them"
            await store.putters[2].crash()
            await until(lambda: [link.node for link in fleet.up()] == ["p0"], 10)
            assert fleet.place("k", store.policy).nodes == ("p0",), "better there than nowhere"
            assert await members.declare("p0", None)

        with_store(scene, 3)

    def test_free_space_is_the_weight(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            await until(lambda: fleet.expected() == 2)
            firsts = Counter(fleet.place(f"o/{n}", store.policy).nodes[0] for n in range(2000))
            assert 0.7 < firsts["p1"] / 2000 < 0.8, "three quarters of the space"

        with_store(scene, 2, capacities=(1 << 30, 3 << 30), policy=Policy(1, 1))

    def test_zones_are_told_apart(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            for node, zone in (("p0", "a"), ("p1", "a"), ("p2", "b")):
                described = Member(
                    node, "putter", f"{node}.1", node, SESSIONS, free_bytes=100, zone=zone, starts=1
                )
                assert (await store.meta.members.heartbeat(described)).taken
            await fleet._update(
                [s for s in await store.meta.members.seen() if s.member.role == "putter"]
            )
            assert all("p2" in fleet.place(f"o/{n}", store.policy).nodes for n in range(100))

        with_store(scene, 3, policy=Policy(2, 2))

    def test_a_full_one_is_avoided_as_long_as_there_are_others(self) -> None:
        async def scene(store: Store) -> None:
            fleet = store.router.fleet
            link = fleet.link("p1")
            assert link is not None
            link.full = True
            fleet._link_changed(link)
            assert {fleet.place(f"o/{n}", store.policy).nodes for n in range(50)} == {("p0",)}
            for other in fleet.up():
                other.full = True
            fleet._link_changed(link)
            assert len({fleet.place(f"o/{n}", store.policy).nodes[0] for n in range(50)}) == 2, (
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
                assert (
                    "p1" in {fleet.place(f"o/{n}", store.policy).nodes[0] for n in range(99)}
                ) == again

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
            assert {fleet.place(f"o/{n}", store.policy).nodes[0] for n in range(99)} == {"p1"}

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
                Member(
                    node, "putter", f"{node}.1", node, SESSIONS, capacity_bytes=GIB, free_bytes=each
                ),
                0,
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
