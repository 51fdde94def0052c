"""How a debt is paid, and how one comes to be."""

from __future__ import annotations

from common.records import ANYONE, Extent, StoredObject, Version
from router.debts import kept, lost, paid, vacated, with_extents


def extent(*nodes: str, size: int = 10, **owed: str) -> Extent:
    return Extent(0, 1, size, nodes, owed)


class TestPaid:
    def test_who_stood_in_need_not_hold_it_any_more(self) -> None:
        assert paid(extent("a", "s", x="s"), "x", "x", 2) == extent("a", "x")

    def test_where_nobody_stood_in_there_is_one_more_copy(self) -> None:
        assert paid(extent("a", x=""), "x", "x", 2) == extent("a", "x")

    def test_a_stand_in_stays_for_another_one_that_has_none(self) -> None:
        once = paid(extent("a", "s", x="s", y=""), "x", "x", 2)
        assert once == extent("a", "s", "x", y="s")
        assert paid(once, "y", "y", 2) == extent("a", "x", "y")

    def test_a_stand_in_is_as_good_as_anyone_who_is_not_chosen_yet(self) -> None:
        owed = Extent(0, 1, 10, ("a", "s"), {"x": "s", ANYONE: ""})
        assert paid(owed, "x", "x", 3) == extent("a", "s", "x")

    def test_other_debts_and_their_stand_ins_stay_as_they_are(self) -> None:
        once = paid(extent("s", "t", x="s", y="t"), "x", "x", 2)
        assert once == extent("t", "x", y="t")

    def test_anyone_is_somebody_then(self) -> None:
        owed = Extent(0, 1, 10, ("a",), {ANYONE: ""})
        assert paid(owed, ANYONE, "n", 2) == extent("a", "n")

    def test_a_putter_that_has_it_already_is_no_second_copy(self) -> None:
        """A write that went another way, and reached it all the same."""
        assert paid(extent("a", "x", x=""), "x", "x", 2) == extent("a", "x")

    def test_a_stand_in_that_does_not_hold_it_any_more_is_passed_over(self) -> None:
        assert paid(extent("a", x="s"), "x", "x", 2) == extent("a", "x")

    def test_anyone_is_owed_as_long_as_there_are_too_few(self) -> None:
        first = Extent(0, 1, 10, ("a",), {ANYONE: ""})
        second = paid(first, ANYONE, "b", 3)
        assert second == Extent(0, 1, 10, ("a", "b"), {ANYONE: ""})
        assert paid(second, ANYONE, "c", 3) == extent("a", "b", "c")


class TestLost:
    def test_it_is_owed(self) -> None:
        told = lost(extent("a", "b"), {"b"}, lambda node: node)
        assert told == extent("a", b="")

    def test_or_anybody_is_owed_in_its_place(self) -> None:
        told = lost(extent("a", "b"), {"b"}, lambda _: ANYONE)
        assert told == Extent(0, 1, 10, ("a",), {ANYONE: ""})

    def test_with_a_stand_in_its_home_is_owed_as_before_with_nobody_standing_in(self) -> None:
        assert lost(extent("a", "s", x="s"), {"s"}, lambda node: node) == extent("a", x="")

    def test_others_are_not_touched(self) -> None:
        same = extent("a", "b", x="b")
        assert lost(same, {"c"}, lambda node: node) is same


def test_what_is_owed_of_a_version() -> None:
    stored = StoredObject("A", 40, 65_536, b"", (extent("a", x=""), extent("b", size=30, x="b")))
    other = StoredObject("B", 5, 65_536, b"", (extent("a", size=5, y=""),))
    version = Version("b", "k", 1, 45, "", 0, (stored, other))
    settled = with_extents(
        version, lambda each: paid(each, "x", "x", 1) if "x" in each.owed else each
    )
    assert settled.objects[1] == other
    assert settled.objects[0].extents == (extent("a", "x"), extent("x", size=30))


class TestVacated:
    def test_who_leaves_stands_in_until_anybody_has_it(self) -> None:
        leaving = vacated(extent("a", "b"), {"b"})
        assert leaving == Extent(0, 1, 10, ("a", "b"), {ANYONE: "b"})
        assert paid(leaving, ANYONE, "c", 2) == extent("a", "c")

    def test_who_stood_in_hands_that_on(self) -> None:
        leaving = vacated(extent("a", "s", x="s"), {"s"})
        assert leaving == Extent(0, 1, 10, ("a", "s"), {ANYONE: "s", "x": "s"})
        assert vacated(leaving, {"s"}) is leaving
        assert kept(leaving, set(), 2) == extent("a", "s", x="s")
        assert paid(leaving, ANYONE, "c", 2) == extent("a", "c", x="c")
        assert paid(leaving, "x", "x", 2) == extent("a", "x"), "nobody else is needed then"
        assert lost(leaving, {"s"}, lambda node: node) == extent("a", x="")

    def test_one_after_the_other(self) -> None:
        both = vacated(extent("a", "b"), {"a", "b"})
        assert both == Extent(0, 1, 10, ("a", "b"), {ANYONE: "a"})
        one = paid(both, ANYONE, "c", 2)
        assert one == extent("b", "c")
        assert paid(vacated(one, {"a", "b"}), ANYONE, "d", 2) == extent("c", "d")

    def test_again_changes_nothing(self) -> None:
        once = vacated(extent("a", "b"), {"b"})
        assert vacated(once, {"b"}) is once

    def test_a_home_that_leaves_is_owed_nothing(self) -> None:
        assert vacated(extent("a", "s", x="s"), {"x"}) == extent("a", "s")
        assert vacated(extent("a", x=""), {"x"}) == Extent(0, 1, 10, ("a",), {ANYONE: ""})

    def test_others_are_not_touched(self) -> None:
        same = extent("a", "b")
        assert vacated(same, {"c"}) is same

    def test_who_stays_after_all_is_not_replaced(self) -> None:
        leaving = vacated(extent("a", "b"), {"b"})
        assert kept(leaving, {"b"}, 2) is leaving
        assert kept(leaving, set(), 2) == extent("a", "b")
        alone = Extent(0, 1, 10, ("a",), {ANYONE: ""})
        assert kept(alone, set(), 2) is alone, "a copy is missing all the same"

    def test_what_was_missing_before_is_missing_afterwards(self) -> None:
        short = Extent(0, 1, 10, ("a", "b"), {ANYONE: ""})
        leaving = vacated(short, {"a", "b"})
        assert leaving.owed == {ANYONE: "a"}
        assert kept(leaving, set(), 3) == short
