"""Both ends of a copy, as they are written on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import NameInvalid, UsageError
from putter.client.trees.places import StorePlace, check_apart, parse_place


@pytest.mark.parametrize(
    ("text", "place", "directory", "many"),
    [
        ("putter:photos", StorePlace("photos"), "", True),
        ("putter:photos/", StorePlace("photos"), "", True),
        ("putter:photos/a b/c", StorePlace("photos", "a b/c"), "a b/c/", False),
        ("putter:photos/a/", StorePlace("photos", "a/"), "a/", True),
    ],
)
def test_places_of_the_store(text: str, place: StorePlace, directory: str, many: bool) -> None:
    assert parse_place(text) == place
    assert (place.directory, place.holds_many) == (directory, many)
    assert parse_place(str(place)) == place
    assert place.below("x/y").key == f"{directory}x/y"


@pytest.mark.parametrize(
    "text", ["cat.jpg", "./putter:photos/a", "/tmp/putter:x", "putter", "photos/a"]
)
def test_anything_else_is_local(text: str) -> None:
    assert parse_place(text) == Path(text)


@pytest.mark.parametrize(
    "text", ["putter:", "putter:Photos/a", "putter:photos/../a", "putter:photos//a"]
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(NameInvalid):
        parse_place(text)


def test_nothing() -> None:
    with pytest.raises(UsageError, match="empty path"):
        parse_place("")


@pytest.mark.parametrize(
    ("source", "target", "apart"),
    [
        ("putter:one", "putter:two", True),
        ("putter:one/a", "putter:one/b", True),
        ("putter:one/a", "putter:one/ab", True),
        ("putter:one", "putter:one", False),
        ("putter:one/a", "putter:one/a/b", False),
        ("putter:one/a/b", "putter:one", False),
    ],
)
def test_trees_within_each_other(source: str, target: str, apart: bool) -> None:
    one, other = parse_place(source), parse_place(target)
    assert isinstance(one, StorePlace)
    assert isinstance(other, StorePlace)
    if apart:
        check_apart(one, other)
        return
    with pytest.raises(UsageError, match="lie within each other"):
        check_apart(one, other)
