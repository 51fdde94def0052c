"""A file system in memory that forgets like a real one: the twin of `RealDisk`.

It keeps two states. The *visible* one is what the running process sees. The *durable* one is what
was synced: the bytes of each file on their own, the names of each directory on their own. `crash`
goes from visible to durable the unkind way: every unsynced name goes one way or the other on its
own, in any combination, and an unsynced file keeps all, some or none of its bytes, or zeros.

Faults come from one hook that is called before every operation with the operation's name and
path. It may raise `OSError`, which leaves the disk as translated by the seam, or any other
exception, which stands for the end of the process at that moment. Everything is deterministic:
no threads, no clock, no randomness but the generator that is handed to `crash`.

| operation | where |
|---|---|
| ``make_directory``, ``create``, ``rename``, ``unlink``, ``remove_directory`` | changes |
| ``allocate``, ``write`` | changes of block files |
| ``sync_file``, ``sync_directory``, ``sync_all``, ``sync`` | durability |
| ``read``, ``names`` | questions |
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from common.checksum import Buffer
from putter.storage.block_file import BlockFile
from putter.storage.disk import OpenFile, refusal
from putter.storage.engine import Capacity
from putter.storage.located import Whereabouts
from putter.storage.memory_blocks import BlockData, MemoryBlockFile

Hook = Callable[[str, str], None]
"""Called as ``hook(operation, path)`` before anything is done."""

CHANGES: Final = frozenset(
    {
        "make_directory", "create", "rename", "unlink", "remove_directory",
        "sync_file", "sync_directory", "sync_all", "allocate", "write", "sync",
    }
)  # fmt: skip
"""The operations that change the visible or the durable state."""


def _no_fault(operation: str, path: str) -> None:
    """The hook of a disk without faults."""


@dataclass(eq=False)
class _File:
    data: bytes
    names: int = 1
    """Under how many names a crash left it: a half durable rename leaves two."""
    synced: bool = False
    lost: bool = False
    """A failed sync: the system believes it clean, the platter never got it."""
    blocks: BlockData | None = None
    """What a block file holds instead of `data`."""

    @property
    def size(self) -> int:
        return len(self.blocks.data if self.blocks is not None else self.data)


@dataclass(eq=False)
class _Directory:
    visible: dict[str, _File | _Directory] = field(default_factory=dict)
    durable: dict[str, _File | _Directory] = field(default_factory=dict)


class MemoryDisk:
    """A file system in memory with a model of durability.

    Attributes:
        before: the hook; replace it to inject faults.
    """

    def __init__(self, capacity_bytes: int = 1 << 40, *, before: Hook = _no_fault) -> None:
        """An empty disk that holds ``capacity_bytes`` of file data."""
        self.before = before
        self._capacity_bytes = capacity_bytes
        self._root = _Directory()
        self._open: dict[int, _File] = {}
        self._next_handle = 0
        self._used_bytes = 0

    def make_directory(self, path: str) -> list[str]:
        """Make a directory and the missing ones above it."""
        made: list[str] = []
        directory = self._root
        names = path.split("/")
        for depth, name in enumerate(names, start=1):
            node = directory.visible.get(name)
            if node is None:
                here = "/".join(names[:depth])
                self._fault("make_directory", here, "make directory")
                node = directory.visible[name] = _Directory()
                made.append(here)
            if isinstance(node, _File):
                raise _refuse(errno.ENOTDIR, "make directory", path)
            directory = node
        return made

    def create(self, path: str, *parts: Buffer, private: bool = False) -> OpenFile:  # noqa: ARG002
        """Write a new file, whole or not at all."""
        self._fault("create", path, "create")
        directory, name = self._parent(path, "create")
        if name in directory.visible:
            raise _refuse(errno.EEXIST, "create", path)
        data = b"".join(parts)
        if self._used_bytes + len(data) > self._capacity_bytes:
            raise _refuse(errno.ENOSPC, "write", path)
        self._used_bytes += len(data)
        file = directory.visible[name] = _File(data)
        self._next_handle += 1
        self._open[self._next_handle] = file
        return OpenFile(path, self._next_handle)

    def sync_files(self, files: Sequence[OpenFile]) -> None:
        """Make the bytes of these files durable and close them all."""
        failure: Exception | None = None
        for file in files:
            node = self._open.pop(file.handle)
            try:
                self.before("sync_file", file.path)
            except OSError as error:
                node.lost = True
                failure = failure or refusal(error, "sync", file.path)
            node.synced = not node.lost
        if failure is not None:
            raise failure

    def close_files(self, files: Iterable[OpenFile]) -> None:
        """Close files without syncing them."""
        for file in files:
            del self._open[file.handle]

    def sync_directories(self, paths: Sequence[str]) -> None:
        """Make the names in these directories durable."""
        for path in paths:
            self._fault("sync_directory", path, "sync")
            directory = self._find(path)
            if not isinstance(directory, _Directory):
                raise _refuse(errno.ENOENT, "sync", path)
            directory.durable = dict(directory.visible)

    def sync_all(self) -> None:
        """Make everything durable that is visible."""
        self._fault("sync_all", "", "sync")
        for _, node in self._walk("", self._root):
            if isinstance(node, _Directory):
                node.durable = dict(node.visible)
            elif node.blocks is not None:
                node.blocks.sync()
            else:
                node.synced = not node.lost

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in one step."""
        self._fault("rename", new, "put in place")
        source, old_name = self._parent(old, "put in place")
        target, new_name = self._parent(new, "put in place")
        file = source.visible.get(old_name)
        replaced = target.visible.get(new_name)
        if file is None or isinstance(replaced, _Directory):
            raise _refuse(errno.ENOENT if file is None else errno.EISDIR, "put in place", new)
        del source.visible[old_name]
        target.visible[new_name] = file
        if replaced is not None:
            self._let_go(replaced)

    def unlink(self, path: str) -> bool:
        """Remove a file; False if there was none."""
        self._fault("unlink", path, "remove")
        above, _, name = path.rpartition("/")
        directory = self._find(above)
        if not isinstance(directory, _Directory) or name not in directory.visible:
            return False
        file = directory.visible[name]
        if isinstance(file, _Directory):
            raise _refuse(errno.EISDIR, "remove", path)
        del directory.visible[name]
        self._let_go(file)
        return True

    def remove_directory(self, path: str) -> bool:
        """Remove an empty directory; False if it is not empty or not there."""
        self._fault("remove_directory", path, "remove directory")
        directory = self._find(path)
        if directory is None:
            return False
        if isinstance(directory, _File):
            raise _refuse(errno.ENOTDIR, "remove directory", path)
        if directory.visible:
            return False
        parent, name = self._parent(path, "remove directory")
        del parent.visible[name]
        return True

    def read(self, path: str) -> bytes | None:
        """All bytes of a file; None if there is none."""
        self._fault("read", path, "read")
        file = self._find(path)
        if isinstance(file, _Directory):
            raise _refuse(errno.EISDIR, "read", path)
        if file is None:
            return None
        return file.data if file.blocks is None else bytes(file.blocks.data)

    def map(self, path: str) -> Buffer | None:
        """All bytes of a file that is not changed any more."""
        return self.read(path)

    def blocks(self, path: str, size: int | None = None) -> BlockFile:
        """Open a block file; with a size, make it first."""
        if size is not None:
            self._allocate(path, size)
        file = self._find(path)
        if not isinstance(file, _File) or file.blocks is None:
            raise _refuse(errno.ENOENT, "open", path)
        return MemoryBlockFile(file.blocks, lambda action: self._fault(action, path, action))

    def names(self, path: str) -> list[str]:
        """The names in a directory, in no order; empty if there is no such directory."""
        self._fault("names", path, "list")
        directory = self._find(path)
        return list(directory.visible) if isinstance(directory, _Directory) else []

    def whereabouts(self, path: str) -> Whereabouts | None:  # noqa: ARG002 - of the seam
        """Nowhere: it is in this process."""
        return None

    def capacity(self) -> Capacity:
        """What was asked for, and what of it no file uses."""
        return Capacity(self._capacity_bytes, max(0, self._capacity_bytes - self._used_bytes))

    def close(self) -> None:
        """Nothing to let go of: the next engine may use the same disk."""

    def crash(self, generator: random.Random) -> None:
        """Lose power: what was not synced is there afterwards, or not, or torn."""
        self._open.clear()
        self._forget(self._root, generator)
        files = [node for _, node in self._walk("", self._root) if isinstance(node, _File)]
        self._used_bytes = 0
        for file, names in Counter(files).items():
            file.names = names
            self._used_bytes += file.size

    def files(self) -> list[str]:
        """The paths of all visible files, sorted."""
        return sorted(path for path, node in self._walk("", self._root) if isinstance(node, _File))

    def rot(self, path: str, data: bytes) -> None:
        """Put other bytes below a file, as a failing platter does."""
        file = self._find(path)
        if not isinstance(file, _File):
            raise _refuse(errno.ENOENT, "rot", path)
        if file.blocks is not None:
            file.blocks.data[:] = data
            return
        self._used_bytes += len(data) - len(file.data)
        file.data = data

    def flip(self, path: str, bit: int) -> None:
        """Turn one bit of a file over, counted from its first byte's lowest."""
        data = bytearray(self.read(path) or b"")
        data[bit // 8] ^= 1 << bit % 8
        self.rot(path, bytes(data))

    def _forget(self, directory: _Directory, generator: random.Random) -> None:
        kept: dict[str, _File | _Directory] = {}
        for name in sorted(directory.visible.keys() | directory.durable.keys()):
            states = (directory.visible.get(name), directory.durable.get(name))
            node = states[0] if states[0] is states[1] else generator.choice(states)
            if node is not None:
                kept[name] = node
        directory.visible = kept
        directory.durable = dict(kept)
        for node in kept.values():
            if isinstance(node, _Directory):
                self._forget(node, generator)
            elif node.blocks is not None:
                node.blocks.crash(generator)
            elif not node.synced:
                node.data = _torn(node.data, generator)
                node.synced, node.lost = True, False

    def _let_go(self, file: _File) -> None:
        file.names -= 1
        if not file.names:
            self._used_bytes -= file.size

    def _allocate(self, path: str, size: int) -> None:
        self._fault("allocate", path, "create")
        directory, name = self._parent(path, "create")
        if name in directory.visible:
            raise _refuse(errno.EEXIST, "create", path)
        if self._used_bytes + size > self._capacity_bytes:
            raise _refuse(errno.ENOSPC, "set space aside for", path)
        self._used_bytes += size
        directory.visible[name] = _File(b"", synced=True, blocks=BlockData(size))

    def _walk(
        self, path: str, node: _File | _Directory
    ) -> Iterator[tuple[str, _File | _Directory]]:
        yield path, node
        if isinstance(node, _Directory):
            for name, child in node.visible.items():
                yield from self._walk(f"{path}/{name}" if path else name, child)

    def _find(self, path: str) -> _File | _Directory | None:
        node: _File | _Directory | None = self._root
        for name in path.split("/") if path else ():
            if not isinstance(node, _Directory):
                return None
            node = node.visible.get(name)
        return node

    def _parent(self, path: str, action: str) -> tuple[_Directory, str]:
        above, _, name = path.rpartition("/")
        directory = self._find(above)
        if not isinstance(directory, _Directory):
            raise _refuse(errno.ENOENT, action, path)
        return directory, name

    def _fault(self, operation: str, path: str, action: str) -> None:
        try:
            self.before(operation, path)
        except OSError as error:
            raise refusal(error, action, path) from error


def _refuse(number: int, action: str, path: str) -> Exception:
    return refusal(OSError(number, os.strerror(number)), action, path)


def _torn(data: bytes, generator: random.Random) -> bytes:
    """What a file that nobody synced may look like afterwards."""
    cut = generator.randint(0, len(data))
    return generator.choice((b"", data[:cut], data[:cut] + bytes(len(data) - cut), data))
