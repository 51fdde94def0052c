"""Access keys: durable first, encrypted wherever they are, gone two seconds after deletion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from common.errors import (
    MetadataUnavailable,
    NotAuthorised,
    NotFound,
    PutterError,
    UsageError,
    WriteConflict,
)
from common.keys import ClusterKey, Keyring
from common.pairs import Pair, new_id, new_secret
from common.records import AccessKey, encode
from router.access_keys import KEEP_OLD_S_MAX, AccessKeys
from router.quorum import Policy
from router.recent import STALE_S
from router.rights import Key, RightsChange, Wanted
from tests.node_kit import KEY, RING, play, until
from tests.router_kit import Store
from tests.simulation.loop import World

NEW = ClusterKey.from_material(bytes(range(50, 82)))
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def with_store(scene: Callable[[Store], Awaitable[None]], putters: int = 3, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **({"policy": Policy(2, 2)} | options)).start(2)
        try:
            await scene(store)
        finally:
            RING.replace(Keyring([KEY]))
        await store.stop()

    play(main)


def keys(store: Store, router: int = 0) -> AccessKeys:
    return store.routers[router].access_keys


def kept(store: Store) -> list[AccessKey]:
    """The records of keys that putters hold, each as often as it is held."""
    found = [each for putter in store.putters for each in putter.records]
    return [each for each in found if isinstance(each, AccessKey)]


def test_a_key_is_durable_before_it_counts_and_its_secret_in_clear_nowhere() -> None:
    async def scene(store: Store) -> None:
        with capture_logs() as logs:
            issued = await keys(store).create(Wanted("AKIA", SECRET, "ann", True, {"a-b": "read"}))
        assert issued.secret == SECRET
        assert kept(store) == [issued.record] * 2
        assert await store.meta.access.get("AKIA") == issued.record
        assert issued.record.sealed_with == KEY.key_id
        assert SECRET.encode() not in encode(issued.record)
        told = json.dumps(logs) + repr(issued) + repr(issued.record)
        assert "AKIA" in told
        assert SECRET not in told
        for router in (0, 1):
            found = await keys(store, router).find("AKIA")
            assert found == Key("AKIA", SECRET, "ann", True, {"a-b": "read"})
            assert SECRET not in repr(found)

    with_store(scene)


def test_what_nobody_issued_is_not_found() -> None:
    async def scene(store: Store) -> None:
        for name in ("AKIA", "", "a/b", "ä" * 5, "x" * 129):
            assert await keys(store).find(name) is None

    with_store(scene)


def test_pairs_are_random_where_none_is_given() -> None:
    async def scene(store: Store) -> None:
        one = await keys(store).create(Wanted(new_id()))
        other = await keys(store).create(Wanted(new_id()))
        assert one.secret != other.secret
        assert one.record.key != other.record.key
        assert (len(one.secret), len(one.record.key)) == (40, 20)
        assert [each.owner for each in await keys(store).every()] == ["root", "root"]

    with_store(scene)
    assert len({new_secret() for _ in range(100)}) == 100


def test_no_two_keys_have_one_id() -> None:
    async def scene(store: Store) -> None:
        done = await asyncio.gather(
            *(keys(store, n % 2).create(Wanted("AKIA", f"secret-{n}")) for n in range(4)),
            return_exceptions=True,
        )
        refused = [each for each in done if isinstance(each, WriteConflict)]
        assert len(refused) == 3
        assert "already" in str(refused[0])
        assert len(kept(store)) == 2

    with_store(scene)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("ab"),
        Wanted("a/bc"),
        Wanted("x" * 129),
        Wanted("AKIA", "short"),
        Wanted("AKIA", "with a blank"),
        Wanted("AKIA", "x" * 129),
        Wanted("AKIA", "ä" * 9),
        Wanted("AKIA", owner=""),
        Wanted("AKIA", owner="two words"),
        Wanted("AKIA", buckets={"A": "read"}),
        Wanted("AKIA", buckets={"photos": "all"}),
        Wanted("AKIA", buckets={f"bucket-{n}": "read" for n in range(1001)}),
    ],
)
def test_what_no_key_can_be_is_refused(wanted: Wanted) -> None:
    async def scene(store: Store) -> None:
        with pytest.raises(UsageError) as caught:
            await keys(store).create(wanted)
        assert wanted.secret is None or wanted.secret not in str(caught.value)
        assert kept(store) == []

    with_store(scene)


def test_there_may_not_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.access_keys.ACCESS_KEYS_MAX", 2)

    async def scene(store: Store) -> None:
        for name in ("one", "two"):
            await keys(store).create(Wanted(name))
        with pytest.raises(UsageError, match="2 access keys"):
            await keys(store).create(Wanted("three"))
        await keys(store).delete("one")
        await keys(store).create(Wanted("three"))

    with_store(scene)


def test_a_key_that_is_deleted_counts_nowhere_after_two_seconds() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET))
        assert await keys(store, 1).find("AKIA") is not None
        await keys(store).delete("AKIA")
        assert await keys(store).find("AKIA") is None, "at once, in this router"
        assert await keys(store).every() == []
        await asyncio.sleep(STALE_S + 0.1)
        assert await keys(store, 1).find("AKIA") is None
        for action in (keys(store).delete("AKIA"), keys(store).rotate("AKIA")):
            with pytest.raises(NotFound):
                await action

    with_store(scene)


def test_an_id_may_come_back_after_it_was_deleted() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET))
        await keys(store).delete("AKIA")
        await keys(store).create(Wanted("AKIA", "another-secret"))
        found = await keys(store).find("AKIA")
        assert found is not None
        assert found.secret == "another-secret"

    with_store(scene)


def test_a_key_gets_another_secret_and_keeps_its_rights() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET, "ann", True, {"photos": "read"}))
        issued = await keys(store, 1).rotate("AKIA")
        assert issued.secret != SECRET
        given = await keys(store, 1).rotate("AKIA", "given-secret")
        assert given.secret == "given-secret"
        await asyncio.sleep(STALE_S + 0.1)
        found = await keys(store).find("AKIA")
        assert found == Key("AKIA", "given-secret", "ann", True, {"photos": "read"})
        with pytest.raises(UsageError):
            await keys(store).rotate("AKIA", "short")

    with_store(scene)


def test_an_old_secret_counts_for_a_while() -> None:
    async def scene(store: Store) -> None:
        def secrets(key: Key | None) -> tuple[str, ...]:
            assert key is not None
            return key.secrets(store.world.clock.now_ms())

        await keys(store).create(Wanted("AKIA", SECRET, "ann", True, {"photos": "read"}))
        issued = await keys(store).rotate("AKIA", "second-secret", keep_old_s=60)
        assert issued.record.former_until_ms == store.world.clock.now_ms() + 60_000
        assert SECRET.encode() not in issued.record.former
        found = await keys(store, 1).find("AKIA")
        assert secrets(found) == ("second-secret", SECRET)
        assert found is not None
        assert (found.owner, found.read_only, found.buckets) == ("ann", True, {"photos": "read"})
        await keys(store).rotate("AKIA", "third-secret", keep_old_s=60)
        held = await keys(store).find("AKIA")
        assert secrets(held) == ("third-secret", "second-secret"), "one old secret, no more"
        await asyncio.sleep(61)
        assert secrets(held) == ("third-secret",), "whoever remembers it knows when it ends"
        assert secrets(await keys(store).find("AKIA")) == ("third-secret",)
        await keys(store).rotate("AKIA", "fourth-secret")
        assert secrets(await keys(store).find("AKIA")) == ("fourth-secret",)
        for wrong in (-1, KEEP_OLD_S_MAX + 1):
            with pytest.raises(UsageError):
                await keys(store).rotate("AKIA", keep_old_s=wrong)
        with pytest.raises(NotFound):
            await keys(store).rotate("none", keep_old_s=1)

    with_store(scene)


def test_old_secrets_follow_the_cluster_key_too() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET))
        await keys(store).rotate("AKIA", "second-secret", keep_old_s=3600)
        RING.replace(Keyring([NEW, KEY]))
        assert await keys(store).reseal() == 1
        RING.replace(Keyring([NEW]))
        found = await keys(store).find("AKIA")
        assert found is not None
        assert found.secrets(store.world.clock.now_ms()) == ("second-secret", SECRET)

    with_store(scene)


def test_an_old_secret_that_no_cluster_key_opens_counts_no_more() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET))
        issued = await keys(store).rotate("AKIA", "second-secret", keep_old_s=3600)
        stamp = issued.record.stamp + 1
        lost = msgspec.structs.replace(issued.record, stamp=stamp, former_with="ffffffff")
        await store.meta.access.change(lost)
        found = await keys(store, 1).find("AKIA")
        assert found is not None
        assert found.secrets(store.world.clock.now_ms()) == ("second-secret",)
        assert await keys(store).reseal() == 1, "it is dropped"
        [record] = await keys(store).every()
        assert (record.former, record.former_until_ms) == (b"", 0)

    with_store(scene)


def test_a_key_gets_other_rights_and_keeps_its_secrets() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET, "ann", True, {"photos": "read"}))
        await keys(store).rotate("AKIA", "second-secret", keep_old_s=60)
        record = await keys(store).update("AKIA", RightsChange(buckets={}))
        assert (record.owner, record.read_only, record.buckets) == ("ann", True, {})
        await keys(store).update("AKIA", RightsChange("bob", False, {"music": "write"}))
        assert len({each.stamp for each in kept(store)}) == 4
        found = await keys(store, 1).find("AKIA")
        assert found is not None
        assert (found.owner, found.read_only, found.buckets) == ("bob", False, {"music": "write"})
        now_ms = store.world.clock.now_ms()
        assert found.secrets(now_ms) == ("second-secret", SECRET)
        for wrong in (RightsChange(buckets={"photos": "all"}), RightsChange(owner="")):
            with pytest.raises(UsageError):
                await keys(store).update("AKIA", wrong)
        with pytest.raises(NotFound):
            await keys(store).update("none", RightsChange(read_only=True))

    with_store(scene)


def test_a_store_begins_with_one_key() -> None:
    async def scene(store: Store) -> None:
        made = await asyncio.gather(keys(store).first(), keys(store, 1).first())
        [issued] = [each for each in made if each is not None]
        assert issued.record.owner == "root"
        found = await keys(store).find(issued.record.key)
        assert found is not None
        assert found.may("", write=True)
        assert await keys(store).first() is None
        await keys(store).delete(issued.record.key)
        assert await keys(store).first() is None, "whoever deleted the last key meant it"

    with_store(scene)


def test_the_first_key_is_told_again_to_whoever_missed_the_answer() -> None:
    async def scene(store: Store) -> None:
        store.meta.down = True
        with pytest.raises(MetadataUnavailable):
            await keys(store).first_told()
        store.meta.down = False
        [ask] = keys(store).answers.values()
        gone = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        gone.cancel()
        told = msgspec.json.decode(await ask(), type=Pair)
        found = await keys(store).find(told.access_key_id)
        assert found is not None
        assert found.secret == told.secret_key
        assert msgspec.json.decode(await ask(), type=Pair) == told
        assert await keys(store, 1).first_told() == b""
        assert len(await keys(store).every()) == 1

    with_store(scene)


@pytest.mark.parametrize(
    ("read_only", "buckets", "allowed"),
    [
        (False, {}, {"r", "w", "R", "W", "a", "A"}),
        (True, {}, {"r", "R", "a"}),
        (False, {"mine": "write"}, {"r", "w"}),
        (False, {"mine": "read"}, {"r"}),
        (True, {"mine": "write"}, {"r"}),
        (False, {"mine": "read", "other": "write"}, {"r", "R", "W"}),
        (False, {"mine": "of tomorrow"}, set()),
    ],
)
def test_what_a_key_may(read_only: bool, buckets: dict[str, str], allowed: set[str]) -> None:
    key = Key("AKIA", SECRET, "ann", read_only, buckets)
    asked = {"r": "mine", "w": "mine", "R": "other", "W": "other", "a": "", "A": ""}
    assert {each for each, b in asked.items() if key.may(b, write=each in "wWA")} == allowed


def test_after_redis_lost_everything_the_keys_are_back() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("kept", SECRET))
        await keys(store).create(Wanted("gone", SECRET))
        await keys(store).delete("gone")
        await keys(store).rotate("kept", "second-secret")
        store.meta.wipe("run-2")
        await store.router.catch_up.ensure(30_000)
        await asyncio.sleep(STALE_S + 0.1)
        for router in (0, 1):
            found = await keys(store, router).find("kept")
            assert found is not None
            assert found.secret == "second-secret"
            assert await keys(store, router).find("gone") is None
        assert [each.key for each in await keys(store).every()] == ["kept"]

    with_store(scene)


def test_a_putter_that_is_away_gets_the_record_later() -> None:
    async def scene(store: Store) -> None:
        await store.putters[1].crash()
        await until(lambda: len(store.router.fleet.up()) == 1)
        issued = await keys(store).create(Wanted("AKIA", SECRET))
        assert kept(store) == [issued.record]
        await store.putters[1].start()
        await until(lambda: len(store.router.fleet.up()) == 2, 30)
        await store.router.repair.round()
        assert kept(store) == [issued.record] * 2

    with_store(scene, 2)


def test_while_redis_is_away_no_old_key_is_used() -> None:
    async def scene(store: Store) -> None:
        await keys(store).create(Wanted("AKIA", SECRET))
        assert await keys(store).find("AKIA") is not None
        store.meta.down = True
        assert await keys(store).find("AKIA") is not None
        await asyncio.sleep(STALE_S + 0.1)
        with pytest.raises(MetadataUnavailable):
            await keys(store).find("AKIA")
        store.meta.down = False
        assert await keys(store).find("AKIA") is not None

    with_store(scene)


def test_secrets_follow_the_cluster_key() -> None:
    async def scene(store: Store) -> None:
        before = await keys(store).create(Wanted("AKIA", SECRET, "ann", True, {"photos": "read"}))
        assert await keys(store).reseal() == 0
        RING.replace(Keyring([NEW, KEY]))
        found = await keys(store).find("AKIA")
        assert found is not None
        assert found.secret == SECRET
        assert await keys(store).reseal() == 1
        assert await keys(store, 1).reseal() == 0
        [record] = await keys(store).every()
        assert record.sealed_with == NEW.key_id
        assert record.stamp > before.record.stamp
        assert kept(store).count(record) == 2
        RING.replace(Keyring([NEW]))
        found = await keys(store).find("AKIA")
        assert found == Key("AKIA", SECRET, "ann", True, {"photos": "read"})

    with_store(scene)


def test_what_no_cluster_key_opens_is_told_and_left_alone() -> None:
    async def scene(store: Store) -> None:
        issued = await keys(store).create(Wanted("AKIA", SECRET))
        lost = msgspec.structs.replace(
            issued.record, stamp=issued.record.stamp + 1, sealed_with="ffffffff"
        )
        await store.meta.access.change(lost)
        assert await keys(store).reseal() == 0
        with capture_logs() as logs, pytest.raises(NotAuthorised):
            await keys(store, 1).find("AKIA")
        assert "a secret cannot be read" in [each["event"] for each in logs]
        await keys(store).rotate("AKIA", SECRET)
        found = await keys(store).find("AKIA")
        assert found is not None

    with_store(scene)


def test_a_change_that_redis_did_not_hear_of_is_not_lost() -> None:
    async def scene(store: Store) -> None:
        change = store.meta.access.change

        async def away(record: AccessKey) -> bool:
            raise MetadataUnavailable("away")

        store.meta.access.change = away  # type: ignore[method-assign]
        with pytest.raises(PutterError):
            await keys(store).create(Wanted("AKIA", SECRET))
        store.meta.access.change = change  # type: ignore[method-assign]
        assert len(kept(store)) == 2
        watermark = store.router.watermark
        while not await watermark.round():
            await asyncio.sleep(5)
        found = await keys(store).find("AKIA")
        assert found is not None

    with_store(scene)
