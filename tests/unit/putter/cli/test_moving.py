"""mv against a store in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from putter.client.trees import errand
from tests.shelf_kit import Shelf
from tests.web_kit import Reply, Request, as_json


@pytest.fixture
def shelf(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf()
    shop.answers(made)
    monkeypatch.setattr(errand, "PAUSES_S", (0.0, 0.0))
    made.holds("photos/a/cat", b"meow")
    made.holds("photos/a/b/dog", b"woof")
    made.holds("photos/c", b"moo")
    return made


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("putter:pets", "pets/cat"),
        ("putter:photos/d/", "photos/d/cat"),
        ("putter:big/tom", "big/tom"),
    ],
)
def test_one_file(shop: Any, shelf: Shelf, target: str, name: str) -> None:
    told = shop.run("mv", "putter:photos/a/cat", target)
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith(f"putter:{name}  4 B  ")
    assert shelf.names() == {"photos/a/b/dog": b"woof", "photos/c": b"moo", name: b"meow"}


def test_as_json_and_dry(shop: Any, shelf: Shelf) -> None:
    before = shelf.names()
    words = ("mv", "putter:photos/c", "putter:photos/d")
    dry = shop.run(*words, "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "move    putter:photos/d\n")
    assert shelf.names() == before
    assert json.loads(shop.run(*words, "--json").stdout) == {
        "action": "move",
        "name": "d",
        "source": "putter:photos/c",
        "target": "putter:photos/d",
        "size": 3,
    }
    assert shop.run(*words).exit_code == 3
    assert shop.run(*words, "--dry-run").exit_code == 3


def test_a_tree(shop: Any, shelf: Shelf) -> None:
    words = ("mv", "-r", "putter:photos/a", "putter:pets/x", "--json")
    dry = shop.run(*words, "--dry-run")
    assert json.loads(dry.stdout.splitlines()[-1])["summary"]["moved"] == 2
    assert ("PUT", "/file/pets/x/cat") not in shelf.asked
    told = shop.run(*words, "--exclude", "*.tmp")
    assert told.exit_code == 0, told.output
    *events, last = [json.loads(line) for line in told.stdout.splitlines()]
    assert sorted((each["action"], each["target"]) for each in events) == [
        ("move", "putter:pets/x/b/dog"),
        ("move", "putter:pets/x/cat"),
    ]
    summary = last["summary"]
    assert (summary["moved"], summary["moved_bytes"], summary["copied"]) == (2, 8, 0)
    assert shelf.names() == {"photos/c": b"moo", "pets/x/cat": b"meow", "pets/x/b/dog": b"woof"}


def test_an_answer_that_was_lost(shop: Any, shelf: Shelf) -> None:
    """The store renames a file and breaks off: it is found at the other place by the next try."""
    lost = []

    def answer(request: Request) -> Reply:
        told = shelf(request)
        if request.method == "PUT" and not lost:
            lost.append(request)
            return as_json({"code": "unavailable", "message": "away"}, 503)
        return told

    shop.answers(answer)
    told = shop.run("mv", "-r", "putter:photos/a", "putter:pets")
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("2 moved (8 B); ")
    assert shelf.names() == {"photos/c": b"moo", "pets/cat": b"meow", "pets/b/dog": b"woof"}


def test_a_file_that_somebody_took_away(shop: Any, shelf: Shelf) -> None:
    shelf.holds("pets/cat", b"another one")

    def answer(request: Request) -> Reply:
        if request.method == "PUT" and request.path.endswith("/cat"):
            shelf.files.pop("photos/a/cat", None)
        return shelf(request)

    shop.answers(answer)
    told = shop.run("mv", "-r", "putter:photos/a", "putter:pets")
    assert told.exit_code == 1
    assert "there is no file photos/a/cat" in told.stderr
    assert shelf.names()["pets/cat"] == b"another one"


@pytest.mark.parametrize(
    "words",
    [
        ("cat", "putter:photos/x"),
        ("putter:photos/c", "cat"),
        ("putter:photos/c", "-"),
        ("putter:photos/c", "putter:photos/c"),
        ("putter:photos", "putter:pets"),
        ("putter:photos/c", "putter:photos/d", "--include", "x"),
        ("-r", "putter:photos", "putter:photos/a"),
        ("-r", "here", "putter:photos"),
        ("putter:Photos/c", "putter:photos/d"),
    ],
)
def test_what_makes_no_sense(shop: Any, shelf: Shelf, words: tuple[str, ...]) -> None:
    before = shelf.names()
    result = shop.run("mv", *words)
    assert result.exit_code == 2, result.output
    assert shelf.names() == before
