"""What putters missed is given to them, and what stood in for them is freed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from common.meta.repairs import Debt
from common.meta.values import pack_version
from common.records import ANYONE, Version
from router.quorum import Policy
from router.repair import Refill
from tests.router_kit import FRAME, Store, metric, payload, tickets_of
from tests.simulation.loop import World, run

TWO = Policy(2, 2)


def with_store(scene: Any, putters: int = 3, **options: Any) -> None:
    """Run a scene on a store of virtual time whose rounds are made by hand."""

    async def whole(world: World) -> None:
        store = Store(world, putters, **({"policy": TWO} | options))
        await store.start()
        try:
            await scene(store)
        finally:
            await store.stop()

    run(whole, 1, limit_s=3_600)


async def lose(store: Store, number: int) -> None:
    """A putter is away, and the router knows."""
    await store.putters[number].crash()
    while len(store.router.fleet.up()) > store.alive:
        await asyncio.sleep(0.1)


async def back(store: Store, number: int) -> None:
    await store.putters[number].start()
    while len(store.router.fleet.up()) < store.alive:
        await asyncio.sleep(0.1)


async def repair(store: Store) -> None:
    """Rounds until nothing is left to do; the grace time passes."""
    for _ in range(4):
        while await store.router.repair.round():
            pass
        await asyncio.sleep(2)


async def version_of(store: Store, key: str) -> Version:
    return await store.router.reads.resolve("photos", key)


def nodes_of(version: Version) -> set[str]:
    (stored,) = version.objects
    return {node for extent in stored.extents for node in extent.nodes}


def owed_of(version: Version) -> dict[str, str]:
    return {k: v for s in version.objects for e in s.extents for k, v in e.owed.items()}


class TestAPutterThatWasAway:
    @pytest.mark.parametrize("size", [1, FRAME, 5 * FRAME + 7, 3_000_000])
    def test_it_gets_what_it_missed_and_its_stand_in_is_freed(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            data = {f"k{n}": payload(size, n) for n in range(12 if size < 10**6 else 2)}
            for key, body in data.items():
                await store.write(body, key)
            missed = [key for key in data if "p0" in owed_of(await version_of(store, key))]
            assert missed, "some of it was to go there"
            assert not store.putters[0].tickets
            before = {key: nodes_of(await version_of(store, key)) for key in data}
            assert all(nodes == {"p1", "p2"} for nodes in before.values())

            await back(store, 0)
            await repair(store)

            assert await store.meta.repairs.debts() == {}
            expected = set()
            for key, body in data.items():
                version = await version_of(store, key)
                assert not owed_of(version)
                assert len(nodes_of(version)) == 2
                assert ("p0" in nodes_of(version)) == (key in missed)
                if key in missed:
                    expected |= set(tickets_of(version))
                assert await store.read(key) == body
            assert store.putters[0].tickets == expected, "just what it missed"
            for putter in store.putters[1:]:
                named = set()
                for key in data:
                    version = await version_of(store, key)
                    if putter.name in nodes_of(version):
                        named |= set(tickets_of(version))
                assert putter.tickets == named, "and nobody holds too much"
            for key in missed:  # it alone can serve
                version = await version_of(store, key)
                (other,) = nodes_of(version) - {"p0"}
            await store.putters[int(other[1])].crash()
            assert await store.read(missed[-1]) == data[missed[-1]]

        with_store(scene)

    @pytest.mark.parametrize("frame_bytes", [2_000, 65_536])
    def test_a_router_with_other_frames_gives_it_what_it_missed(self, frame_bytes: int) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            data = {f"k{n}": payload(7 * FRAME + n, n) for n in range(12)}
            for key, body in data.items():
                await store.write(body, key)
            await back(store, 0)
            other = await store.add_router(frame_bytes=frame_bytes)
            while await other.repair.round():
                pass
            assert other.repair.refills() == {}
            assert await store.meta.repairs.debts() == {}
            assert store.putters[0].tickets
            for putter in store.putters[1:]:
                await putter.crash()
            for key, body in data.items():
                if "p0" in nodes_of(await version_of(store, key)):
                    assert await store.read(key) == body
                    assert (
                        await store.read(key, FRAME - 1, 3 * FRAME + 1)
                        == body[FRAME - 1 : 3 * FRAME + 1]
                    )

        with_store(scene)

    def test_its_records_are_the_true_ones(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(8):
                await store.write(payload(100, n), f"k{n}")
            await back(store, 0)
            await repair(store)
            for n in range(8):
                version = await version_of(store, f"k{n}")
                for putter in store.putters:
                    held = [r for r in putter.records if getattr(r, "key", "") == f"k{n}"]
                    newest = max(held, key=lambda r: r.revision, default=None)  # type: ignore[union-attr]
                    if putter.name in nodes_of(version):
                        assert newest == version
                    else:
                        assert newest is None, "freed with the bytes"

        with_store(scene)

    def test_what_was_deleted_or_overwritten_meanwhile_does_not_come(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(10):
                await store.write(payload(100, n), f"k{n}")
            for n in range(0, 10, 2):
                await store.router.writes.delete("photos", f"k{n}")
            for n in range(1, 10, 2):
                await store.write(payload(50, 100 + n), f"k{n}")
            await store.clean()
            await back(store, 0)
            await repair(store)
            await store.clean()
            assert await store.meta.repairs.debts() == {}
            expected = set()
            for n in range(1, 10, 2):
                version = await version_of(store, f"k{n}")
                assert await store.read(f"k{n}") == payload(50, 100 + n)
                if "p0" in nodes_of(version):
                    expected |= set(tickets_of(version))
            assert store.putters[0].tickets == expected

        with_store(scene)

    def test_a_deletion_in_the_middle_of_the_copy_leaves_nothing(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            keys = []
            for n in range(6):
                await store.write(payload(2_500_000, n), f"k{n}")
                if "p0" in owed_of(await version_of(store, f"k{n}")):
                    keys.append(f"k{n}")
            await back(store, 0)
            work = asyncio.ensure_future(store.router.repair.round())
            while not store.putters[0].tickets:
                await asyncio.sleep(0.001)
            for key in keys:
                await store.router.writes.delete("photos", key)
            await work
            await repair(store)
            await store.clean()
            await store.clean()
            assert await store.meta.repairs.debts() == {}
            assert not store.putters[0].tickets

        with_store(scene)

    def test_no_record_comes_after_what_was_deleted_is_freed(self) -> None:
        """It would stay for good, and tell of a file that is not there."""

        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(4):
                await store.write(payload(100, n), f"k{n}")
            missed = (await store.meta.repairs.debts())["p0"].objects
            await back(store, 0)
            copier = store.router.repair._copier
            copied, go_on = [], asyncio.Event()
            copy = copier.copy

            async def copy_late(*args: Any) -> None:
                await copy(*args)
                copied.append(args)
                await go_on.wait()

            copier.copy = copy_late  # type: ignore[method-assign]
            work = asyncio.ensure_future(store.router.repair.round())
            while len(copied) < missed:
                await asyncio.sleep(0.01)
            for n in range(4):
                await store.router.writes.delete("photos", f"k{n}")
            await store.clean()
            go_on.set()
            await work
            await store.clean()
            for putter in store.putters:
                assert not putter.tickets
                assert not [r for r in putter.records if isinstance(r, Version)]

        with_store(scene)


class TestTooFewPutters:
    def test_a_further_putter_gets_a_copy_of_everything(self) -> None:
        async def scene(store: Store) -> None:
            await store.putters[1].crash()
            bodies = {f"k{n}": payload(300, n) for n in range(5)}
            for key, body in bodies.items():
                written = await store.write(body, key)
                assert written.degraded
            debts = await store.meta.repairs.debts()
            assert sum(debt.objects for debt in debts.values()) == 5
            await back(store, 1)
            await repair(store)
            assert await store.meta.repairs.debts() == {}
            await store.putters[0].crash()
            for key, body in bodies.items():
                assert nodes_of(await version_of(store, key)) == {"p0", "p1"}
                assert await store.read(key) == body

        with_store(scene, putters=2)

    def test_anyone_is_owed_where_nobody_else_was_ever_there(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(payload(300), "k")
            assert owed_of(await version_of(store, "k")) == {ANYONE: ""}
            await store.router.repair.round()
            [(debtor, refill)] = store.router.repair.refills().items()
            assert debtor == ANYONE
            assert list(refill.stuck) == [(await version_of(store, "k")).objects[0].object_id]
            assert "no further putter" in next(iter(refill.stuck.values()))

        with_store(scene, putters=1)


class TestSeveralRouters:
    def test_one_of_them_pays_a_debtor(self) -> None:
        async def scene(store: Store) -> None:
            await store.add_router()
            await lose(store, 0)
            for n in range(30):
                await store.write(payload(100, n), f"k{n}", router=n % 2)
            await back(store, 0)
            while len(store.routers[1].fleet.up()) < 3:
                await asyncio.sleep(0.1)
            await asyncio.gather(*(router.repair.round() for router in store.routers))
            await repair(store)
            assert await store.meta.repairs.debts() == {}
            given = [metric(r.metrics, "putter_repaired_objects_total") for r in store.routers]
            missed = [n for n in range(30) if "p0" in nodes_of(await version_of(store, f"k{n}"))]
            assert sum(given) == len(missed)

        with_store(scene)

    def test_a_long_copy_keeps_the_lease(self) -> None:
        async def scene(store: Store) -> None:
            await store.add_router()
            body = payload(6_000_000)
            await lose(store, 1)
            await store.write(body)
            await back(store, 1)
            while len(store.routers[1].fleet.up()) < 2:
                await asyncio.sleep(0.1)
            work = asyncio.ensure_future(store.router.repair.round())
            await asyncio.sleep(45)
            assert not work.done()
            before = asyncio.get_running_loop().time()
            assert await store.routers[1].repair.round() == 0
            assert asyncio.get_running_loop().time() - before < 1, "it did not begin, too"
            assert not work.done()
            await work
            assert nodes_of(await version_of(store, "cat")) == {"p0", "p1"}

        with_store(scene, putters=2, repair_bytes_per_s=100_000)


class TestFailures:
    def test_what_cannot_be_copied_is_named_and_stops_nothing(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(12):
                await store.write(payload(100, n), f"k{n}")
            missed = [n for n in range(12) if "p0" in owed_of(await version_of(store, f"k{n}"))]
            version = await version_of(store, f"k{missed[0]}")
            for putter in store.putters[1:]:
                putter.rot(version.objects[0].extents[0].first)
            await back(store, 0)
            await repair(store)
            assert (await store.meta.repairs.debts())["p0"].objects == 1
            refill = store.router.repair.refills()["p0"]
            assert list(refill.stuck) == [version.objects[0].object_id]
            for n in missed[1:]:
                assert "p0" in nodes_of(await version_of(store, f"k{n}"))

        with_store(scene)

    def test_a_bad_copy_is_passed_over_for_a_good_one(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(12):
                await store.write(payload(100, n), f"k{n}")
            for n in range(12):
                version = await version_of(store, f"k{n}")
                store.putters[1 + n % 2].rot(version.objects[0].extents[0].first)
            await back(store, 0)
            await repair(store)
            assert await store.meta.repairs.debts() == {}
            for n in range(12):
                assert await store.read(f"k{n}") == payload(100, n)

        with_store(scene)

    def test_what_never_goes_does_not_hide_what_is_behind_it(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(900):
                await store.write(payload(100, n), f"k{n:03}")
            keys = [f"k{n:03}" for n in range(900)]
            missed = [key for key in keys if "p0" in owed_of(await version_of(store, key))]
            assert len(missed) > 300
            for key in missed[:-1]:
                [ticket] = tickets_of(await version_of(store, key))
                for putter in store.putters[1:]:
                    putter.rot(ticket)
            await back(store, 0)
            for _ in range(5):
                await store.router.repair.round()
            assert "p0" in nodes_of(await version_of(store, missed[-1]))

        with_store(scene)

    def test_no_copy_is_freed_before_those_that_are_named_prove_theirs(self) -> None:
        """The description may be one that lost against another, whose copies were freed."""

        async def scene(store: Store) -> None:
            body = payload(5 * FRAME)
            await store.write(body)
            version = await version_of(store, "cat")
            [stored] = version.objects
            one, other = sorted(nodes_of(version))
            [third] = {"p0", "p1", "p2"} - {one, other}
            assert await store.meta.repairs.reach("photos", stored.object_id, third)
            placed = Version(
                **{f: getattr(version, f) for f in version.__struct_fields__}
                | {
                    "revision": await store.router.numbers.stamp(),
                    "objects": (
                        msgspec.structs.replace(
                            stored,
                            extents=tuple(
                                msgspec.structs.replace(e, nodes=tuple(sorted((other, third))))
                                for e in stored.extents
                            ),
                        ),
                    ),
                }
            )
            assert await store.meta.repairs.amend(pack_version(version), placed)
            putters = {putter.name: putter for putter in store.putters}
            await asyncio.sleep(5)
            await store.router.repair.round()
            assert putters[one].tickets == set(tickets_of(version))
            assert await store.router.healer.round() == 1
            await asyncio.sleep(100)
            await repair(store)
            assert not putters[one].tickets
            assert putters[third].tickets == putters[other].tickets == set(tickets_of(version))
            await putters[other].crash()
            assert await store.read() == body

        with_store(scene)

    def test_nothing_is_freed_while_too_few_are_there_to_prove_it(self) -> None:
        async def scene(store: Store) -> None:
            await lose(store, 0)
            for n in range(8):
                await store.write(payload(100, n), f"k{n}")
            await back(store, 0)
            await store.router.repair.round()
            moved = [n for n in range(8) if "p0" in nodes_of(await version_of(store, f"k{n}"))]
            assert moved
            await asyncio.sleep(1.5)
            await lose(store, 0)
            held = [set(putter.tickets) for putter in store.putters[1:]]
            await repair(store)
            assert held == [putter.tickets for putter in store.putters[1:]]
            await back(store, 0)
            await repair(store)
            assert held != [putter.tickets for putter in store.putters[1:]]

        with_store(scene)


def test_an_estimate_needs_a_rate() -> None:
    assert Refill(Debt(3, 1_000), 0.0, {}).eta_s is None
    assert Refill(Debt(3, 1_000), 100.0, {}).eta_s == 10.0
