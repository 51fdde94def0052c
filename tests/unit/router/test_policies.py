"""A bucket's own N, W, R and consistency: what counts, from when on, and in which paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MetadataUnavailable, NodesUnavailable, UsageError
from common.meta.buckets import Configured
from common.records import BucketSettings
from common.settings import FIELDS
from router.blocks import ChunkSource
from router.policies import (
    NAMES,
    OwnPolicy,
    Policies,
    check_quorums,
    own_policy,
    policy_of,
)
from router.quorum import Policy
from router.recent import REFRESH_S, STALE_S
from router.targets import Target
from tests.node_kit import play, until
from tests.router_kit import FRAME, Store, payload
from tests.simulation.loop import World

STORE = Policy(2, 2)
COUNTS = st.integers(1, 8)
CONSISTENCIES: Any = st.sampled_from(["available", "strict"])


@st.composite
def stores(draw: st.DrawFn) -> Policy:
    replicas = draw(COUNTS)
    quorums = st.integers(1, replicas)
    return Policy(replicas, draw(quorums), draw(CONSISTENCIES), draw(quorums))


OWN = st.builds(
    OwnPolicy, COUNTS | st.none(), COUNTS | st.none(), COUNTS | st.none(), CONSISTENCIES | st.none()
)


class TestArithmetic:
    @given(stores(), OWN)
    def test_what_a_bucket_says_counts_as_far_as_it_can(
        self, store: Policy, own: OwnPolicy
    ) -> None:
        policy = policy_of(store, own)
        assert policy.replicas == (own.replicas or store.replicas)
        assert policy.consistency == (own.consistency or store.consistency)
        for name in ("write_quorum", "read_quorum"):
            wanted = getattr(own, name) or getattr(store, name)
            assert getattr(policy, name) == min(wanted, policy.replicas)

    @given(stores(), OWN)
    def test_what_is_not_refused_counts_as_it_is_said(self, store: Policy, own: OwnPolicy) -> None:
        policy = policy_of(store, own)
        as_said = own.write_quorum in (None, policy.write_quorum) and own.read_quorum in (
            None,
            policy.read_quorum,
        )
        if as_said:
            check_quorums(store, own)
        else:
            with pytest.raises(UsageError, match="is more than"):
                check_quorums(store, own)

    def test_nothing_said_is_the_store(self) -> None:
        assert policy_of(STORE, own_policy({})) == STORE
        assert policy_of(STORE, own_policy({"of-tomorrow": 7, "replicas": None})) == STORE

    @pytest.mark.parametrize(
        "settings",
        [{"replicas": 0}, {"replicas": 9}, {"replicas": "3"}, {"write_quorum": 1.5},
         {"read_quorum": True}, {"consistency": "perhaps"}],
    )  # fmt: skip
    def test_values_that_cannot_be(self, settings: dict[str, Any]) -> None:
        with pytest.raises(UsageError) as caught:
            own_policy(settings)
        assert next(iter(settings)) in str(caught.value)
        assert "1…8" in caught.value.hint

    def test_quorums_beyond_the_replicas(self) -> None:
        with pytest.raises(UsageError, match="write_quorum 3 is more than the store's replicas 2"):
            check_quorums(STORE, OwnPolicy(write_quorum=3))
        with pytest.raises(UsageError, match="read_quorum 2 is more than the bucket's replicas 1"):
            check_quorums(STORE, OwnPolicy(replicas=1, read_quorum=2))
        check_quorums(STORE, OwnPolicy(replicas=1))

    def test_the_names_are_those_of_the_settings(self) -> None:
        assert set(NAMES) <= set(FIELDS)


class Held:
    """Settings of buckets that count how often they are asked for."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.asked = 0
        self.down = False

    async def get(self, bucket: str) -> Configured | None:
        self.asked += 1
        told = dict(self.settings)
        await asyncio.sleep(0.01)
        if self.down:
            raise MetadataUnavailable("away")
        return Configured(BucketSettings(bucket, 1, 1, told)) if told else None


def with_policies(scene: Callable[[Held, Policies], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        held = Held()
        policies = Policies(held, STORE)  # type: ignore[arg-type]
        await scene(held, policies)
        await policies.stop()

    play(main)


class TestMemory:
    def test_one_question_for_all_who_ask_and_none_for_a_while(self) -> None:
        async def scene(held: Held, policies: Policies) -> None:
            assert policies.known("b") is None
            assert set(await asyncio.gather(*(policies.of("b") for _ in range(9)))) == {STORE}
            await asyncio.sleep(REFRESH_S / 2)
            assert policies.known("b") == await policies.of("b") == STORE
            assert held.asked == 1

        with_policies(scene)

    def test_a_change_counts_within_two_seconds(self) -> None:
        async def scene(held: Held, policies: Policies) -> None:
            await policies.of("b")
            held.settings["replicas"] = 3
            await asyncio.sleep(STALE_S + 0.1)
            assert policies.known("b") is None
            assert (await policies.of("b")).replicas == 3

        with_policies(scene)

    def test_one_that_is_used_is_read_again_without_waiting(self) -> None:
        async def scene(held: Held, policies: Policies) -> None:
            await policies.of("b")
            held.settings["replicas"] = 3
            await asyncio.sleep(REFRESH_S + 0.1)
            assert policies.known("b") == STORE
            assert policies.known("b") == STORE
            await asyncio.sleep(0.1)
            renewed = policies.known("b")
            assert renewed is not None
            assert renewed.replicas == 3
            assert held.asked == 2

        with_policies(scene)

    def test_while_redis_is_away_nothing_old_is_used(self) -> None:
        async def scene(held: Held, policies: Policies) -> None:
            await policies.of("b")
            held.down = True
            await asyncio.sleep(REFRESH_S + 0.1)
            assert policies.known("b") == STORE
            await asyncio.sleep(STALE_S)
            assert policies.known("b") is None
            with pytest.raises(MetadataUnavailable):
                await policies.of("b")
            held.down = False
            assert await policies.of("b") == STORE

        with_policies(scene)

    def test_what_was_asked_before_a_change_here_is_not_remembered(self) -> None:
        async def scene(held: Held, policies: Policies) -> None:
            early = asyncio.ensure_future(policies.of("b"))
            await asyncio.sleep(0.001)
            held.settings["replicas"] = 3
            policies.changed("b")
            assert await early == STORE
            assert policies.known("b") is None
            assert (await policies.of("b")).replicas == 3

        with_policies(scene)

    def test_settings_that_make_no_sense_are_passed_over(self) -> None:
        async def scene(held: Held, policies: Policies) -> None:
            held.settings["replicas"] = "many"
            assert await policies.of("b") == STORE

        with_policies(scene)

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("router.policies._REMEMBERED_MAX", 3)

        async def scene(held: Held, policies: Policies) -> None:
            for name in "abcde":
                await policies.of(name)
            assert [name for name in "abcde" if policies.known(name)] == ["c", "d", "e"]

        with_policies(scene)


async def configure(store: Store, bucket: str, **settings: Any) -> None:
    stamp = await store.router.numbers.stamp()
    assert await store.meta.buckets.change(BucketSettings(bucket, stamp, 0, settings))
    await asyncio.sleep(STALE_S)


def with_store(scene: Callable[[Store], Awaitable[None]], putters: int = 3, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        await store.stop()

    play(main)


SIZES = {"empty": 0, "small": 1_000, "large": 300_000}


class TestPaths:
    @pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
    def test_a_write_goes_to_as_many_as_its_bucket_wants(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await configure(store, "three", replicas=3, write_quorum=3)
            await configure(store, "one", replicas=1)
            for bucket, copies in (("three", 3), ("one", 1), ("photos", 2)):
                written = await store.write(payload(size, bucket), "cat", bucket=bucket)
                assert written.version.replicas == written.holders == copies, bucket
                for stored in written.version.objects:
                    assert [len(extent.nodes) for extent in stored.extents] == [copies]
                assert await store.read("cat", bucket=bucket) == payload(size, bucket)
            held = sum(
                any(getattr(record, "bucket", "") == "three" for record in putter.records)
                for putter in store.putters
            )
            assert held == 3

        with_store(scene)

    def test_groups_of_small_objects_are_of_one_policy(self) -> None:
        async def scene(store: Store) -> None:
            await configure(store, "three", replicas=3)
            await configure(store, "one", replicas=1)
            copies = {"three": 3, "one": 1, "photos": 2}
            buckets = [list(copies)[n % 3] for n in range(90)]
            written = await asyncio.gather(
                *(store.write(payload(500, n), f"k{n}", bucket=b) for n, b in enumerate(buckets))
            )
            for bucket, each in zip(buckets, written, strict=True):
                [stored] = each.version.objects
                assert len(stored.extents[0].nodes) == copies[bucket]
            for n, bucket in enumerate(buckets):
                assert await store.read(f"k{n}", bucket=bucket) == payload(500, n)

        with_store(scene)

    @pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
    def test_a_strict_bucket_in_an_available_store(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await configure(store, "careful", consistency="strict")
            await store.putters[0].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            assert (await store.write(payload(size), "cat", bucket="photos")).degraded
            with pytest.raises(NodesUnavailable, match="only 1 of the 2"):
                await store.write(payload(size), "cat", bucket="careful")

        with_store(scene, 2)

    def test_a_tombstone_is_as_durable_as_its_bucket_wants(self) -> None:
        async def scene(store: Store) -> None:
            await configure(store, "three", replicas=3, write_quorum=3)
            await store.write(payload(100), "cat", bucket="three")
            before = [len(putter.records) for putter in store.putters]
            assert await store.router.writes.delete("three", "cat")
            assert [len(putter.records) for putter in store.putters] == [n + 1 for n in before]

        with_store(scene)

    def test_a_read_verifies_as_many_as_its_bucket_wants(self) -> None:
        async def scene(store: Store) -> None:
            await configure(store, "sure", read_quorum=2)
            for bucket in ("sure", "photos"):
                version = (await store.write(payload(9 * FRAME), "cat", bucket=bucket)).version
                for putter in store.putters:
                    putter.engine.log.clear()
                piece = await store.router.reads.short(version, 0, version.size)
                assert piece is not None
                asked = sum("read" in putter.engine.log for putter in store.putters)
                assert (piece.replicas, asked) == ((2, 2) if bucket == "sure" else (0, 1))
                store.router.reads.give(piece)

        with_store(scene, 2)

    def test_settings_that_change_while_a_long_object_travels(self) -> None:
        """It is described by those of its end: what they want more is owed."""

        async def scene(store: Store) -> None:
            data = payload(3_000_000)

            async def body() -> AsyncIterator[bytes]:
                yield data[:1_500_000]
                await configure(store, "photos", replicas=3)
                yield data[1_500_000:]

            path = store.router.writes
            source = ChunkSource(body(), path.filler())
            written = await path.write(source, Target("photos", "cat"))
            source.close()
            assert written.version.replicas == 3
            [stored] = written.version.objects
            assert all(len(e.nodes) == 2 and e.owed == {"*": ""} for e in stored.extents)
            assert written.degraded
            while await store.router.repair.round():
                pass
            held = await store.router.reads.resolve("photos", "cat")
            assert {len(extent.nodes) for extent in held.objects[0].extents} == {3}
            assert await store.read() == data

        with_store(scene)
