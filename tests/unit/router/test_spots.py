"""Where runs lie, as far as it was told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.limits import FRAME_HEADER_BYTES
from common.wire.locations import SegmentFile, Spots
from common.wire.locations import Spot as Told
from router.spots import Spot, SpotTable

FILES = (SegmentFile("/a", 1, 2), SegmentFile("/b", 1, 3))
FRAME = 100
STRIDE = FRAME + FRAME_HEADER_BYTES


def told(until: int, *runs: tuple[int, int], last: int = FRAME) -> Spots:
    """Runs (first, count), each in the second file at an offset of its own."""
    return Spots(
        1,
        until,
        FILES,
        tuple(
            Told(first, count, FRAME, "k", 1, first * 1000, count * STRIDE - FRAME + last)
            for first, count in runs
        ),
    )


def table(first: int, spots: Spots) -> SpotTable:
    made = SpotTable()
    made.learn(first, spots)
    return made


class TestFinding:
    def test_nothing_is_known_at_first(self) -> None:
        assert SpotTable().find(0, 1) is None

    def test_a_whole_run(self) -> None:
        found = table(10, told(20, (10, 10))).find(10, 10)
        assert found == [Spot(10, 10, FILES[1], 10_000, 10 * STRIDE, FRAME, "k")]

    def test_a_part_begins_at_its_own_frame(self) -> None:
        found = table(10, told(20, (10, 10))).find(13, 2)
        assert found == [Spot(13, 2, FILES[1], 10_000 + 3 * STRIDE, 2 * STRIDE, FRAME, "k")]

    def test_the_last_frame_may_be_short(self) -> None:
        runs = table(10, told(20, (10, 10), last=7))
        [found] = runs.find(18, 2) or []
        assert found.length == STRIDE + FRAME_HEADER_BYTES + 7
        [before] = runs.find(18, 1) or []
        assert before.length == STRIDE

    def test_over_several_runs(self) -> None:
        found = table(0, told(9, (0, 4), (4, 3), (7, 2))).find(2, 6)
        assert found is not None
        assert [(each.first, each.count) for each in found] == [(2, 2), (4, 3), (7, 1)]

    def test_what_was_not_asked_for_is_not_known(self) -> None:
        runs = table(4, told(8, (4, 4)))
        assert runs.find(3, 2) is None
        assert runs.find(7, 2) is None
        assert runs.find(8, 1) is None

    def test_gaps_are_known_to_be_gaps(self) -> None:
        runs = table(0, told(20, (3, 4), (10, 5)))
        assert [runs.find(at, 1) for at in (0, 2, 7, 9, 15, 19)] == [[]] * 6
        assert runs.find(6, 5) == []
        assert runs.find(10, 5)

    def test_nothing_at_all_is_an_answer(self) -> None:
        assert table(5, told(9)).find(5, 4) == []


class TestForgetting:
    def test_new_knowledge_takes_the_place_of_old(self) -> None:
        runs = table(0, told(20, (0, 20)))
        runs.learn(0, told(20, (0, 5), (5, 15)))
        found = runs.find(0, 20)
        assert found is not None
        assert [(each.first, each.count) for each in found] == [(0, 5), (5, 15)]

    def test_a_run_is_forgotten_as_a_whole(self) -> None:
        runs = table(0, told(20, (0, 10), (10, 10)))
        runs.forget(5, 1)
        assert runs.find(0, 1) is None
        assert runs.find(10, 10)

    def test_the_oldest_goes_when_there_is_much(self) -> None:
        runs = SpotTable(most=3)
        for first in (0, 10, 20, 30):
            runs.learn(first, told(first + 10, (first, 10)))
        assert len(runs) == 3
        assert runs.find(0, 1) is None
        assert all(runs.find(first, 10) for first in (10, 20, 30))


class TestNonsense:
    def test_spots_outside_of_the_answer_are_not_believed(self) -> None:
        runs = table(10, told(20, (5, 10)))
        assert runs.find(10, 1) is None
        assert runs.find(5, 1) is None

    def test_nor_those_that_overlap(self) -> None:
        runs = table(0, told(20, (0, 10), (5, 5)))
        assert runs.find(0, 10)
        assert runs.find(10, 1) is None

    def test_nor_those_of_a_file_that_is_not_there(self) -> None:
        spot = Told(0, 5, FRAME, "k", 2, 0, 5 * STRIDE)
        assert table(0, Spots(1, 5, FILES, (spot,))).find(0, 5) is None


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 12), st.booleans()), max_size=30
    ),
    st.integers(0, 70),
    st.integers(1, 20),
)
def test_it_knows_what_a_list_of_tickets_knows(
    steps: list[tuple[bool, int, int, bool]], first: int, count: int
) -> None:
    runs = SpotTable()
    model: dict[int, tuple[int, bool]] = {}
    for number, (learn, at, size, there) in enumerate(steps):
        touched = {start for start, _ in model.values()} & {
            model[t][0] for t in range(at, at + size) if t in model
        }
        model = {t: entry for t, entry in model.items() if entry[0] not in touched}
        if learn:
            runs.learn(at, told(at + size, (at, size)) if there else told(at + size))
            model |= dict.fromkeys(range(at, at + size), (1000 * number + at, there))
        else:
            runs.forget(at, size)
    found = runs.find(first, count)
    wanted = [model.get(ticket) for ticket in range(first, first + count)]
    before_a_gap = next((i for i, each in enumerate(wanted) if each is None or not each[1]), count)
    if before_a_gap < count:
        assert found == ([] if wanted[before_a_gap] is not None else None)
    else:
        assert found is not None
        assert sum(each.count for each in found) == count
        assert [t for each in found for t in range(each.first, each.end)] == list(
            range(first, first + count)
        )
