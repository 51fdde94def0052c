"""The sign of life: again and again, through failures, until it leaves."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import MetadataUnavailable, PutterError, StorageError
from common.heartbeat import Heartbeat
from common.limits import HEARTBEAT_MS, MEMBER_LOST_MS
from common.membership import Refusal, Verdict
from common.meta.interface import Member, Seen
from tests.simulation.loop import World, run

BEAT_S = HEARTBEAT_MS / 1000


class Register:
    """Members that note what they are told, and when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[tuple[float, Member]] = []
        self.asked: list[bool] = []
        self.left: list[str] = []
        self.error: Exception | None = None
        self.hangs = False
        self.verdict = Verdict()

    async def heartbeat(self, member: Member, *, asks: bool = False) -> Verdict:
        await self._answer()
        self.told.append((round(self.world.loop.time(), 3), member))
        self.asked.append(asks)
        return self.verdict

    async def leave(self, node: str, instance: str = "") -> None:
        await self._answer()
        assert instance == "i"
        self.left.append(node)

    async def seen(self) -> list[Seen]:
        raise AssertionError

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


class Described:
    """A member whose free space shrinks, and whose disk may refuse to tell."""

    def __init__(self) -> None:
        self.free = 100
        self.records = 0
        self.more = 0
        self.error: PutterError | None = None

    def __call__(self) -> Member:
        if self.error is not None:
            raise self.error
        self.free -= 1
        self.records += self.more
        return Member("n", "putter", "i", "h", 5000, free_bytes=self.free, records=self.records)


def play(scene) -> None:
    async def main(world: World) -> None:
        register, describe = Register(world), Described()
        await scene(register, Heartbeat(register, describe), describe)

    run(main, 1, limit_s=600)


def test_it_registers_at_once_and_every_second_with_fresh_numbers() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        assert not heartbeat.healthy
        heartbeat.start()
        await asyncio.sleep(3.5 * BEAT_S)
        assert heartbeat.healthy
        assert [at for at, _ in register.told] == [0, BEAT_S, 2 * BEAT_S, 3 * BEAT_S]
        assert [member.free_bytes for _, member in register.told] == [99, 98, 97, 96]
        await heartbeat.stop()

    play(scene)


def test_one_lost_beat_is_not_the_end_of_a_member() -> None:
    assert 3 * HEARTBEAT_MS < MEMBER_LOST_MS


@pytest.mark.parametrize("error", [MetadataUnavailable("no answer"), ValueError("a bug")])
def test_it_goes_on_through_failures(error: Exception) -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(1.5 * BEAT_S)
        register.error = error
        await asyncio.sleep(2 * BEAT_S)
        assert not heartbeat.healthy
        assert len(register.told) == 2
        register.error = None
        await asyncio.sleep(BEAT_S)
        assert heartbeat.healthy
        assert len(register.told) == 3
        await heartbeat.stop()

    play(scene)


def test_a_disk_that_cannot_tell_its_numbers_is_no_sign_of_life() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        describe.error = StorageError("the disk is on fire")
        await asyncio.sleep(2 * BEAT_S)
        assert not heartbeat.healthy
        describe.error = None
        await asyncio.sleep(BEAT_S)
        assert heartbeat.healthy
        await heartbeat.stop()

    play(scene)


def test_it_leaves_when_it_stops_and_is_silent_from_then_on() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        await heartbeat.stop()
        assert register.left == ["n"]
        await asyncio.sleep(5 * BEAT_S)
        assert len(register.told) == 1
        await heartbeat.stop()
        assert register.left == ["n"], "a second stop does nothing"

    play(scene)


def test_a_heartbeat_that_never_began_has_nothing_to_stop() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        await heartbeat.stop()
        assert register.left == []

    play(scene)


def test_stopping_does_not_wait_long_for_a_coordinator() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        register.hangs = True
        await asyncio.sleep(BEAT_S)
        began = register.world.loop.time()
        await heartbeat.stop()
        assert register.world.loop.time() - began <= BEAT_S

    play(scene)


def test_stopping_takes_no_offence_at_a_refusal() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        register.error = MetadataUnavailable("no answer")
        await heartbeat.stop()
        assert register.left == []

    play(scene)


ELSEWHERE = Verdict(Refusal.CLONE, "there:5000")


def test_one_that_is_refused_goes_on_asking_until_it_is_taken() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        register.verdict = ELSEWHERE
        heartbeat.start()
        await asyncio.sleep(2.5 * BEAT_S)
        assert not heartbeat.healthy
        assert not heartbeat.admitted
        assert "alive at there:5000" in heartbeat.refusal
        assert register.asked == [False, True, True]
        register.verdict = Verdict()
        await asyncio.sleep(2 * BEAT_S)
        assert heartbeat.admitted
        assert heartbeat.refusal == ""
        assert register.asked[-1] is False
        await heartbeat.stop()
        assert register.left == ["n"]

    play(scene)


def test_one_that_is_refused_does_not_sign_off_whom_it_was_refused_for() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        register.verdict = ELSEWHERE
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        await heartbeat.stop()
        assert register.left == []

    play(scene)


@pytest.mark.parametrize("refusal", [Refusal.CLONE, Refusal.STARTS, Refusal.RECORDS])
def test_one_that_was_taken_ends_when_another_takes_its_place(refusal: Refusal) -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        register.verdict = Verdict(refusal, "7")
        await asyncio.sleep(3 * BEAT_S)
        assert heartbeat.superseded
        assert not heartbeat.admitted
        assert len(register.told) == 2, "it asks no more"
        await heartbeat.stop()
        assert register.left == []

    play(scene)


def test_a_number_that_was_out_of_date_when_it_arrived_ends_nothing() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(BEAT_S / 2)
        describe.more = 1  # it writes all the time
        register.verdict = Verdict(Refusal.RECORDS, "7")
        await asyncio.sleep(3 * BEAT_S)
        assert not heartbeat.superseded
        describe.more = 0
        await asyncio.sleep(BEAT_S)
        assert heartbeat.superseded, "now it is what it has"
        await heartbeat.stop()

    play(scene)


def test_a_disk_that_cannot_tell_is_believed_to_have_no_more() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(BEAT_S / 2)
        member = describe()
        describe.error = StorageError("unreadable")
        heartbeat._take(member, Verdict(Refusal.RECORDS, "7"))
        assert heartbeat.superseded
        await heartbeat.stop()

    play(scene)


def test_one_that_is_declared_gone_waits_for_better_days() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        register.verdict = Verdict(Refusal.GONE)
        await asyncio.sleep(2 * BEAT_S)
        assert not heartbeat.superseded
        assert "declared gone" in heartbeat.refusal
        register.verdict = Verdict()
        await asyncio.sleep(BEAT_S)
        assert heartbeat.admitted
        await heartbeat.stop()

    play(scene)


def test_a_register_that_forgot_everything_is_not_taken_by_surprise() -> None:
    """The one that it was refused for has the time in which it would be lost."""

    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        register.verdict = ELSEWHERE
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        register.verdict = Verdict(Refusal.UNKNOWN)
        await asyncio.sleep(MEMBER_LOST_MS / 1000 + 2 * BEAT_S)
        beats = MEMBER_LOST_MS // HEARTBEAT_MS + 1
        assert register.asked == [False, *[True] * beats, False]
        await heartbeat.stop()

    play(scene)


def test_a_refusal_in_between_begins_the_wait_anew() -> None:
    async def scene(register: Register, heartbeat: Heartbeat, describe: Described) -> None:
        register.verdict = Verdict(Refusal.UNKNOWN)
        heartbeat.start()
        await asyncio.sleep(4.5 * BEAT_S)
        register.verdict = ELSEWHERE
        await asyncio.sleep(BEAT_S)
        register.verdict = Verdict(Refusal.UNKNOWN)
        await asyncio.sleep(4 * BEAT_S)
        assert all(register.asked[1:])
        await heartbeat.stop()

    play(scene)


def test_every_answer_is_told() -> None:
    async def main(world: World) -> None:
        register, heard = Register(world), []
        heartbeat = Heartbeat(
            register, Described(), lambda: heard.append((heartbeat.admitted, heartbeat.refusal))
        )
        register.verdict = Verdict(Refusal.GONE)
        heartbeat.start()
        await asyncio.sleep(0.5 * BEAT_S)
        register.verdict = Verdict()
        await asyncio.sleep(BEAT_S)
        register.error = MetadataUnavailable("no answer")
        await asyncio.sleep(BEAT_S)
        assert [admitted for admitted, _ in heard] == [False, True]
        assert heartbeat.admitted, "a register that does not answer refuses nobody"
        await heartbeat.stop()

    run(main, 1, limit_s=600)
