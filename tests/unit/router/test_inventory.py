"""What putters should hold, compared with what they say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.digests import Entries, Grid, Space, differing, digest
from common.records import Extent, StoredObject, Version
from common.tickets import format_id, object_key
from router.inventory import Expected, Held, named, record_of

WIDTH = 8
GRIDS = {space: Grid(space, WIDTH, 5) for space in (Space.TICKETS, Space.OBJECTS)}


def version(number: int, *extents: tuple[int, int, str], revision: int = 0) -> Version:
    """Object ``number`` with extents of (first, count, nodes)."""
    made = tuple(Extent(first, count, 10 * count, tuple(nodes)) for first, count, nodes in extents)
    size = sum(extent.size for extent in made)
    stored = StoredObject(format_id(number), size, 10, b"x" * 32, made)
    return Version("b", f"k{number}", 100 + number, size, "e", 0, (stored,), revision=revision)


def test_each_putter_is_expected_to_hold_what_names_it() -> None:
    expected = Expected("ab", GRIDS)
    expected.add([version(3, (0, 5, "ab"), (20, 4, "b")), version(4, (5, 1, "ac"))])
    expected.add([version(5, (90, 30, "c")), version(6, (40, 1, "b"), revision=999)])
    key = {n: object_key(format_id(n)) for n in range(10)}
    rows = {
        "a": [(0, 5, 50, 10, key[3]), (5, 1, 10, 10, key[4])],
        "b": [(0, 5, 50, 10, key[3]), (20, 4, 40, 10, key[3]), (40, 1, 10, 10, key[6])],
    }
    records = {"a": [(key[3], 103), (key[4], 104)], "b": [(key[3], 103), (key[6], 999)]}
    for node in "ab":
        wanted = digest(Entries.of(rows[node]), GRIDS[Space.TICKETS])
        assert expected.leaves(node, Space.TICKETS).pack() == wanted.pack()
        entries = Entries.of_keys([at for at, _ in records[node]], [s for _, s in records[node]])
        wanted = digest(entries, GRIDS[Space.OBJECTS])
        assert expected.leaves(node, Space.OBJECTS).pack() == wanted.pack()
    assert not len(expected.leaves("c", Space.TICKETS)), "nobody asked for that one"


def test_many_pages_are_the_same_as_one() -> None:
    versions = [version(n, (3 * n, 3, "a")) for n in range(300)]
    one, many = Expected("a", GRIDS), Expected("a", GRIDS)
    one.add(versions)
    for each in versions:
        many.add([each])
    for space in GRIDS:
        assert one.leaves("a", space).pack() == many.leaves("a", space).pack()


def test_a_file_without_a_byte_is_no_object() -> None:
    expected = Expected("a", GRIDS)
    expected.add([Version("b", "k", 5, 0, "e", 0, ())])
    assert not len(expected.leaves("a", Space.OBJECTS))


def test_where_a_version_is() -> None:
    what = version(3, (0, 5, "ab"), (20, 4, "bc"))
    assert named(what) == {"a", "b", "c"}
    assert record_of(what) == (4, 103)
    assert record_of(version(3, (0, 1, "a"), revision=999)) == (4, 999)


def test_records_that_are_missing_or_older() -> None:
    held = Held(Grid(Space.OBJECTS, WIDTH, 5), [0, 2], Entries.of_keys([3, 17], [50, 60]))
    assert not held.lacks_record(3, 50)
    assert not held.lacks_record(3, 40), "a newer one does"
    assert held.lacks_record(3, 51)
    assert held.lacks_record(4, 1)
    assert held.lacks_record(2, 1)
    assert not held.lacks_record(9, 1), "that leaf was not looked at"
    assert not held.lacks_record(17, 60)
    assert held.lacks_record(16, 60)


Tickets = dict[int, int]
TICKETS = st.dictionaries(st.integers(0, 120), st.integers(1, 3), max_size=50)


def stretches(tickets: Tickets) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for at in sorted(tickets):
        if found and sum(found[-1][:2]) == at and found[-1][2] == tickets[at]:
            found[-1] = (found[-1][0], found[-1][1] + 1, tickets[at])
        else:
            found.append((at, 1, tickets[at]))
    return found


@given(TICKETS, TICKETS)
def test_the_difference_is_found_exactly(wanted: Tickets, there: Tickets) -> None:
    """By digests first, then by the entries of the leaves that differ."""
    grid = GRIDS[Space.TICKETS]
    inventories = [
        Entries.of([(first, count, 10 * count, 10, key) for first, count, key in stretches(each)])
        for each in (wanted, there)
    ]
    leaves = differing(*(digest(each, grid) for each in inventories))
    looked = {at for leaf in leaves for at in range(leaf * WIDTH, (leaf + 1) * WIDTH)}
    entries = Entries.joined(
        [inventories[1].within(leaf * WIDTH, (leaf + 1) * WIDTH) for leaf in leaves]
    )
    held = Held(grid, leaves, entries)
    for first, count, key in stretches(wanted):
        span = range(first, first + count)
        assert held.lacks(first, count, key) == any(there.get(at) != key for at in span)
    extra = {there[at] for at in there.keys() & looked if wanted.get(at) != there[at]}
    assert held.unwanted() == extra
