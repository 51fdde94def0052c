"""The register of members: who is listed, who is refused, what an operator decided."""

from __future__ import annotations

from typing import Any

import pytest

from common.limits import MEMBER_LOST_MS
from common.membership import Decision, Refusal, State, Verdict
from common.meta.interface import Member
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Mark
from tests.metadata_kit import World

TAKEN = Verdict()


def putter(**said: Any) -> Member:
    about = {
        "node": "n1",
        "instance": "i1",
        "host": "here",
        "port": 5000,
        "starts": 1,
        "records": 0,
    }
    return Member(role="putter", **(about | said))


async def lost(world: World) -> None:
    """Let the last sign of life grow old: on a real server by its clock."""
    await world.pass_time(MEMBER_LOST_MS + 50)


async def mark(world: World, **numbers: int) -> None:
    standing = await world.store.recovery.standing()
    marks = {node: Mark(number, standing.epoch) for node, number in numbers.items()}
    assert await world.store.recovery.mark(standing.epoch, marks)


async def state(world: World) -> State:
    (seen,) = await world.other.members.seen()
    return seen.state


class TestWhoIsTaken:
    async def test_a_process_again_and_again(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter()) == TAKEN
        assert await world.other.members.heartbeat(putter(records=7)) == TAKEN
        assert await members.heartbeat(putter(records=6)) == TAKEN, "calls may overtake each other"
        (seen,) = await members.seen()
        assert (seen.member.starts, seen.member.records) == (1, 6)

    async def test_a_restart_at_the_same_address_at_once(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter(records=5)) == TAKEN
        assert await members.heartbeat(putter(instance="i2", starts=2, records=5)) == TAKEN
        (seen,) = await members.seen()
        assert seen.member.instance == "i2"

    async def test_a_second_process_is_refused_while_the_first_lives(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter()) == TAKEN
        clone = putter(instance="i2", host="there", starts=2)
        assert await members.heartbeat(clone) == Verdict(Refusal.CLONE, "here:5000")
        assert await members.heartbeat(clone, asks=True) == Verdict(Refusal.CLONE, "here:5000")
        (seen,) = await members.seen()
        assert seen.member == putter(), "the one that was refused left no trace"
        assert await members.heartbeat(putter()) == TAKEN

    async def test_another_port_is_another_address(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter()) == TAKEN
        verdict = await members.heartbeat(putter(instance="i2", port=5001, starts=2))
        assert verdict == Verdict(Refusal.CLONE, "here:5000")

    async def test_one_that_moved_once_the_first_is_lost(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter(records=3)) == TAKEN
        moved = putter(instance="i2", host="there", starts=2, records=3)
        await lost(world)
        assert await members.heartbeat(moved, asks=True) == TAKEN
        # The first one hears of it.
        assert await members.heartbeat(putter(records=3)) == Verdict(Refusal.CLONE, "there:5000")

    async def test_one_that_moved_after_the_first_signed_off(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter()) == TAKEN
        await members.leave("n1", "i1")
        assert await members.heartbeat(putter(instance="i2", host="there", starts=2)) == TAKEN

    @pytest.mark.parametrize("starts", [3, 2, 1, 0])
    async def test_a_copy_that_was_started_less_often(self, world: World, starts: int) -> None:
        members = world.store.members
        assert await members.heartbeat(putter(starts=3)) == TAKEN
        older = putter(instance="i2", starts=starts)
        assert await members.heartbeat(older) == Verdict(Refusal.STARTS, "3")
        await members.leave("n1")
        assert await members.heartbeat(older) == Verdict(Refusal.STARTS, "3"), "it is remembered"
        assert await members.heartbeat(putter(instance="i3", starts=4)) == TAKEN

    async def test_directories_whose_starts_nobody_counts(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter(starts=0)) == TAKEN
        assert await members.heartbeat(putter(instance="i2", starts=0)) == TAKEN
        assert await members.heartbeat(putter(instance="i3", starts=1)) == TAKEN
        verdict = await members.heartbeat(putter(instance="i4", starts=0))
        assert verdict == Verdict(Refusal.STARTS, "1")

    async def test_a_copy_with_fewer_records_than_it_told_of(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter(records=9)) == TAKEN
        older = putter(instance="i2", starts=2, records=8)
        assert await members.heartbeat(older) == Verdict(Refusal.RECORDS, "9")
        assert await members.heartbeat(putter(instance="i3", starts=2, records=9)) == TAKEN

    async def test_a_copy_with_fewer_records_than_are_applied(self, world: World) -> None:
        members = world.store.members
        await mark(world, n1=20)
        assert await members.heartbeat(putter(records=19)) == Verdict(Refusal.RECORDS, "20")
        assert await members.seen() == []
        assert await members.heartbeat(putter(records=20)) == TAKEN
        await mark(world, n1=25)
        assert await members.heartbeat(putter(records=21)) == TAKEN, "it is on its way since"
        older = putter(instance="i2", starts=2, records=24)
        assert await members.heartbeat(older) == Verdict(Refusal.RECORDS, "25")

    async def test_a_register_that_lost_everything_begins_anew(self, lost_world: World) -> None:
        members = lost_world.store.members
        asks = putter(starts=1)
        assert await members.heartbeat(asks, asks=True) == Verdict(Refusal.UNKNOWN)
        assert await members.seen() == []
        assert await members.heartbeat(asks) == TAKEN
        assert await members.heartbeat(asks, asks=True) == TAKEN

    async def test_routers_are_never_refused(self, world: World) -> None:
        members = world.store.members
        for n in range(3):
            router = Member("r", "router", f"i{n}", f"host{n}", 5001)
            assert await members.heartbeat(router) == TAKEN
        (seen,) = await members.seen()
        assert (seen.member.instance, seen.state) == ("i2", State.LIVE)

    async def test_the_old_one_does_not_sign_the_new_one_off(self, world: World) -> None:
        members = world.store.members
        assert await members.heartbeat(putter()) == TAKEN
        assert await members.heartbeat(putter(instance="i2", starts=2)) == TAKEN
        await members.leave("n1", "i1")
        assert len(await members.seen()) == 1
        await members.leave("n1", "i2")
        assert await members.seen() == []

    async def test_instances_that_would_be_misread_are_refused(self, world: World) -> None:
        if isinstance(world.store, MemoryMetadata):
            pytest.skip("nothing is written down as text there")
        with pytest.raises(ValueError, match="identity"):
            await world.store.members.heartbeat(putter(instance="two words"))


class TestStates:
    async def test_joining_until_its_records_are_applied_in_this_run(self, world: World) -> None:
        await world.store.members.heartbeat(putter())
        assert await state(world) is State.JOINING
        standing = await world.store.recovery.standing()
        assert await world.store.recovery.mark(standing.epoch, {"n1": Mark(0, "another run")})
        assert await state(world) is State.JOINING
        await mark(world, n1=0)
        assert await state(world) is State.LIVE

    async def test_silence(self, world: World) -> None:
        await world.store.members.heartbeat(putter())
        await mark(world, n1=0)
        await lost(world)
        assert await state(world) is State.DOWN
        await world.store.members.heartbeat(putter())
        assert await state(world) is State.LIVE


class TestDecisions:
    async def test_draining_survives_signs_of_life(self, world: World) -> None:
        members = world.store.members
        await members.heartbeat(putter())
        await mark(world, n1=0)
        assert await members.declare("n1", Decision.DRAINING)
        assert await members.declare("n1", Decision.DRAINING)
        assert await state(world) is State.DRAINING
        assert await members.heartbeat(putter()) == TAKEN
        assert await members.heartbeat(putter(instance="i2", starts=2)) == TAKEN
        assert await state(world) is State.DRAINING
        assert await world.other.members.decisions() == {"n1": Decision.DRAINING}
        assert await members.declare("n1", None)
        assert await state(world) is State.LIVE
        assert await members.decisions() == {}

    async def test_a_decision_outlasts_the_listing(self, world: World) -> None:
        members = world.store.members
        await members.heartbeat(putter())
        await members.declare("n1", Decision.DRAINING)
        await members.leave("n1")
        assert await members.decisions() == {"n1": Decision.DRAINING}
        await members.heartbeat(putter())
        assert await state(world) is State.DRAINING

    async def test_nobody_is_declared_whom_nobody_knows(self, world: World) -> None:
        members = world.store.members
        for decision in (*Decision, None):
            assert not await members.declare("n1", decision)
        assert await members.decisions() == {}
        await mark(world, n1=3)
        assert await members.declare("n1", Decision.GONE), "one of which records were applied"

    async def test_what_records_tell_is_in_force_again_and_hides_nothing_newer(
        self, world: World
    ) -> None:
        members = world.store.members
        await members.heartbeat(putter())
        await mark(world, n1=4, n2=5)
        await members.declare("n1", Decision.DRAINING)
        told = {"n1": Decision.GONE, "n2": Decision.GONE, "n3": Decision.DRAINING}
        assert await members.redeclare(told)
        assert not await members.redeclare(told)
        assert await world.other.members.decisions() == told | {"n1": Decision.DRAINING}
        assert set((await world.store.recovery.standing()).marks) == {"n1"}
        assert await members.heartbeat(putter(node="n2", records=3)) == Verdict(Refusal.GONE)

    async def test_one_that_is_gone_is_refused(self, world: World) -> None:
        members = world.store.members
        await members.heartbeat(putter(records=4))
        await mark(world, n1=4)
        assert await members.declare("n1", Decision.GONE)
        assert await state(world) is State.GONE
        assert (await world.store.recovery.standing()).marks == {}
        assert await members.heartbeat(putter(records=4)) == Verdict(Refusal.GONE)
        restarted = putter(instance="i2", starts=2, records=4)
        assert await members.heartbeat(restarted) == Verdict(Refusal.GONE)
        assert await members.heartbeat(restarted, asks=True) == Verdict(Refusal.GONE)
        assert not await members.declare("n1", Decision.DRAINING)
        assert await state(world) is State.GONE

    async def test_one_that_is_gone_returns_empty(self, world: World) -> None:
        members = world.store.members
        await members.heartbeat(putter(starts=8))
        await members.declare("n1", Decision.GONE)
        assert await members.heartbeat(putter(starts=8)) == Verdict(Refusal.GONE), "the same one"
        empty = putter(instance="i2", host="there")
        verdict = await members.heartbeat(empty)
        assert verdict == Verdict(Refusal.CLONE, "here:5000"), "who was alive may not know yet"
        await lost(world)
        assert await members.heartbeat(empty, asks=True) == TAKEN
        assert await state(world) is State.JOINING
        assert await members.decisions() == {}
        assert await members.heartbeat(empty) == TAKEN

    async def test_one_that_is_gone_is_taken_back(self, world: World) -> None:
        members = world.store.members
        await members.heartbeat(putter(starts=8, records=9))
        await mark(world, n1=9)
        await members.declare("n1", Decision.GONE)
        assert await members.declare("n1", None)
        assert await members.seen() == [], "until it comes"
        older = putter(instance="i2", host="there", starts=3, records=2)
        verdict = await members.heartbeat(older)
        assert verdict == Verdict(Refusal.CLONE, "here:5000"), "who was alive may not know yet"
        older = putter(instance="i2", starts=3, records=2)
        assert await members.heartbeat(older) == TAKEN, "with whatever it has"
        assert await state(world) is State.JOINING
        assert (await world.store.recovery.standing()).marks == {}
