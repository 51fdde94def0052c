"""What has to be done so that one tree becomes as another."""

from __future__ import annotations

import pytest

from putter.client.trees import plan
from putter.client.trees.listing import Item
from putter.client.trees.plan import Judge, Step, Verdict, planned


def item(name: str = "a", size: int = 5, time_ms: int = 1000, etag: str = "") -> Item:
    return Item(name, size, time_ms, etag)


def tree(*names: str) -> dict[str, Item]:
    return {name: item(name) for name in names}


@pytest.mark.parametrize(
    "judge", [plan.to_store, plan.from_store, plan.within_store, plan.by_checksum]
)
def test_sizes_settle_it(judge: Judge) -> None:
    assert judge(item(size=4, etag="e"), item(size=5, etag="e")) is Verdict.SEND
    assert judge(item(size=0, time_ms=9999), item(size=0)) is Verdict.SAME


@pytest.mark.parametrize(
    ("judge", "source", "target", "verdict"),
    [
        (plan.to_store, item(time_ms=999), item(), Verdict.SAME),
        (plan.to_store, item(time_ms=1000), item(), Verdict.SAME),
        (plan.to_store, item(time_ms=1001), item(), Verdict.LOOK),
        (plan.from_store, item(time_ms=1000), item(), Verdict.SAME),
        (plan.from_store, item(time_ms=999), item(), Verdict.LOOK),
        (plan.from_store, item(time_ms=1001), item(), Verdict.LOOK),
        (plan.within_store, item(etag="e"), item(etag="e", time_ms=7), Verdict.SAME),
        (plan.within_store, item(etag="e"), item(etag="f"), Verdict.LOOK),
        (plan.within_store, item(), item(), Verdict.LOOK),
        (plan.by_checksum, item(etag="e"), item(etag="e"), Verdict.LOOK),
    ],
)
def test_the_same_size(judge: Judge, source: Item, target: Item, verdict: Verdict) -> None:
    assert judge(source, target) is verdict


def test_what_differs_goes_in_order() -> None:
    source = tree("b", "a", "same", "touched")
    target = tree("same", "touched", "more")
    source["touched"] = item("touched", time_ms=1001)
    made = planned(source, target, plan.to_store)
    assert made.steps == (
        Step(source["a"]),
        Step(source["b"]),
        Step(source["touched"], look=True),
    )
    assert (made.unchanged, made.surplus, made.in_the_way) == (1, (), ())


def test_what_is_only_in_the_target_goes_last() -> None:
    made = planned(tree("a"), tree("z", "more"), plan.to_store, delete=True)
    assert [each.name for each in made.surplus] == ["more", "z"]


def test_what_stands_in_the_way_on_a_disk_goes_first() -> None:
    source, target = tree("a/b", "c", "d"), tree("a", "c/x/y", "c/z", "cc", "d")
    made = planned(source, target, plan.from_store, delete=True, on_disk=True)
    assert [each.name for each in made.in_the_way] == ["a", "c/x/y", "c/z"]
    assert [each.name for each in made.surplus] == ["cc"]
    in_store = planned(source, target, plan.to_store, delete=True)
    assert [each.name for each in in_store.surplus] == ["a", "c/x/y", "c/z", "cc"]


def test_files_that_are_directories_of_others() -> None:
    assert plan.also_directories({"a", "a/b", "b/c", "b/c/d/e", "bb"}) == {"a", "b/c"}
