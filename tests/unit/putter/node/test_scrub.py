"""Passes over a node's disk: when they begin, how fast they go, and where they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from common.clock import ManualClock
from common.errors import NoSpace, ProtocolError, StorageError
from common.limits import MIB
from common.metrics import Metrics
from common.wire.scrubbing import Scrub
from putter.node.committer import Committer
from putter.node.passes import STOOD_MAX, LastPass, Pass, Position, note_place
from putter.node.scrub import (
    DEMANDED_BYTES_PER_S,
    LOOK_S,
    NOT_VERIFIED,
    NOTE,
    SAVE_S,
    UNKNOWN,
    Scrubber,
    answer_scrub,
)
from putter.storage.damage import Damage
from putter.storage.marked import DAMAGE, MarkedEngine
from putter.storage.notes import MemoryNotes, Notes
from putter.storage.scrub import Check, Finding, Part, Scrubbed
from tests.node_kit import FaultyEngine, HeldDisk, play, until
from tests.router_kit import metric
from tests.storage_kit import CHECK, data_for, run_of, spoilt

PERIOD_S = 1_000
RATE = MIB


class Scripted(FaultyEngine):
    """Scrubs as it is told, and remembers when it was asked, with what cursor."""

    def __init__(self, *answers: Scrubbed | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[tuple[float, str]] = []

    def scrub(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        self.asked.append((asyncio.get_running_loop().time(), cursor))
        answer = self.answers.pop(0) if self.answers else Scrubbed("", 0, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def cursors(self) -> list[str]:
        return [cursor for _, cursor in self.asked]

    @property
    def pauses(self) -> list[float]:
        return [after - before for (before, _), (after, _) in pairwise(self.asked)]


class Mending(Scripted):
    """Can make everything again."""

    def __init__(self, *answers: Scrubbed | Exception) -> None:
        super().__init__(*answers)
        self.mended: list[Finding] = []

    def mend(self, finding: Finding) -> bool:
        self.mended.append(finding)
        return True


class Bench:
    """One scrubber and all that it needs; the clock goes with the loop."""

    def __init__(
        self,
        engine: FaultyEngine,
        notes: Notes | None = None,
        *,
        rate: int = RATE,
        period_s: float = PERIOD_S,
    ) -> None:
        self.metrics = Metrics("putter")
        self.notes = notes or MemoryNotes()
        self.damage = Damage(self.notes.load(DAMAGE))
        self.engine = MarkedEngine(engine, self.notes, self.damage, CHECK)
        self.committer = Committer(self.engine, HeldDisk(), self.metrics)
        self.clock = LoopClock()
        self.scrubber = Scrubber(
            self.engine,
            self.committer,
            HeldDisk(),
            CHECK,
            self.metrics,
            self.clock,
            rate_bytes_per_s=rate,
            period_s=period_s,
        )

    @property
    def position(self) -> Position:
        """As the note has it."""
        return msgspec.json.decode(self.notes.load(NOTE) or b"{}", type=Position)

    async def stop(self) -> None:
        await self.scrubber.stop()
        await self.committer.stop()


class LoopClock(ManualClock):
    """Shows the time of the loop."""

    def now_ms(self) -> int:
        return 1_700_000_000_000 + int(asyncio.get_running_loop().time() * 1000)


def scene(
    engine: FaultyEngine,
    main: Callable[[Bench], Awaitable[Any]],
    notes: Notes | None = None,
    **options: Any,
) -> Bench:
    """Start a scrubber, do something, stop it."""

    async def all_of_it(_: object) -> Bench:
        bench = Bench(engine, notes, **options)
        bench.scrubber.start()
        await main(bench)
        await bench.stop()
        return bench

    return play(all_of_it)


def seconds(amount: float) -> Callable[[Bench], Awaitable[None]]:
    return lambda _: asyncio.sleep(amount)


def pieces(*sizes: int, total: int | None = None) -> list[Scrubbed]:
    """A pass in pieces of so many bytes."""
    last = len(sizes) - 1
    return [
        Scrubbed("" if at == last else f"at {at + 1}", size, total) for at, size in enumerate(sizes)
    ]


# -- when ----------------------------------------------------------------------------------


def test_a_node_that_was_never_verified_begins_at_once() -> None:
    engine = Scripted(*pieces(10, 20))
    bench = scene(engine, seconds(10))
    assert engine.cursors == ["", "at 1"]
    assert bench.position.now is None
    assert bench.position.last is not None
    assert (bench.position.last.number, bench.position.last.verified_bytes) == (1, 30)


def test_the_next_pass_comes_after_a_period() -> None:
    engine = Scripted()
    scene(engine, seconds(3.5 * PERIOD_S))
    assert engine.pauses == pytest.approx([PERIOD_S] * 3, abs=2 * LOOK_S)


def test_a_rate_of_zero_means_only_when_asked() -> None:
    engine = Scripted()
    scene(engine, seconds(3 * PERIOD_S), rate=0)
    assert engine.asked == []


def test_a_pass_on_demand_begins_at_once() -> None:
    engine = Scripted(*pieces(1, 2))

    async def main(bench: Bench) -> None:
        await asyncio.sleep(PERIOD_S)
        await bench.scrubber.demand()
        assert bench.scrubber.told(1).demanded
        await asyncio.sleep(1)

    bench = scene(engine, main, rate=0)
    assert engine.cursors == ["", "at 1"]
    assert bench.position.number == 1


def test_a_pass_on_demand_takes_the_place_of_one_in_the_background() -> None:
    engine = Scripted(*pieces(RATE, RATE, RATE, RATE, RATE))

    async def main(bench: Bench) -> None:
        await until(lambda: len(engine.asked) == 2)
        engine.answers = pieces(1, 1)
        await bench.scrubber.demand()
        await asyncio.sleep(100)

    bench = scene(engine, main)
    assert engine.cursors == ["", "at 1", "", "at 1"]
    assert bench.position.last is not None
    assert bench.position.last.number == 2


def test_asking_again_joins_the_pass_that_was_asked_for_and_may_hurry_it_on() -> None:
    engine = Scripted(*pieces(*[1000] * 100))

    async def main(bench: Bench) -> None:
        await asyncio.sleep(1)
        await bench.scrubber.demand(10)
        await asyncio.sleep(150)
        assert len(engine.asked) == 2
        await bench.scrubber.demand()
        await asyncio.sleep(150)
        assert len(engine.asked) <= 5, "no rate was named"
        await bench.scrubber.demand(0)
        await asyncio.sleep(1)

    bench = scene(engine, main, rate=0)
    assert len(engine.asked) == 100
    assert bench.position.number == 1


def test_a_pass_that_was_stopped_does_not_come_back_before_a_period() -> None:
    engine = Scripted(*pieces(RATE, RATE, RATE))

    async def main(bench: Bench) -> None:
        await until(lambda: len(engine.asked) == 2)
        await bench.scrubber.halt()
        told = bench.scrubber.told(1)
        assert (told.running, told.last_number) == (False, 0)
        engine.answers = []
        await asyncio.sleep(0.9 * PERIOD_S)
        assert len(engine.asked) == 2
        await asyncio.sleep(0.2 * PERIOD_S)

    scene(engine, main)
    assert engine.cursors == ["", "at 1", ""]


def test_stopping_nothing_does_nothing() -> None:
    async def main(bench: Bench) -> None:
        await bench.scrubber.halt()

    assert scene(Scripted(), main, rate=0).notes.load(NOTE) is None


# -- how fast ------------------------------------------------------------------------------


def test_a_pass_keeps_to_the_rate() -> None:
    engine = Scripted(*pieces(RATE, 2 * RATE, RATE // 2, 1))
    scene(engine, seconds(60))
    assert engine.pauses == pytest.approx([1, 2, 0.5], abs=0.01)


def test_a_pass_on_demand_has_a_rate_of_its_own() -> None:
    engine = Scripted(*pieces(DEMANDED_BYTES_PER_S, DEMANDED_BYTES_PER_S, 1))

    async def main(bench: Bench) -> None:
        await asyncio.sleep(1)
        await bench.scrubber.demand()
        await asyncio.sleep(10)

    scene(engine, main, rate=0)
    assert engine.pauses == pytest.approx([1, 1], abs=0.01)


def test_while_the_node_writes_a_pass_in_the_background_goes_slowly() -> None:
    engine = Scripted(*pieces(RATE, RATE, 1))

    async def held(_: object) -> None:
        bench = Bench(engine)
        bench.scrubber._committer = Busy(bench.committer)  # type: ignore[assignment]
        bench.scrubber.start()
        await asyncio.sleep(60)
        await bench.stop()

    play(held)
    assert engine.pauses == pytest.approx([4, 4], abs=0.01)


class Busy:
    """A committer that always has something to do."""

    busy = True

    def __init__(self, committer: Committer) -> None:
        self.run = committer.run


# -- going on ------------------------------------------------------------------------------


def test_a_pass_goes_on_after_a_restart() -> None:
    notes = MemoryNotes()
    scene(Scripted(*pieces(RATE, RATE, RATE, RATE)), seconds(1.5), notes)
    engine = Scripted(*pieces(5))
    bench = scene(engine, seconds(10), notes)
    assert engine.cursors == ["at 2"]
    last = bench.position.last
    assert last is not None
    assert (last.number, last.verified_bytes) == (1, 2 * RATE + 5)


def test_a_pass_goes_on_after_a_crash_from_where_it_was_kept() -> None:
    notes = MemoryNotes()

    async def main(bench: Bench) -> None:
        await asyncio.sleep(SAVE_S + 2.5)
        bench.scrubber._task.cancel()  # type: ignore[union-attr]
        bench.scrubber._task = None  # so that nothing is kept at the end

    scene(Scripted(*pieces(*[RATE] * 20)), main, notes)
    engine = Scripted(*pieces(5))
    scene(engine, seconds(10), notes)
    (cursor,) = engine.cursors
    assert cursor in {"at 5", "at 6"}


def test_a_pass_on_demand_goes_on_where_none_is_made_in_the_background() -> None:
    notes = MemoryNotes()

    async def main(bench: Bench) -> None:
        await asyncio.sleep(1)
        await bench.scrubber.demand(RATE)
        await asyncio.sleep(1.5)

    scene(Scripted(*pieces(RATE, RATE, RATE)), main, notes, rate=0)
    engine = Scripted(*pieces(1))
    scene(engine, seconds(10), notes, rate=0)
    assert engine.cursors == ["at 2"]


def test_a_pass_in_the_background_waits_where_that_was_switched_off() -> None:
    notes = MemoryNotes()
    scene(Scripted(*pieces(RATE, RATE, RATE)), seconds(1.5), notes)
    engine = Scripted()
    bench = scene(engine, seconds(PERIOD_S), notes, rate=0)
    assert engine.asked == []
    assert bench.position.now is not None


@pytest.mark.parametrize("note", [b"{", b"[]", b'{"format": 2}', b'{"number": "x"}'])
def test_a_lost_position_only_means_to_begin_again(note: bytes) -> None:
    notes = MemoryNotes()
    notes.save(NOTE, note)
    engine = Scripted()
    assert scene(engine, seconds(1), notes).position.last == LastPass(
        1, 1_700_000_000_000, 1_700_000_000_000, 0, 0
    )
    assert engine.cursors == [""]


def test_the_numbers_of_passes_go_on_where_only_the_marks_are_left() -> None:
    notes = MemoryNotes()
    damage = Damage()
    damage.add(Finding(Part.RECORD, 5, 1, "A", "somewhere", "rot"), 41)
    notes.save(DAMAGE, damage.encode())
    bench = scene(Scripted(), seconds(1), notes)
    assert bench.position.number == 42
    assert bench.damage.others == 0, "that pass did not see it"


def test_a_position_that_cannot_be_kept_does_not_stop_the_pass() -> None:
    class Full(MemoryNotes):
        def save(self, name: str, note: bytes) -> None:
            raise NoSpace("full")

    engine = Scripted(*pieces(1, 1, 1))
    bench = scene(engine, seconds(10), Full())
    assert len(engine.asked) == 3
    assert bench.scrubber.told(1).last_number == 1


@pytest.mark.parametrize("error", [StorageError("a bad day"), IndexError("a bug")])
def test_an_engine_that_fails_is_asked_again_later(error: Exception) -> None:
    engine = Scripted(error, Scrubbed("", 1, None))
    scene(engine, seconds(LOOK_S * 1.5))
    assert engine.pauses == pytest.approx([LOOK_S], abs=0.1)


def test_stopping_what_never_began() -> None:
    async def main(_: object) -> None:
        await Bench(Scripted()).scrubber.stop()

    play(main)


# -- what is found -------------------------------------------------------------------------


def damaged() -> FaultyEngine:
    engine = FaultyEngine()
    engine.put(run_of(0, data_for(0, 80), object_id="GOOD"))
    engine.put(spoilt(run_of(100, data_for(100, 80), object_id="BAD"), 3, 4))
    return engine


def test_what_is_found_is_marked_counted_and_told() -> None:
    async def main(bench: Bench) -> None:
        await asyncio.sleep(1)
        told = bench.scrubber.told(7, 10)
        assert (told.request, told.damaged_tickets, told.last_findings) == (7, 2, 1)
        (flaw,) = told.flaws
        assert (flaw.part, flaw.first, flaw.count, flaw.object_id) == ("tickets", 103, 2, "BAD")
        assert bench.scrubber.told(7).flaws == ()

    bench = scene(damaged(), main)
    assert metric(bench.metrics, "putter_scrub_findings_total", part="tickets") == 1
    assert metric(bench.metrics, "putter_scrubbed_bytes_total") == 20 * 24
    assert metric(bench.metrics, "putter_scrub_completed_seconds") >= 1_700_000_000
    assert bench.notes.load(DAMAGE) is not None


def test_a_mark_goes_when_a_whole_pass_does_not_see_the_damage() -> None:
    engine = damaged()

    async def main(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.damage.tickets == 2
        super(FaultyEngine, engine).free([(100, 10)])  # behind the back of the marks
        await bench.scrubber.demand()
        await asyncio.sleep(1)

    assert scene(engine, main).damage.tickets == 0


def test_marks_stay_where_a_pass_could_not_look() -> None:
    blind = Scrubbed("", 1, None, (Finding(Part.INDEX, 0, 0, "", "tickets/A", "unreadable"),))
    engine = Scripted(blind)
    notes = MemoryNotes()
    damage = Damage()
    damage.add(Finding(Part.RECORD, 5, 1, "A", "somewhere", "rot"), 1)
    notes.save(DAMAGE, damage.encode())
    assert scene(engine, seconds(1), notes).damage.others == 2


def test_what_was_made_again_is_told_and_neither_marked_nor_in_the_way() -> None:
    """Marks that the pass did not see go, since it could look at everything."""
    found = Finding(Part.INDEX, 0, 0, "", "segments/A.idx", "it is damaged")
    engine = Mending(Scrubbed("", 1, None, (found,)))
    notes = MemoryNotes()
    damage = Damage()
    damage.add(Finding(Part.RECORD, 5, 1, "A", "somewhere", "rot"), 0)
    notes.save(DAMAGE, damage.encode())
    bench = scene(engine, seconds(1), notes)
    assert engine.mended == [found]
    assert bench.damage.others == 0
    told = bench.scrubber.told(1)
    assert (told.last_findings, told.last_mended) == (1, 1)
    assert bench.position.last is not None
    assert bench.position.last.mended == 1
    for name in ("findings", "mended"):
        assert metric(bench.metrics, f"putter_scrub_{name}_total", part="index") == 1


def test_marks_are_looked_at_again_at_the_start() -> None:
    notes = MemoryNotes()
    damage = Damage()
    damage.add(Finding(Part.TICKETS, 0, 10, "GOOD", "memory", "not any more"), 1)
    damage.add(Finding(Part.TICKETS, 100, 10, "BAD", "memory", "some"), 1)
    damage.add(Finding(Part.TICKETS, 500, 1, "GONE", "memory", "some"), 1)
    notes.save(DAMAGE, damage.encode())
    bench = scene(damaged(), seconds(1), notes, rate=0)
    assert [(mark.first, mark.end) for mark in bench.damage] == [(103, 105)]


def test_progress_goes_from_nothing_to_all() -> None:
    engine = Scripted(*pieces(RATE, RATE, RATE, RATE, total=4 * RATE))

    async def main(bench: Bench) -> None:
        shown = []
        for _ in range(4):
            await asyncio.sleep(0.99)
            shown.append(metric(bench.metrics, "putter_scrub_progress"))
        assert shown == [0.25, 0.5, 0.75, 0.0]

    scene(engine, main)


def test_where_nobody_knows_the_last_pass_tells_how_much_there_is() -> None:
    notes = MemoryNotes()
    last = LastPass(1, 0, 1, 400, 0)
    notes.save(NOTE, msgspec.json.encode(Position(number=2, now=Pass(2, 0, True, 1), last=last)))

    async def main(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.scrubber.told(1).total_bytes == 400
        assert metric(bench.metrics, "putter_scrub_progress") == 0.25

    scene(Scripted(*pieces(100, 1)), main, notes, rate=0)


# -- asked by a session --------------------------------------------------------------------


def test_a_session_starts_asks_and_stops() -> None:
    async def main(bench: Bench) -> None:
        begun, payload = await answer_scrub(Scrub(1, "start", 5), bench.scrubber)
        assert payload == b""
        assert (begun.request, begun.running, begun.number) == (1, True, 1)  # type: ignore[attr-defined]
        seen, _ = await answer_scrub(Scrub(2), bench.scrubber)
        assert seen.running  # type: ignore[attr-defined]
        ended, _ = await answer_scrub(Scrub(3, "stop"), bench.scrubber)
        assert not ended.running  # type: ignore[attr-defined]
        with pytest.raises(ProtocolError, match="cannot 'dance'"):
            await answer_scrub(Scrub(4, "dance"), bench.scrubber)

    scene(Scripted(*pieces(1000, 1000)), main, rate=0)


# -- since when something is verified ----------------------------------------------------------


class Told(Scripted):
    """Says where a pass stood before it came to tickets, by the first of them."""

    def __init__(self, *answers: Scrubbed | Exception, before: dict[int, int]) -> None:
        super().__init__(*answers)
        self.before = before
        self.passes: list[list[str]] = []

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:
        self.passes.append(list(cursors))
        before = self.before.get(first)
        return before if before is not None and before < len(cursors) else None


def test_it_is_told_since_when_tickets_are_verified() -> None:
    engine = Told(
        Scrubbed("a", MIB // 8, None),
        Scrubbed("b", MIB // 8, None),
        Scrubbed("", MIB // 8, None, end="z"),
        before={5: 0, 6: 1, 7: 2},
    )

    async def main(bench: Bench) -> None:
        await until(lambda: bench.scrubber._at.last is not None)
        last = bench.scrubber._at.last
        assert last is not None
        assert [cursor for cursor, _ in last.stood] == ["a", "b"]
        told = await bench.scrubber.verified_ms([(5, 1), (6, 1), (7, 1), (8, 1)])
        assert told == (last.started_ms, last.stood[0][1], last.stood[1][1], NOT_VERIFIED)
        assert engine.passes[-1] == ["a", "b", "z"]
        assert last.started_ms <= told[1] <= told[2] <= last.ended_ms
        assert bench.position.last == last, "also after a restart"

    scene(engine, main)


def test_the_pass_under_way_counts_for_what_it_has_reached() -> None:
    engine = Told(
        Scrubbed("", 0, None, end="z"), Scrubbed("a", MIB // 8, None), before={5: 0, 6: 1}
    )

    async def main(bench: Bench) -> None:
        await until(lambda: bench.scrubber._at.last is not None)
        await bench.scrubber.demand(rate=1)
        await until(lambda: (found := bench.scrubber._at.now) is not None and bool(found.cursor))
        now, last = bench.scrubber._at.now, bench.scrubber._at.last
        assert now is not None
        assert last is not None
        told = await bench.scrubber.verified_ms([(5, 1), (6, 1), (7, 1)])
        assert told == (now.started_ms, now.stood[0][1], NOT_VERIFIED)

    scene(engine, main)


def test_what_is_damaged_is_not_verified() -> None:
    finding = Finding(Part.TICKETS, 5, 2, "A", "x", "rot")
    engine = Told(Scrubbed("", 10, None, (finding,), end="z"), before=dict.fromkeys(range(10), 0))
    engine.put(run_of(4, data_for(0, 4 * 1458), object_id="A"))
    engine.put(spoilt(run_of(4, data_for(0, 4 * 1458), object_id="A"), 1, 2))

    async def main(bench: Bench) -> None:
        bench.damage.add(finding, 1)
        await until(lambda: bench.scrubber._at.last is not None)
        bench.damage.add(finding, 1)
        told = await bench.scrubber.verified_ms([(4, 1), (4, 2), (6, 1), (7, 1)])
        assert [each > 0 for each in told] == [True, False, False, True]

    scene(engine, main)


def test_a_layout_that_cannot_tell_says_so() -> None:
    async def main(bench: Bench) -> None:
        assert await bench.scrubber.verified_ms([(1, 1)]) in {(NOT_VERIFIED,), (UNKNOWN,)}
        await until(lambda: bench.scrubber._at.last is not None)
        assert await bench.scrubber.verified_ms([(1, 1), (2, 1)]) == (UNKNOWN, UNKNOWN)

    scene(FaultyEngine(), main)


@pytest.mark.parametrize("step_ms", [1, 100, 60_000])
def test_of_a_long_pass_a_bounded_number_of_places_is_kept(step_ms: int) -> None:
    now = Pass(1, 1_000_000, demanded=False, rate=0)
    pieces = 5_000
    for piece in range(1, pieces + 1):
        now.cursor = str(piece)
        note_place(now, now.started_ms + piece * step_ms)
    assert STOOD_MAX // 4 <= len(now.stood) <= STOOD_MAX
    places = [int(cursor) for cursor, _ in now.stood]
    assert places == sorted(set(places))
    assert [at_ms for _, at_ms in now.stood] == [now.started_ms + n * step_ms for n in places]
    gaps = [after - before for before, after in pairwise([0, *places, pieces])]
    assert max(gaps) <= pieces / 8, "about even"
