"""What a new description changes for putters."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from common.meta.moves import is_same, moves, surplus_of
from common.records import Extent, StoredObject
from tests.metadata_kit import stored, version

NODES = ("n1", "n2", "n3")
PLACES = st.lists(st.sets(st.sampled_from(NODES)), min_size=1, max_size=8)


def described(*extents: Extent) -> StoredObject:
    return StoredObject("A", 1, 1458, b"", extents)


def one_by_one(places: Iterable[Iterable[str]]) -> StoredObject:
    """An extent for each ticket."""
    return described(*(Extent(7 + n, 1, 1, tuple(sorted(nodes))) for n, nodes in enumerate(places)))


def in_runs(places: list[set[str]]) -> StoredObject:
    """The same, in as few extents as possible."""
    extents: list[Extent] = []
    for each in one_by_one(places).extents:
        if extents and extents[-1].nodes == each.nodes:
            extents[-1] = msgspec.structs.replace(extents[-1], count=extents[-1].count + 1)
        else:
            extents.append(each)
    return described(*extents)


@given(PLACES, st.data(), st.booleans())
def test_moves_say_what_ticket_by_ticket_changes(
    old: list[set[str]], data: st.DataObject, runs: bool
) -> None:
    new = data.draw(st.lists(st.sets(st.sampled_from(NODES)), min_size=len(old), max_size=len(old)))
    found = moves(in_runs(old), in_runs(new) if runs else one_by_one(new))
    pairs = list(zip(old, new, strict=True))
    assert found.gaining == tuple(n for n in NODES if any(n in b and n not in a for a, b in pairs))
    assert found.losing == tuple(n for n in NODES if any(n in a and n not in b for a, b in pairs))
    assert found.entire == tuple(n for n in NODES if all(n in each for each in new))


@given(PLACES)
def test_a_surplus_is_what_is_placed_elsewhere(places: list[set[str]]) -> None:
    what = version("a", 10, in_runs(places))
    for node in NODES:
        surplus = surplus_of(what, "A", node, 5)
        tickets = [first + n for first, count in surplus.ranges for n in range(count)]
        assert tickets == [7 + n for n, nodes in enumerate(places) if node not in nodes]
        assert surplus.whole == all(node not in nodes for nodes in places)


def test_extents_need_not_be_in_the_order_of_their_tickets() -> None:
    old = described(Extent(50, 10, 1, ("n1",)), Extent(10, 10, 1, ("n1", "n2")))
    new = described(
        Extent(50, 4, 1, ("n1",)), Extent(54, 6, 1, ("n1",)), Extent(10, 10, 1, ("n2",))
    )
    assert moves(old, new).losing == ("n1",)
    assert moves(new, old).gaining == ("n1",)
    assert moves(old, old).gaining == moves(old, old).losing == ()
    assert moves(old, old).entire == ("n1",)


def test_the_same_version() -> None:
    what = version("a", 10, stored("A"), stored("B", 200))
    assert is_same(what, msgspec.structs.replace(what, revision=5, replicas=7))
    for other in (
        version("b", 10, *what.objects),
        version("a", 11, *what.objects),
        version("a", 10, *what.objects[:1]),
        version("a", 10, *reversed(what.objects)),
    ):
        assert not is_same(what, other)
