"""What every coordinator promises about objects that are announced before anybody sent them."""

from __future__ import annotations

import pytest

from common.errors import MetadataUnavailable, ObjectGone
from common.meta.announcements import Announcement
from common.meta.interface import ObjectState, Outcome
from tests.metadata_kit import BUCKET, LONG_MS, SHORT_MS, World, begin, commit_of, stored, version

IDS = ("A", "B", "C")


def announcement(
    *ids: str, router: str = "r1", lease_ms: int = LONG_MS, nodes: tuple[str, ...] = ("n2", "n1")
) -> Announcement:
    return Announcement(BUCKET, ids or IDS, 100, router, lease_ms, nodes)


async def states(world: World, ids: tuple[str, ...] = IDS) -> list[str]:
    known = [await world.other.objects.get(object_id) for object_id in ids]
    return [each.state if each else "" for each in known]


async def test_what_is_announced_is_writing(world: World) -> None:
    await world.store.announcements.announce(announcement())
    for n, object_id in enumerate(IDS):
        assert await world.other.objects.get(object_id) == ObjectState(
            bucket=BUCKET,
            object_id=object_id,
            state="writing",
            tickets=0,
            acked=0,
            key="",
            stamp=0,
            router="r1",
            ranges=((100 + n, 1),),
            nodes=("n1", "n2"),
        )
    found = await world.store.recovery.writing(10)
    assert found is not None
    assert sorted(found) == [(BUCKET, object_id) for object_id in IDS]


async def test_it_is_published_or_fails_as_any_other(world: World) -> None:
    await world.store.announcements.announce(announcement())
    assert await world.store.objects.commit(commit_of(version("a", 9, stored("A")))) is (
        Outcome.PUBLISHED
    )
    assert await world.store.objects.fail(BUCKET, "B")
    assert await states(world) == ["written", "failed", "writing"]


async def test_a_repetition_changes_nothing(world: World) -> None:
    await world.store.announcements.announce(announcement())
    await world.store.objects.fail(BUCKET, "B")
    await world.store.announcements.announce(announcement(nodes=("n9",)))
    assert await states(world) == ["writing", "failed", "writing"]
    state = await world.store.objects.get("A")
    assert state is not None
    assert state.nodes == ("n1", "n2")


async def test_the_objects_of_another_router_stay_its_own(world: World) -> None:
    await world.store.objects.begin(begin("B", router="r2"))
    with pytest.raises(ObjectGone, match="another router"):
        await world.store.announcements.announce(announcement())


async def test_what_is_withdrawn_is_not_known_any_more(world: World) -> None:
    await world.store.announcements.announce(announcement())
    for _ in range(2):
        await world.store.announcements.withdraw(BUCKET, ("A", "C", "Z"))
        assert await states(world) == ["", "writing", ""]
    assert await world.store.recovery.writing(10) == [(BUCKET, "B")]
    await world.pass_time(SHORT_MS)
    assert await world.store.objects.to_free(10) == []


async def test_only_what_is_writing_is_withdrawn(world: World) -> None:
    await world.store.announcements.announce(announcement())
    await world.store.objects.commit(commit_of(version("a", 9, stored("A"))))
    await world.store.objects.fail(BUCKET, "B")
    await world.store.announcements.withdraw(BUCKET, IDS)
    assert await states(world) == ["written", "failed", ""]
    await world.store.announcements.withdraw("nobody", IDS)


async def test_a_janitor_finds_what_a_dead_router_announced(world: World) -> None:
    await world.store.announcements.announce(announcement(lease_ms=SHORT_MS))
    await world.pass_time(SHORT_MS)
    stale = await world.store.objects.stale(10)
    assert sorted(state.object_id for state in stale) == list(IDS)


async def test_an_identity_that_would_be_misread_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="identity"):
        await world.store.announcements.announce(announcement(router="two words"))
    with pytest.raises(ValueError, match="identity"):
        await world.store.announcements.announce(announcement(nodes=("a,b",)))


async def test_a_thousand_at_once(world: World) -> None:
    ids = tuple(f"O{n}" for n in range(3_000))
    await world.store.announcements.announce(announcement(*ids))
    found = await world.store.recovery.writing(10_000)
    assert found is not None
    assert {object_id for _, object_id in found} == set(ids)
    await world.store.announcements.withdraw(BUCKET, ids)
    assert await world.store.recovery.writing(10) == []


async def test_calls_in_vain_are_counted(lost_world: World) -> None:
    before = lost_world.store.lapses
    with pytest.raises(MetadataUnavailable):
        await lost_world.store.announcements.announce(announcement())
    assert lost_world.store.lapses > before
