"""A Redis that forgot is brought back while one or two of four putters are away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import structlog.testing

from common.errors import NotFound
from common.limits import TICKET_LEASE
from common.membership import Decision
from common.records import Version
from common.tickets import parse_id
from router.catchup import RebuildNeeded
from router.quorum import Policy
from tests.node_kit import play, until
from tests.router_kit import Store, payload, tickets_of
from tests.simulation.loop import World
from tests.unit.router.test_catchup import ready

Scene = Callable[[Store], Awaitable[None]]
KEYS = [f"k{n:02}" for n in range(24)]


def with_four(scene: Scene, **options: Any) -> None:
    async def main(world: World) -> None:
        settings = {"policy": Policy(2, 2), "write_timeout_ms": 3_000} | options
        store = await Store(world, 4, **settings).start()
        await ready(store)
        await scene(store)
        await store.stop()

    play(main)


async def fill(store: Store, keys: Iterable[str] = KEYS) -> dict[str, Version]:
    """Files of one frame each; where they are."""
    written = {}
    for key in keys:
        written[key] = (await store.write(payload(1_000, key), key)).version
    return written


def nodes_of(version: Version) -> set[str]:
    return {node for o in version.objects for extent in o.extents for node in extent.nodes}


async def crash(store: Store, *names: str) -> None:
    for putter in store.putters:
        if putter.name in names:
            await putter.crash()
    await until(lambda: len(store.router.fleet.up()) == store.alive, 30)


async def bring_back(store: Store, *names: str) -> None:
    for putter in store.putters:
        if putter.name in names:
            await putter.start()
    await until(lambda: len(store.router.fleet.up()) == store.alive, 30)


async def read(store: Store, key: str) -> bytes | None:
    try:
        return await store.read(key)
    except NotFound:
        return None


def check_numbers(store: Store) -> None:
    """What all putters hold: no ticket, ObjectID or stamp belongs to two versions."""
    versions = {
        (v.key, v.stamp, o.object_id): v
        for putter in store.putters
        for v in putter.records
        if isinstance(v, Version)
        for o in v.objects
    }
    assert len({stamp for _, stamp, _ in versions}) == len(versions)
    assert len({object_id for _, _, object_id in versions}) == len(versions)
    tickets = [ticket for version in versions.values() for ticket in tickets_of(version)]
    assert len(set(tickets)) == len(tickets)


@pytest.mark.parametrize("away", [("p3",), ("p2", "p3")])
@pytest.mark.parametrize("tail", ["lost before", "lost after"])
def test_a_lost_tail_is_there_as_far_as_somebody_holds_it(away: tuple[str, ...], tail: str) -> None:
    async def scene(store: Store) -> None:
        old = await fill(store, KEYS[:8])
        snapshot = store.meta.snapshot()
        new = await fill(store, KEYS[8:])
        if tail == "lost before":
            store.meta.restore(snapshot, "run-2")
        await crash(store, *away)
        if tail == "lost after":
            store.meta.restore(snapshot, "run-2")
        await ready(store)
        hidden = {key for key, each in new.items() if nodes_of(each) <= set(away)}
        assert bool(hidden) == (len(away) == 2), "or the seed is no good"
        for key in set(old | new) - hidden:
            if not nodes_of((old | new)[key]) <= set(away):
                assert await read(store, key) == payload(1_000, key), key
        # What is written meanwhile has numbers of its own, and wins over what is hidden.
        again = sorted(hidden)[:1]
        for key in [*again, "later"]:
            await store.write(b"newer", key)
        await bring_back(store, *away)
        await ready(store)
        for key in old | new:
            wanted = b"newer" if key in again else payload(1_000, key)
            assert await read(store, key) == wanted, key
        check_numbers(store)
        await store.write(b"last", "last")
        check_numbers(store)

    with_four(scene)


def test_a_full_loss_waits_for_all_and_names_who_is_missing() -> None:
    async def scene(store: Store) -> None:
        new = await fill(store)
        highest = max(parse_id(o.object_id) for v in new.values() for o in v.objects)
        await crash(store, "p1", "p3")
        store.meta.wipe("run-2")
        trouble = store.router.catch_up
        await until(lambda: len(trouble.silent) == 2, 60)
        assert [each.split()[0] for each in trouble.silent] == ["p1", "p3"]
        assert "p1" in trouble.trouble
        assert "p3" in trouble.trouble
        for ask in (store.read(KEYS[0]), store.write(b"x", "x")):
            with pytest.raises(RebuildNeeded, match="p1"):
                await ask
        await bring_back(store, "p3")
        await until(lambda: [each.split()[0] for each in trouble.silent] == ["p1"], 60)
        # It is lost once more, and the one that came goes again.
        store.meta.wipe("run-3")
        await crash(store, "p0")
        await until(lambda: [each.split()[0] for each in trouble.silent] == ["p0", "p1"], 60)
        await bring_back(store, "p0", "p1")
        await ready(store)
        assert trouble.trouble == ""
        for key in KEYS:
            assert await read(store, key) == payload(1_000, key)
        written = await store.write(b"new", "new")
        assert parse_id(written.object_id) > highest
        check_numbers(store)

    with_four(scene)


def test_ceilings_that_only_the_silent_ones_keep_are_not_reached() -> None:
    async def scene(store: Store) -> None:
        await fill(store, KEYS[:4])
        snapshot = store.meta.snapshot()
        await crash(store, "p0", "p1")
        # Only p2 and p3 hear of the next ceilings; Redis forgets them, and these two go.
        numbers = store.router.numbers
        used = [await numbers.tickets(2 * TICKET_LEASE) for _ in range(60)]
        stamp = await numbers.stamp()
        object_id = await numbers.object_id()
        store.meta.restore(snapshot, "run-2")
        await crash(store, "p2", "p3")
        await bring_back(store, "p0", "p1")
        await ready(store)
        assert await numbers.tickets(2 * TICKET_LEASE) >= max(used) + 2 * TICKET_LEASE
        assert await numbers.stamp() > stamp
        assert parse_id(await numbers.object_id()) > parse_id(object_id)
        await bring_back(store, "p2", "p3")
        await ready(store)
        await store.write(b"x", "x")
        check_numbers(store)

    with_four(scene)


def test_each_of_them_is_away_in_turn_while_redis_forgets() -> None:
    async def scene(store: Store) -> None:
        wanted: dict[str, bytes] = {}
        for turn in range(4):
            snapshot = store.meta.snapshot()
            for key in KEYS[turn * 4 : turn * 4 + 6]:
                wanted[key] = payload(1_000 + turn, key)
                await store.write(wanted[key], key)
            await crash(store, f"p{turn}")
            store.meta.restore(snapshot, f"run-{turn + 2}")
            await ready(store)
            for key, data in wanted.items():
                assert await read(store, key) == data, (turn, key)
            await bring_back(store, f"p{turn}")
            await ready(store)
        check_numbers(store)
        store.meta.wipe("run-9")
        await ready(store)
        for key, data in wanted.items():
            assert await read(store, key) == data, key

    with_four(scene)


def test_who_is_away_is_told() -> None:
    async def scene(store: Store) -> None:
        await fill(store)
        await crash(store, "p2", "p3")
        with structlog.testing.capture_logs() as logs:
            store.meta.restart("run-2")
            await ready(store)
        event = "what only putters that are away hold comes with them"
        told = [each for each in logs if each["event"] == event]
        assert [each["putters"] for each in told] == [["p2", "p3"]]
        assert [each["log_level"] for each in told] == ["warning"]

    with_four(scene)


def test_under_strict_it_waits_for_all_but_fewer_than_a_quorum() -> None:
    async def scene(store: Store) -> None:
        snapshot = store.meta.snapshot()
        new = await fill(store)
        await crash(store, "p2", "p3")
        store.meta.restore(snapshot, "run-2")
        catch_up = store.router.catch_up
        await until(lambda: "p2, p3" in catch_up.trouble, 60)
        with pytest.raises(RebuildNeeded, match="p2, p3") as caught:
            await store.read(KEYS[0])
        assert "p2" in caught.value.hint
        await asyncio.sleep(5)
        await bring_back(store, "p3")
        await ready(store)
        for key in new:
            assert await read(store, key) == payload(1_000, key)
        check_numbers(store)

    with_four(scene, policy=Policy(2, 2, "strict"))


def test_under_strict_one_that_is_gone_for_good_is_not_waited_for() -> None:
    async def scene(store: Store) -> None:
        await fill(store)
        await crash(store, "p2", "p3")
        store.meta.restart("run-2")
        await until(lambda: "p2, p3" in store.router.catch_up.trouble, 60)
        await store.meta.members.declare("p3", Decision.GONE)
        await ready(store)

    with_four(scene, policy=Policy(2, 2, "strict"))
