"""Rendezvous hashing: single decisions; the statistics are in the property tests."""

from __future__ import annotations

import pytest

from common.records import ANYONE
from router.placement import Candidate, choose, place, score

FIVE = [Candidate(f"n{number}", 1.0) for number in range(5)]
ZONED = [Candidate(name, 1.0, name[0]) for name in ("a1", "a2", "a3", "b1")]


def test_the_same_question_has_the_same_answer_in_any_order() -> None:
    forward = [choose(f"o/{n}", FIVE, 3) for n in range(50)]
    assert forward == [choose(f"o/{n}", FIVE[::-1], 3) for n in range(50)]
    assert len(set(forward)) > 10, "not everything goes to the same nodes"


def test_it_does_not_depend_on_the_process() -> None:
    """Routers of one release agree, whatever the process: no seeded hash is in it."""
    assert choose("A/0", FIVE, 5) == ("n2", "n1", "n3", "n0", "n4")
    assert choose("3F/65536", FIVE, 5) == ("n4", "n0", "n1", "n2", "n3")


def test_as_many_as_there_are() -> None:
    assert choose("o", [], 2) == ()
    assert choose("o", FIVE[:1], 2) == ("n0",)
    assert choose("o", FIVE, 0) == ()
    assert sorted(choose("o", FIVE, 9)) == ["n0", "n1", "n2", "n3", "n4"]


def test_each_node_once() -> None:
    for number in range(100):
        chosen = choose(f"o/{number}", FIVE, 4)
        assert len(set(chosen)) == 4


def test_who_is_to_be_avoided_is_not_chosen() -> None:
    for number in range(100):
        chosen = choose(f"o/{number}", FIVE, 5, avoid={"n1", "n3"})
        assert sorted(chosen) == ["n0", "n2", "n4"]
    assert choose("o", FIVE[:1], 1, avoid={"n0"}) == ()


def test_avoiding_does_not_change_the_order_of_the_others() -> None:
    for number in range(50):
        ranked = choose(f"o/{number}", FIVE, 5)
        without = choose(f"o/{number}", FIVE, 5, avoid={ranked[0]})
        assert without == ranked[1:]


def test_the_larger_weight_scores_higher() -> None:
    for number in range(50):
        assert score(f"{number}", Candidate("n", 2.0)) > score(f"{number}", Candidate("n", 1.0)) > 0


class TestZones:
    def test_copies_are_in_different_ones(self) -> None:
        for number in range(100):
            chosen = choose(f"o/{number}", ZONED, 2)
            assert "b1" in chosen, "the other copy would share its fate"

    def test_one_zone_is_used_twice_before_a_copy_is_missing(self) -> None:
        for number in range(20):
            assert len(choose(f"o/{number}", ZONED, 3)) == 3
            assert len(choose(f"o/{number}", ZONED[:3], 2)) == 2

    def test_unknown_zones_are_different_ones(self) -> None:
        mixed = [Candidate("x", 1.0), Candidate("y", 1.0), Candidate("a", 1e9, "a")]
        chosen = [set(choose(f"o/{number}", mixed, 2)) for number in range(200)]
        assert {"a", "x"} in chosen
        assert {"a", "y"} in chosen


@pytest.mark.parametrize("count", [1, 2])
def test_a_full_size_disk_of_bytes_is_a_weight(count: int) -> None:
    heavy = [Candidate("big", 2e13), Candidate("small", 1.0)]
    firsts = {choose(f"o/{number}", heavy, count)[0] for number in range(300)}
    assert firsts == {"big"}


class TestWhileSomeAreAway:
    def test_nobody_is_owed_anything_while_all_are_there(self) -> None:
        for number in range(20):
            placed = place(f"o/{number}", FIVE, [], 2)
            assert placed.nodes == choose(f"o/{number}", FIVE, 2)
            assert not placed.owed

    def test_who_is_away_is_owed_its_share_and_no_more(self) -> None:
        away, there = FIVE[:1], FIVE[1:]
        shares = 0
        for number in range(200):
            homes = choose(f"o/{number}", FIVE, 2)
            placed = place(f"o/{number}", there, away, 2)
            assert len(placed.nodes) == 2
            assert "n0" not in placed.nodes
            if "n0" in homes:
                shares += 1
                (other,) = set(homes) - {"n0"}
                (stand_in,) = set(placed.nodes) - {other}
                assert placed.owed == {"n0": stand_in}
            else:
                assert placed.nodes == homes
                assert not placed.owed
        assert 40 < shares < 120, "two of five"

    def test_with_too_few_left_nobody_stands_in(self) -> None:
        placed = place("o", FIVE[:1], FIVE[1:2], 2)
        assert placed.nodes == ("n0",)
        assert placed.owed == {"n1": ""}

    def test_with_too_few_at_all_anyone_is_owed(self) -> None:
        assert place("o", FIVE[:1], [], 2).owed == {ANYONE: ""}
        both = place("o", FIVE[:1], FIVE[1:2], 3)
        assert both.owed == {"n1": "", ANYONE: ""}

    def test_a_stand_in_shares_no_zone_with_the_other_copy_if_that_can_be(self) -> None:
        there = [Candidate("a2", 1.0, "a"), Candidate("a3", 1.0, "a"), Candidate("c1", 1.0, "c")]
        away = [Candidate("b1", 1e9, "b")]
        for number in range(50):
            placed = place(f"o/{number}", there, away, 2)
            if placed.owed.get("b1") and "c1" not in (set(placed.nodes) - {placed.owed["b1"]}):
                assert placed.owed["b1"] == "c1"
