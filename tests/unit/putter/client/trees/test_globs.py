"""Globs that pick files of a tree."""

from __future__ import annotations

import pytest

from putter.client.trees.globs import Wanted, directories


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("*.jpg", ["a.jpg", "x/y/.jpg", "a.jpg/b"], ["a.jpeg", "ajpg"]),
        ("a?c", ["abc", "x/a.c"], ["ac", "a/c", "abcd"]),
        ("[a-c].txt", ["b.txt"], ["d.txt", "[.txt"]),
        ("[!a-c].txt", ["d.txt"], ["b.txt", "x/b.txt"]),
        ("[]x]", ["]", "x"], ["y"]),
        ("[", ["["], ["x"]),
        ("a[.]b", ["a.b"], ["a/b", "axb"]),
        ("[a^]", ["a", "^"], ["b"]),
        ("build", ["build", "build/a", "x/build/a/b"], ["builds", "rebuild/a"]),
        ("build/", ["build/a"], ["builds/a"]),
        ("a/*.o", ["a/b.o", "a/c.o/d"], ["b.o", "x/a/b.o", "a/x/b.o"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b", "a/x/b/c"], ["b", "x/a/b", "a/xb"]),
        ("**/tmp/*", ["tmp/x", "a/tmp/x", "a/b/tmp/x/y"], ["tmp", "atmp/x"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("a+(b).c", ["a+(b).c"], ["aab.c"]),
    ],
)
def test_what_a_glob_matches(glob: str, yes: list[str], no: list[str]) -> None:
    wanted = Wanted(include=[glob])
    assert {name: wanted(name) for name in [*yes, *no]} == dict.fromkeys(yes, True) | dict.fromkeys(
        no, False
    )
    left = Wanted(exclude=[glob])
    assert [name for name in [*yes, *no] if left(name)] == no


def test_what_is_left_out_stays_out() -> None:
    wanted = Wanted(include=["*.jpg", "docs/*"], exclude=["old", "*.tmp"])
    names = ["a.jpg", "old/a.jpg", "docs/x", "docs/x.tmp", "b.png", "docs/old"]
    assert [name for name in names if wanted(name)] == ["a.jpg", "docs/x"]
    assert [wanted.leaves_out(name) for name in ("old", "a/old", "docs")] == [True, True, False]


def test_without_globs_everything_is_wanted() -> None:
    assert Wanted()("any/thing")


def test_directories_above_a_name() -> None:
    assert list(directories("a/b/c")) == ["a", "a/b"]
    assert list(directories("a")) == []
