"""What is there: the files below a directory, or below a place of the store."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import NotFound, PutterError, StorageError, UsageError
from putter.client.store import Store
from putter.client.trees.globs import Wanted
from putter.client.trees.places import StorePlace


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a tree.

    Attributes:
        name: its path below the top of the tree, with slashes.
        size: bytes.
        time_ms: when it was changed (a local file) or written (in the store), since 1970.
        etag: entity tag in the store; "" for a local file.
        version: version ID in the store; "" for a local file.
    """

    name: str
    size: int
    time_ms: int
    etag: str = ""
    version: str = ""


@dataclass
class Listing:
    """A tree.

    Attributes:
        items: its files by name.
        failed: what could not be looked at, and why.
        skipped: what is none of the files that are copied, and why.
        empty: whether nothing is there at all, wanted or not.
    """

    items: dict[str, Item] = field(default_factory=dict)
    failed: list[tuple[str, PutterError]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    empty: bool = True


def local_tree(top: Path, wanted: Wanted, *, required: bool) -> Listing:
    """The regular files below a directory. Links are not followed, wherever they lead.

    Args:
        top: the directory; may itself be a link to one.
        wanted: which files are meant.
        required: whether it has to be there; else one that is missing is empty.

    Raises:
        NotFound: it is not there, and has to be.
        UsageError: it is no directory.
        StorageError: it cannot be read.
    """
    found = Listing()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(top / below) as entries:
                for entry in entries:
                    found.empty = False
                    _take(entry, below, wanted, found, waiting)
        except FileNotFoundError as error:
            if not below and required:
                raise NotFound(f"there is no directory {top}") from error
        except NotADirectoryError as error:
            raise UsageError(f"{top / below} is no directory") from error
        except OSError as error:
            problem = StorageError(f"cannot read {top / below}: {error.strerror}")
            if not below:
                raise problem from error
            found.failed.append((below, problem))
    return found


def _take(
    entry: os.DirEntry[str], below: str, wanted: Wanted, found: Listing, waiting: list[str]
) -> None:
    name = f"{below}/{entry.name}" if below else entry.name
    if entry.is_dir(follow_symlinks=False):
        if not wanted.leaves_out(name):
            waiting.append(name)
        return
    if not wanted(name):
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        found.failed.append((name, StorageError(f"cannot look at {name}: {error.strerror}")))
        return
    if stat.S_ISLNK(status.st_mode):
        found.skipped.append((name, "a link"))
    elif not stat.S_ISREG(status.st_mode):
        found.skipped.append((name, "no regular file"))
    else:
        found.items[name] = Item(name, status.st_size, status.st_mtime_ns // 1_000_000)


def store_tree(
    store: Store, place: StorePlace, wanted: Wanted, *, required: bool, markers: bool
) -> Listing:
    """The files of the store below a place.

    Args:
        store: where.
        place: a bucket, or what the keys begin with.
        wanted: which files are meant.
        required: whether something has to be there; a bucket may be empty.
        markers: whether files without a byte whose keys end with a slash, which some clients write
            in place of directories, are files, too.

    Raises:
        NotFound: nothing is there, and something has to be.
    """
    found = Listing()
    for entry in store.list(place.bucket, place.directory):
        found.empty = False
        name = entry.key.removeprefix(place.directory)
        if not name or not wanted(name):
            continue
        if name.endswith("/") and not entry.size and not markers:
            continue
        found.items[name] = Item(name, entry.size, entry.created_ms, entry.etag, entry.version)
    if required and found.empty and (place.key or place.bucket not in store.buckets()):
        raise NotFound(f"nothing is below {place}")
    return found
