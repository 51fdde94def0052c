"""What has to be done so that one tree becomes as another: decided from two listings alone.

Sizes and times settle what they can; where they cannot, the BLAKE3 of both sides decides before any
byte travels (`Verdict.LOOK`).

| direction | alike without a look, if the sizes are the same and |
|---|---|
| to the store | the local file was not changed after the store's was written |
| from the store | the local file has the very time of the store's version, which a copy gives it |
| within the store | the entity tags, which are made of the bytes, are the same |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

from putter.client.trees.globs import directories
from putter.client.trees.listing import Item


class Verdict(Enum):
    """Of a file that is on both sides."""

    SAME = "nothing to do"
    SEND = "other bytes"
    LOOK = "only the bytes can tell"


Judge = Callable[[Item, Item], Verdict]
"""Compares what is there in the source with what is there in the target."""


@dataclass(frozen=True, slots=True)
class Step:
    """A file that may have to go.

    Attributes:
        item: in the source.
        look: whether there is one in the target that may have the same bytes.
    """

    item: Item
    look: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order.

    Attributes:
        in_the_way: to be deleted first: where it stands a directory has to be, or the other way.
        steps: to be copied.
        surplus: to be deleted at last, unless something failed.
        unchanged: how many files are alike.
    """

    in_the_way: tuple[Item, ...]
    steps: tuple[Step, ...]
    surplus: tuple[Item, ...]
    unchanged: int


def to_store(source: Item, target: Item) -> Verdict:
    """A local file against the store's."""
    return _sized(source, target, alike=source.time_ms <= target.time_ms)


def from_store(source: Item, target: Item) -> Verdict:
    """A file of the store against a local one."""
    return _sized(source, target, alike=source.time_ms == target.time_ms)


def within_store(source: Item, target: Item) -> Verdict:
    """Two files of the store."""
    return _sized(source, target, alike=bool(source.etag) and source.etag == target.etag)


def by_checksum(source: Item, target: Item) -> Verdict:
    """Whatever the times say."""
    return _sized(source, target, alike=False)


def _sized(source: Item, target: Item, *, alike: bool) -> Verdict:
    if source.size != target.size:
        return Verdict.SEND
    return Verdict.SAME if alike or not source.size else Verdict.LOOK


def planned(
    source: Mapping[str, Item],
    target: Mapping[str, Item],
    judge: Judge,
    *,
    delete: bool = False,
    on_disk: bool = False,
) -> Plan:
    """Compare two trees.

    Args:
        source: files by name.
        target: files by name.
        judge: decides of what is in both.
        delete: whether what is only in the target goes away.
        on_disk: whether the target is a directory, where no file lies below another.
    """
    steps = []
    unchanged = 0
    for name in sorted(source):
        rival = target.get(name)
        verdict = Verdict.SEND if rival is None else judge(source[name], rival)
        if verdict is Verdict.SAME:
            unchanged += 1
        else:
            steps.append(Step(source[name], verdict is Verdict.LOOK))
    surplus = [target[name] for name in sorted(target.keys() - source.keys())] if delete else []
    coming, going = {step.item.name for step in steps}, {item.name for item in surplus}
    blocking = _in_the_way(coming, going) if on_disk else set()
    return Plan(
        in_the_way=tuple(item for item in surplus if item.name in blocking),
        steps=tuple(steps),
        surplus=tuple(item for item in surplus if item.name not in blocking),
        unchanged=unchanged,
    )


def also_directories(names: AbstractSet[str]) -> set[str]:
    """Names that cannot be files on a disk because others lie below them."""
    return {above for name in names for above in directories(name)} & names


def _in_the_way(coming: AbstractSet[str], going: AbstractSet[str]) -> set[str]:
    needed = {above for name in coming for above in directories(name)}
    return {
        name
        for name in going
        if name in needed or any(above in coming for above in directories(name))
    }
