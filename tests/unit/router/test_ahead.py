"""Small objects that were announced before they came: used when nothing changed, else withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.errors import MetadataUnavailable, NoSpace, ObjectGone
from common.limits import OBJECT_LEASE_MS
from common.membership import Decision
from common.meta.interface import Kind, Outcome
from common.meta.memory import MemoryCounters
from common.meta.memory_announcements import MemoryAnnouncements
from common.meta.memory_tables import MemoryObjects
from router.ahead import AHEAD_MS, Ahead
from router.app import Router
from router.groups import GROUP_OBJECTS_MAX
from router.quorum import Policy
from router.small import SmallWrites
from router.targets import Written
from tests.node_kit import play, until
from tests.router_kit import FRAME, Store, metric, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
OBJECTS = "objects"


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        await store.stop()
        assert in_state(store, "writing") == set(), "nothing announced is left behind"

    play(main)


async def send(store: Store, n: int = 0, size: int = 100, **target: Any) -> Written:
    """One object that is named after its ObjectID, and reads back."""
    key = target.pop("key", "")
    written = await store.write(payload(size, n), key, bucket=OBJECTS, **target)
    assert await store.read(key or written.object_id, bucket=OBJECTS) == payload(size, n)
    return written


async def send_all(store: Store, count: int, since: int = 0) -> list[Written]:
    """Some at the same time."""
    return list(await asyncio.gather(*(send(store, since + n) for n in range(count))))


async def warm_up(store: Store, count: int = 1) -> set[str]:
    """Send two groups in succession; what is announced now, as many as one group has."""
    await send_all(store, count)
    await send_all(store, count, count)
    await quiet(store)
    announced = in_state(store, "writing")
    assert len(announced) == count
    return announced


async def quiet(store: Store) -> None:
    """Until nothing goes on in the background."""
    await until(lambda: not store.router.writes._background, 60)


def in_state(store: Store, state: str) -> set[str]:
    """The objects of the raw door in this state."""
    known = store.meta.snapshot().buckets
    if OBJECTS not in known:
        return set()
    return {name for name, each in known[OBJECTS].objects.items() if each.state == state}


def known(store: Store) -> set[str]:
    found = store.meta.snapshot().buckets
    return set(found[OBJECTS].objects) if OBJECTS in found else set()


class TestUse:
    def test_the_next_object_takes_what_was_announced(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            (announced,) = await warm_up(store)
            ranges = store.meta.snapshot().buckets[OBJECTS].objects[announced].ranges

            async def never(self: MemoryObjects, item: Any) -> None:
                raise AssertionError("it was announced before")

            with monkeypatch.context() as patch:
                patch.setattr(MemoryObjects, "begin", never)
                for n in range(5):
                    written = await send(store, 10 + n)
                    if n == 0:
                        assert written.object_id == announced
                        assert tickets_of(written.version) == [ranges[0][0]]
                    await quiet(store)
            assert len(in_state(store, "written")) == 7

        with_store(scene)

    def test_a_group_takes_as_many_as_it_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            announced = await warm_up(store, 20)
            written = await send_all(store, 12, 100)
            assert {each.object_id for each in written} <= announced
            assert len({each.version.stamp for each in written}) == 12
            used = sorted(ticket for each in written for ticket in tickets_of(each.version))
            assert used == list(range(used[0], used[0] + 12))

        with_store(scene)

    def test_one_that_is_larger_is_split_or_announced_anew(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            groups: list[tuple[int, bool]] = []
            run = SmallWrites._run

            async def watched(self: SmallWrites, group: Any) -> None:
                groups.append((len(group.entries), group.placement is not None))
                await run(self, group)

            monkeypatch.setattr(SmallWrites, "_run", watched)
            await warm_up(store, 10)
            del groups[:]
            await send_all(store, 16, 100)
            assert groups[0] == (10, True)
            assert sum(count for count, _ in groups) == 16
            await quiet(store)
            del groups[:]
            left = store.router.writes._small._ahead.waiting
            await send_all(store, 2 * left + 1, 200)
            assert groups[0] == (2 * left + 1, False), "too few of them to be worth a group"

        with_store(scene)

    def test_two_announcements_make_one_group(self) -> None:
        async def scene(store: Store) -> None:
            announced = await warm_up(store, 8)
            first = await send_all(store, 6, 100)
            await quiet(store)
            announced |= in_state(store, "writing")
            batches = store.router.writes._small._ahead._batches
            assert [len(batch.ids) for batch in batches] == [2, 10], "what two groups need"
            second = await send_all(store, 6, 200)
            assert {each.object_id for each in first + second} <= announced
            assert len(in_state(store, "writing")) >= 6

        with_store(scene, 1)

    def test_the_longer_it_goes_on_the_more_are_announced_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            counts: list[int] = []
            announce = MemoryAnnouncements.announce

            async def counted(self: MemoryAnnouncements, item: Any) -> None:
                counts.append(len(item.object_ids))
                await announce(self, item)

            monkeypatch.setattr(MemoryAnnouncements, "announce", counted)
            for n in range(100):
                await send(store, n)
                await quiet(store)
            assert counts[:5] == [1, 2, 4, 8, 16]
            assert set(counts[5:]) == {16}
            await asyncio.sleep(2 * AHEAD_MS / 1000)
            assert in_state(store, "writing") == set()
            del counts[:]
            await send(store, 100)
            await send(store, 101)
            await quiet(store)
            assert counts == [1], "nobody came for the last ones"

        with_store(scene)

    def test_at_most_a_group_of_them(self) -> None:
        async def scene(store: Store) -> None:
            for n in range(3):
                await send_all(store, 2 * GROUP_OBJECTS_MAX, 1_000 * n)
                await quiet(store)
                assert store.router.writes._small._ahead.waiting <= GROUP_OBJECTS_MAX
            assert store.router.writes._small._ahead.waiting

        with_store(scene)

    @pytest.mark.parametrize(
        ("size", "target"),
        [
            (FRAME + 1, {}),
            (100, {"key": "named"}),
            (100, {"key": "named", "if_match": ""}),
        ],
    )
    def test_for_others_nothing_is_announced(self, size: int, target: dict[str, Any]) -> None:
        async def scene(store: Store) -> None:
            (announced,) = await warm_up(store)
            written = await send(store, 50, size, **target)
            assert written.object_id != announced
            assert in_state(store, "writing") == {announced}
            await asyncio.sleep(AHEAD_MS / 1000)
            for n in range(3):
                await send(store, 60 + n, size, **(target | {"key": f"n{n}"} if target else {}))
            await quiet(store)
            assert in_state(store, "writing") == set()

        with_store(scene)


class TestIdle:
    def test_the_first_after_a_pause_announces_nothing(self) -> None:
        async def scene(store: Store) -> None:
            for n in range(3):
                await send(store, n)
                await quiet(store)
                assert in_state(store, "writing") == set()
                await asyncio.sleep(AHEAD_MS / 1000)

        with_store(scene)

    def test_what_nobody_comes_for_is_withdrawn_and_then_it_is_quiet(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            announced = await warm_up(store, 7)
            assert store.router.writes.writing == 0, "nobody writes"
            await asyncio.sleep(2 * AHEAD_MS / 1000)
            assert not known(store) & announced
            asked: list[object] = []
            withdraw = MemoryAnnouncements.withdraw

            async def watched(self: MemoryAnnouncements, *args: Any) -> None:
                asked.append(args)
                await withdraw(self, *args)

            with monkeypatch.context() as patch:
                patch.setattr(MemoryAnnouncements, "withdraw", watched)
                patch.setattr(MemoryAnnouncements, "announce", watched)
                await asyncio.sleep(60)
            assert asked == []
            assert len(known(store)) == 14

        with_store(scene)

    def test_what_is_too_old_is_not_used_even_if_nobody_looked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The timer of a process that was stopped comes late."""

        async def scene(store: Store) -> None:
            monkeypatch.setattr(Ahead, "_look_later", lambda self: None)
            (announced,) = await warm_up(store)
            await asyncio.sleep(AHEAD_MS / 1000)
            assert (await send(store, 9)).object_id != announced
            await quiet(store)
            assert announced not in known(store)

        with_store(scene)

    def test_a_router_that_stops_withdraws_what_it_announced(self) -> None:
        async def scene(store: Store) -> None:
            await warm_up(store, 3)
            last = asyncio.create_task(send_all(store, 3, 100))
            while store.router.writes.writing < 3:
                await asyncio.sleep(0)
            await store.router.writes.stop(5_000)
            assert len(await last) == 3
            assert in_state(store, "writing") == set()
            assert len(known(store)) == 9

        with_store(scene)

    def test_what_is_announced_while_it_stops_is_withdrawn_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            announce = MemoryAnnouncements.announce
            begun = asyncio.Event()

            async def slow(self: MemoryAnnouncements, item: Any) -> None:
                begun.set()
                await asyncio.sleep(0.1)
                await announce(self, item)

            monkeypatch.setattr(MemoryAnnouncements, "announce", slow)
            await send(store, 1)
            await send(store, 2)
            await begun.wait()
            await store.router.writes.stop(5_000)
            assert in_state(store, "writing") == set()

        with_store(scene)


async def crash_one(store: Store) -> None:
    await store.putters[-1].crash()
    await until(lambda: len(store.router.fleet.up()) == len(store.putters) - 1, 60)


async def fill_one(store: Store) -> None:
    for link in store.router.fleet.up()[-1:]:
        link.full = True
    store.router.fleet._eligible = None


async def drain_one(store: Store) -> None:
    await store.meta.members.declare(store.putters[-1].name, Decision.DRAINING)
    fleet = store.router.fleet
    await until(lambda: bool(fleet._declared()), 60)


async def leave_one_out(store: Store) -> None:
    store.router.fleet.leave_out(frozenset({store.putters[-1].name}))


class TestWhatChanged:
    @pytest.mark.parametrize("change", [crash_one, drain_one, leave_one_out])
    def test_a_putter_that_should_not_get_it_any_more(
        self, monkeypatch: pytest.MonkeyPatch, change: Callable[[Store], Awaitable[None]]
    ) -> None:
        """Only the placement can tell: nothing is too old here."""

        async def scene(store: Store) -> None:
            monkeypatch.setattr(Ahead, "_is_old", lambda self, batch: False)
            (announced,) = await warm_up(store)
            nodes = store.meta.snapshot().buckets[OBJECTS].objects[announced].nodes
            victim = store.putters[-1].name
            assert victim in nodes
            await change(store)
            written = await send(store, 9)
            assert written.object_id != announced
            assert victim not in written.version.objects[0].extents[0].nodes
            await quiet(store)
            assert announced not in known(store)

        with_store(scene, 2, policy=Policy(2, 1), failover_ms=500)

    def test_settings_of_the_bucket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            monkeypatch.setattr(Ahead, "_is_old", lambda self, batch: False)
            (announced,) = await warm_up(store)
            await store.router.configure.change(OBJECTS, {"replicas": 3})
            written = await send(store, 9)
            assert written.object_id != announced
            assert (written.holders, written.version.replicas) == (3, 3)
            await quiet(store)
            assert announced not in known(store)

        with_store(scene, 3, policy=Policy(2, 2))

    def test_too_few_putters_for_a_strict_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            monkeypatch.setattr(Ahead, "_is_old", lambda self, batch: False)
            (announced,) = await warm_up(store)
            await crash_one(store)
            with pytest.raises(Exception, match="putters"):
                await send(store, 9)
            await quiet(store)
            assert announced not in known(store)

        with_store(scene, 2, policy=Policy(2, 2, "strict"))

    def test_redis_that_was_away_in_between(self) -> None:
        async def scene(store: Store) -> None:
            (announced,) = await warm_up(store)
            store.meta.down = True
            with pytest.raises(MetadataUnavailable):
                await store.meta.ping()
            store.meta.down = False
            assert (await send(store, 9)).object_id != announced
            await quiet(store)
            assert announced not in known(store)

        with_store(scene)

    def test_a_redis_that_kept_everything_in_another_run(self) -> None:
        async def scene(store: Store) -> None:
            (announced,) = await warm_up(store)
            store.meta.restart("run-2")
            with pytest.raises(MetadataUnavailable):
                await store.meta.files.resolve(OBJECTS, announced)
            assert (await send_until_it_serves(store)).object_id != announced
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            assert announced not in known(store), "withdrawn, or failed by the janitor"

        with_store(scene)

    def test_a_redis_that_forgot_it_without_a_word(self) -> None:
        """Nobody asked it in between: what is sent then fails, and nothing of it stays."""

        async def scene(store: Store) -> None:
            (announced,) = await warm_up(store)
            kept = store.meta.snapshot()
            del kept.buckets[OBJECTS].objects[announced]
            store.meta.restore(kept, store.meta.epoch)
            with pytest.raises(ObjectGone):
                await send(store, 9)
            await quiet(store)
            assert await store.state(announced) == "failed"
            await store.clean()
            assert await store.state(announced) == ""
            assert [len(p.tickets) for p in store.putters] == [2, 2]
            assert (await send(store, 10)).object_id != announced

        with_store(scene)


async def send_until_it_serves(store: Store) -> Written:
    for n in range(100):
        try:
            return await send(store, 100 + n)
        except MetadataUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError(store.router.catch_up.trouble)


class TestFailures:
    def test_a_group_that_is_given_up_uses_no_number_twice(self) -> None:
        async def scene(store: Store) -> None:
            announced = await warm_up(store, 10)
            store.putters[0].engine.fail["put"] = NoSpace("full")
            written = await send_all(store, 10, 100)
            assert not {each.object_id for each in written} & announced
            await quiet(store)
            assert announced <= in_state(store, "failed")
            del store.putters[0].engine.fail["put"]
            await store.clean()
            assert not announced & known(store)
            for each in written:
                assert await store.state(each.object_id) == "written"

        with_store(scene, 3, policy=Policy(2, 2))

    def test_no_answer_to_the_announcement(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The group that it went with is published all the same."""

        async def scene(store: Store) -> None:
            announce = MemoryAnnouncements.announce
            lost: set[str] = set()

            async def unheard(self: MemoryAnnouncements, item: Any) -> None:
                await announce(self, item)
                lost.update(item.object_ids)
                raise MetadataUnavailable("its answer got lost")

            with monkeypatch.context() as patch:
                patch.setattr(MemoryAnnouncements, "announce", unheard)
                for n in range(3):
                    await send(store, n)
                await quiet(store)
            assert len(lost) == 2
            assert not lost & known(store), "it was withdrawn"
            assert (await send(store, 9)).object_id not in lost

        with_store(scene)

    def test_no_stamps_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            await send(store, 1)
            announce, lease = MemoryAnnouncements.announce, MemoryCounters.lease
            begun: set[str] = set()
            stamps = iter(range(10))

            async def watched(self: MemoryAnnouncements, item: Any) -> None:
                begun.update(item.object_ids)
                await announce(self, item)

            async def none(self: MemoryCounters, kind: Kind, count: int) -> Any:
                if kind is Kind.STAMPS and next(stamps) == 1:
                    raise MetadataUnavailable("no stamps")
                return await lease(self, kind, count)

            with monkeypatch.context() as patch:
                patch.setattr(MemoryAnnouncements, "announce", watched)
                patch.setattr(MemoryCounters, "lease", none)
                await send(store, 2)
                await quiet(store)
            assert len(begun) == 1
            assert not begun & known(store)
            await send(store, 3)

        with_store(scene)

    def test_no_answer_to_the_publication(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was announced with it is good for the next group."""

        async def scene(store: Store) -> None:
            await send(store, 1)
            commit = MemoryObjects.commit
            unheard: list[str] = []

            async def lost(self: MemoryObjects, item: Any) -> Outcome:
                await commit(self, item)
                unheard.append(item.version.key)
                raise MetadataUnavailable("its answer got lost")

            with monkeypatch.context() as patch:
                patch.setattr(MemoryObjects, "commit", lost)
                with pytest.raises(MetadataUnavailable):
                    await send(store, 2)
            await quiet(store)
            (announced,) = in_state(store, "writing")
            assert (await send(store, 3)).object_id == announced
            assert await store.state(unheard[0]) == "written"

        with_store(scene)

    def test_a_withdrawal_that_fails_is_left_to_the_janitor(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            announced = await warm_up(store, 4)

            async def unheard(self: MemoryAnnouncements, *_: Any) -> None:
                raise MetadataUnavailable("away")

            with monkeypatch.context() as patch, capture_logs() as logs:
                patch.setattr(MemoryAnnouncements, "withdraw", unheard)
                await asyncio.sleep(2 * AHEAD_MS / 1000)
            assert not [line for line in logs if line["log_level"] in {"warning", "error"}]
            assert in_state(store, "writing") == announced
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            assert not announced & known(store)
            assert [len(p.tickets) for p in store.putters] == [8, 8]

        with_store(scene)

    def test_a_router_that_is_killed_leaves_them_to_the_janitor(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            announced = await warm_up(store, 5)
            ranges = {
                each.ranges[0][0]
                for name, each in store.meta.snapshot().buckets[OBJECTS].objects.items()
                if name in announced
            }
            kill(store.router)
            store.routers.remove(store.router)
            written = await send_all(store, 20, 100)
            assert not announced & {each.object_id for each in written}
            used = {ticket for each in written for ticket in tickets_of(each.version)}
            assert not ranges & used
            assert in_state(store, "writing") >= announced
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            assert not announced & known(store)
            assert metric(other.metrics, "putter_objects_freed_total") == 5
            for each in written:
                assert await store.state(each.object_id) == "written"

        with_store(scene)

    def test_it_holds_up_no_marks(self) -> None:
        """Whatever is announced now was decided, one way or the other, when they ask again."""

        async def scene(store: Store) -> None:
            announced = await warm_up(store, 5)
            watermark = store.router.watermark
            assert not await watermark.round()
            assert watermark._plan is not None
            assert announced <= {object_id for _, object_id in watermark._plan.writing}
            await asyncio.sleep(6)
            assert await watermark.round()

        with_store(scene)


def kill(router: Router) -> None:
    """It does nothing more, and says so to nobody."""
    ahead = router.writes._small._ahead
    if ahead._look is not None:
        ahead._look.cancel()
