"""How a file goes from one end to the other, and is compared: one class for each direction.

Whatever is written is whole and verified, or not there: the store sees to that at its end, `save`
at this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

from common.errors import NameInvalid, NotFound, PutterError, StorageError, UsageError
from common.names import check_key
from putter.client.models import FileInfo
from putter.client.sources import Progress
from putter.client.store import Store
from putter.client.trees import disk, plan
from putter.client.trees.globs import Wanted
from putter.client.trees.listing import Item, Listing, local_tree, store_tree
from putter.client.trees.places import Place, StorePlace, check_apart

_TRIES: Final = 3
"""A file that is written to while it is sent is sent again so often."""


class Route(Protocol):
    """One direction.

    Attributes:
        judge: compares what two listings say.
        does: what it does with a file.
        on_disk: whether the target is a directory of this machine.
    """

    @property
    def judge(self) -> plan.Judge:
        """Compares what two listings say."""
        ...

    @property
    def does(self) -> Literal["copy", "move"]:
        """What it does with a file."""
        ...

    @property
    def on_disk(self) -> bool:
        """Whether the target is a directory of this machine."""
        ...

    def source(self, store: Store, wanted: Wanted, /) -> Listing:
        """What is there to copy, without what has no place in the target."""
        ...

    def target(self, store: Store, wanted: Wanted, /) -> Listing:
        """What is there already."""
        ...

    def ends(self, name: str, /) -> tuple[str, str]:
        """Where a file comes from and where it goes, for people."""
        ...

    def alike(self, store: Store, item: Item, /) -> bool:
        """Whether both sides have the same bytes; this reads what has to be read."""
        ...

    def adopt(self, item: Item, /) -> None:
        """Note that both sides of a file are alike, so that nobody has to look again."""
        ...

    def send(self, store: Store, item: Item, progress: Progress, /) -> None:
        """Copy a file; when this returns, it is durable."""
        ...

    def delete(self, store: Store, item: Item, /) -> None:
        """Delete a file of the target."""
        ...


class Upload:
    """From a directory into the store."""

    judge = staticmethod(plan.to_store)
    does: Final = "copy"
    on_disk = False

    def __init__(self, top: Path, place: StorePlace) -> None:
        self._top = top
        self._place = place

    def source(self, _: Store, wanted: Wanted) -> Listing:
        """The directory, without names that no key can have."""
        found = local_tree(self._top, wanted, required=True)
        _refuse(found, {name: problem for name in found.items if (problem := self._bad(name))})
        return found

    def target(self, store: Store, wanted: Wanted) -> Listing:
        """The place in the store."""
        return store_tree(store, self._place, wanted, required=False, markers=False)

    def ends(self, name: str) -> tuple[str, str]:
        """Path and place."""
        return str(self._top / name), str(self._place.below(name))

    def alike(self, store: Store, item: Item) -> bool:
        """Compare the BLAKE3 of both."""
        theirs = store.head(self._place.below(item.name).name).blake3
        return theirs is not None and theirs == disk.digest_of(self._top / item.name)

    def adopt(self, _: Item) -> None:
        """Nothing: the store keeps the times of its own writes."""

    def send(self, store: Store, item: Item, progress: Progress) -> None:
        """Send a file, and again if it was written to meanwhile: its time would not tell later."""
        path = self._top / item.name
        for _ in range(_TRIES):
            before = disk.state_of(path)
            store.put(self._place.below(item.name).name, path, progress=progress)
            if disk.state_of(path) == before:
                return
        raise StorageError(
            f"{path} changed while it was sent, {_TRIES} times",
            hint="copy it again when nobody writes to it",
        )

    def delete(self, store: Store, item: Item) -> None:
        """Delete a file of the store."""
        _delete(store, self._place.below(item.name))

    def _bad(self, name: str) -> PutterError | None:
        try:
            check_key(self._place.below(name).key)
        except NameInvalid as error:
            return error
        return None


class Download:
    """From the store into a directory."""

    judge = staticmethod(plan.from_store)
    does: Final = "copy"
    on_disk = True

    def __init__(self, place: StorePlace, top: Path) -> None:
        self._place = place
        self._top = top

    def source(self, store: Store, wanted: Wanted) -> Listing:
        """The place in the store, without names that cannot be files below a directory."""
        found = store_tree(store, self._place, wanted, required=True, markers=False)
        bad: dict[str, PutterError] = {}
        for name in found.items:
            try:
                disk.check_below(name)
            except NameInvalid as error:
                bad[name] = error
        for name in plan.also_directories(found.items.keys() - bad.keys()):
            bad[name] = StorageError(f"{name!r} cannot be a file here: other names go on behind it")
        _refuse(found, bad)
        return found

    def target(self, _: Store, wanted: Wanted) -> Listing:
        """The directory; its links are not told of, since nothing would be done with them."""
        found = local_tree(self._top, wanted, required=False)
        found.skipped.clear()
        return found

    def ends(self, name: str) -> tuple[str, str]:
        """Place and path."""
        return str(self._place.below(name)), str(self._top / name)

    def alike(self, store: Store, item: Item) -> bool:
        """Compare the BLAKE3 of both."""
        theirs = store.head(self._place.below(item.name).name).blake3
        return theirs is not None and theirs == disk.digest_of(self._top / item.name)

    def adopt(self, item: Item) -> None:
        """Give the file the time of the store's version."""
        disk.set_time(self._top / item.name, item.time_ms)

    def send(self, store: Store, item: Item, progress: Progress) -> None:
        """Fetch a file; it appears whole, with the time of the version."""
        path = disk.room_for(self._top, item.name)
        told = store.download(self._place.below(item.name).name, path, progress)
        disk.set_time(path, _time_of(item, told.version, told.created_ms))

    def delete(self, _: Store, item: Item) -> None:
        """Delete a local file, and directories that become empty by it."""
        disk.remove(self._top, item.name)


class Within:
    """From one place of the store to another; the bytes do not come here."""

    judge = staticmethod(plan.within_store)
    does: Literal["copy", "move"] = "copy"
    on_disk = False

    def __init__(self, source: StorePlace, target: StorePlace) -> None:
        self._source = source
        self._target = target

    def source(self, store: Store, wanted: Wanted) -> Listing:
        """The one place, without names that become too long at the other."""
        found = store_tree(store, self._source, wanted, required=True, markers=True)
        bad: dict[str, PutterError] = {}
        for name in found.items:
            try:
                check_key(self._target.below(name).key)
            except NameInvalid as error:
                bad[name] = error
        _refuse(found, bad)
        return found

    def target(self, store: Store, wanted: Wanted) -> Listing:
        """The other place."""
        return store_tree(store, self._target, wanted, required=False, markers=True)

    def ends(self, name: str) -> tuple[str, str]:
        """Both places."""
        return str(self._source.below(name)), str(self._target.below(name))

    def alike(self, store: Store, item: Item) -> bool:
        """Compare the BLAKE3 that the store tells of both."""
        ours = store.head(self._source.below(item.name).name).blake3
        return ours is not None and ours == store.head(self._target.below(item.name).name).blake3

    def adopt(self, _: Item) -> None:
        """Nothing: the store keeps the times of its own writes."""

    def send(self, store: Store, item: Item, progress: Progress) -> None:
        """Have the store copy a file."""
        source, target = self._source.below(item.name), self._target.below(item.name)
        told = store.copy(source.name, target.name)
        progress(told.size, told.size)

    def delete(self, store: Store, item: Item) -> None:
        """Delete a file of the store."""
        _delete(store, self._target.below(item.name))


class Moving(Within):
    """The same, and nothing stays where it was."""

    does = "move"

    def send(self, store: Store, item: Item, progress: Progress) -> None:
        """Have the store rename a file."""
        source, target = self._source.below(item.name), self._target.below(item.name)
        try:
            told = store.move(source.name, target.name)
        except NotFound:
            # The answer to the first try was lost, if what was listed is at the other place now.
            held = _held(store, target)
            if held is None or held.etag != item.etag:
                raise
            told = held
        progress(told.size, told.size)


def moving(source: StorePlace, target: StorePlace) -> Moving:
    """The way of a tree that gets another place in the store.

    Raises:
        UsageError: one place lies in the other.
    """
    check_apart(source, target)
    return Moving(source, target)


def route(source: Place, target: Place) -> Route:
    """The direction between two ends.

    Raises:
        UsageError: both are on this machine, or one place of the store lies in the other.
    """
    match source, target:
        case Path(), StorePlace():
            return Upload(source, target)
        case StorePlace(), Path():
            return Download(source, target)
        case StorePlace(), StorePlace():
            check_apart(source, target)
            return Within(source, target)
    raise UsageError(
        "neither of the two is in the store", hint="a file of the store is putter:bucket/key"
    )


def _refuse(found: Listing, problems: Mapping[str, PutterError]) -> None:
    for name, problem in problems.items():
        del found.items[name]
        found.failed.append((name, problem))


def _delete(store: Store, place: StorePlace) -> None:
    try:
        store.delete(place.name)
    except NotFound:
        return  # somebody else was faster, or the answer to the first try was lost


def _held(store: Store, place: StorePlace) -> FileInfo | None:
    try:
        return store.head(place.name)
    except NotFound:
        return None


def _time_of(item: Item, version: str, created_ms: int) -> int:
    """When a version was written: to the millisecond if it is the one that was listed."""
    return item.time_ms if version == item.version else created_ms
