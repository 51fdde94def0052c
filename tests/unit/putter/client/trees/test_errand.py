"""Threads that carry out a plan, and how an errand ends before its time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import IntegrityError, NotAuthorised, PutterError, StorageError, Unavailable
from putter.client.store import Store
from putter.client.trees.errand import Errand, Event, text_of
from putter.client.trees.listing import Item, Listing
from putter.client.trees.plan import Plan, Step
from tests.web_kit import FakeWeb, Reply

Do = Callable[[Item, Any], None]


class Way:
    """A route on which a function sends."""

    does = "copy"
    on_disk = False

    def __init__(self, do: Do) -> None:
        self.send_one = do
        self.deleted: list[str] = []

    def ends(self, name: str) -> tuple[str, str]:
        return f"here/{name}", f"there/{name}"

    def alike(self, _: Store, item: Item) -> bool:
        return item.name.startswith("same")

    def adopt(self, item: Item) -> None:
        self.deleted.append(f"adopted {item.name}")

    def send(self, _: Store, item: Item, progress: Any) -> None:
        self.send_one(item, progress)

    def delete(self, _: Store, item: Item) -> None:
        self.deleted.append(item.name)


def store() -> Store:
    return Store("http://h:1", connect=FakeWeb(lambda _: Reply(404)))


def item(name: str) -> Item:
    return Item(name, 10, 0)


def errand(do: Do, tell: Any = lambda event, error: None, **options: Any) -> tuple[Errand, Way]:
    way = Way(do)
    made: Any = Errand(way, store, tell, pause=lambda _: None, **options)  # type: ignore[arg-type]
    return made, way


def plan(*names: str, surplus: tuple[str, ...] = (), first: tuple[str, ...] = ()) -> Plan:
    steps = tuple(Step(item(name), look=name.startswith(("same", "other"))) for name in names)
    return Plan(tuple(map(item, first)), steps, tuple(map(item, surplus)), 3)


def test_all_of_it() -> None:
    events: list[Event] = []
    seen: list[tuple[int, int | None]] = []

    def send(_: Item, progress: Any) -> None:
        progress(4, 10)
        progress(10, 10)

    made, way = errand(
        send,
        lambda event, _: events.append(event),
        progress=lambda done, total: seen.append((done, total)),
    )
    made.run(
        Listing(skipped=[("link", "a link")]),
        plan("a", "other", "same", first=("z",), surplus=("y",)),
    )
    totals = made.totals
    assert (totals.copied, totals.copied_bytes, totals.deleted, totals.unchanged) == (2, 20, 2, 4)
    assert sorted(way.deleted) == ["adopted same", "y", "z"]
    assert seen[-1] == (30, 30)
    assert {(each.action, each.name) for each in events} == {
        ("skip", "link"),
        ("delete", "z"),
        ("copy", "a"),
        ("copy", "other"),
        ("delete", "y"),
    }
    assert made.exit == 0


def test_a_dry_run_changes_nothing() -> None:
    made, way = errand(lambda *_: pytest.fail("nothing is sent"), dry_run=True)
    made.run(Listing(), plan("a", "same", first=("z",), surplus=("y",)))
    assert way.deleted == []
    assert (made.totals.copied, made.totals.deleted, made.totals.unchanged) == (1, 2, 4)


@pytest.mark.parametrize(
    ("problems", "code"),
    [
        ([StorageError("x")], 1),
        ([StorageError("x"), IntegrityError("x")], 6),
        ([IntegrityError("x"), NotAuthorised("x")], 6),
        ([StorageError("x"), Unavailable("x")], 4),
    ],
)
def test_the_exit_code(problems: list[PutterError], code: int) -> None:
    left = list(problems)

    def send(_: Item, __: Any) -> None:
        if len(left) > 1:
            raise left.pop(0)
        raise left[0]

    made, _ = errand(send, jobs=1)
    made.run(Listing(), plan(*map(str, range(len(problems))), surplus=("y",)))
    assert (made.exit, made.totals.failed) == (code, len(problems))
    assert (made.totals.deleted, made.totals.not_deleted) == (0, 1)


def test_what_ends_it_stops_what_is_under_way() -> None:
    begun, refused = threading.Event(), threading.Event()

    def send(item: Item, progress: Any) -> None:
        if item.name == "slow":
            begun.set()
            assert refused.wait(30)
            while True:  # until a call says that it is over
                progress(1, 10)
        assert begun.wait(30)
        refused.set()
        raise NotAuthorised("no")

    made, _ = errand(send, jobs=2)
    made.run(Listing(), plan("bad", "slow", "x", "y"))
    assert (made.exit, made.totals.failed, made.totals.not_tried) == (5, 1, 3)


def test_an_error_of_who_is_told_ends_it() -> None:
    def tell(event: Event, _: PutterError | None) -> None:
        raise BrokenPipeError

    made, _ = errand(lambda *_: None, tell, jobs=2)
    with pytest.raises(BrokenPipeError):
        made.run(Listing(), plan("a", "b", "c"))


def test_names_that_are_no_text() -> None:
    assert text_of("a\udcffb\u732b") == "a\\udcffb\u732b"
