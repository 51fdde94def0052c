"""A node's data directory: who owns it, what layout it has, which node it is.

```
<data directory>/
  node.json   format version, layout, identity, when it was made; replaced when the format rises
  lock        locked (flock) by the process that uses the directory; holds its process id
  …           the layout's own files
```

The directory is self-sufficient: moved to another machine, it is the same node.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from common.clock import Clock, SystemClock
from common.errors import DataDirectoryInUse, SettingInvalid, StorageError
from putter.storage.disk import Disk, RealDisk, refusal

FORMAT: Final = 1
"""What a new directory has."""
FORMAT_PACKED: Final = 2
"""`segments` may hold records that are compressed or encrypted."""
IDENTITY_BYTES: Final = 6
_NODE: Final = "node.json"
_NEW_NODE: Final = "node.json.new"
_LOCK: Final = "lock"
_LAYOUT_FILES: Final = frozenset(
    {"tickets", "raw", "commits", "segments", "ceilings", "data-keys", "data-keys.copy"}
)

RandomBytes = Callable[[int], bytes]
"""A source of random bytes: `secrets.token_bytes`, or a seeded generator's ``randbytes``."""


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of ``node.json``.

    Attributes:
        format: version of the directory's format.
        layout: ``tree`` or ``segments``.
        identity: 12 hex digits, given once.
        created_ms: wall clock, milliseconds since 1970.
        data_keys: records may be encrypted: without its data keys the directory is not opened.
    """

    format: int
    layout: str
    identity: str
    created_ms: int
    data_keys: bool = False


class DataDirectory:
    """An open data directory, locked until `close`.

    Attributes:
        path: where it is.
        node: what ``node.json`` says.
    """

    def __init__(self, path: Path, node: Node, lock: int) -> None:
        """Take over a held lock; made by `open_data_directory`."""
        self.path = path
        self.node = node
        self._lock = lock

    @property
    def identity(self) -> str:
        """The node's identity."""
        return self.node.identity

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def open_data_directory(
    path: Path,
    layout: str | None,
    layout_default: str = "",
    *,
    random_bytes: RandomBytes = secrets.token_bytes,
    clock: Clock | None = None,
) -> DataDirectory:
    """Lock a data directory for this process, and make it first if it is not there.

    Args:
        path: the directory.
        layout: what it must hold, or will hold if it is new; None for whatever it holds.
        layout_default: what a new one will hold if ``layout`` is None.
        random_bytes: gives a new directory its identity.
        clock: dates a new directory; the machine's by default.

    Raises:
        DataDirectoryInUse: another process uses it.
        SettingInvalid: it holds another layout.
        StorageError: a newer or damaged format, or the disk refused.
    """
    _make(path)
    lock = _take_lock(path)
    try:
        disk = RealDisk(path)
        try:
            node = load_node(
                disk, layout, path, random_bytes, clock or SystemClock(), layout_default
            )
        finally:
            disk.close()
    except BaseException:
        os.close(lock)
        raise
    return DataDirectory(path, node, lock)


def load_node(
    disk: Disk,
    layout: str | None,
    path: Path,
    random_bytes: RandomBytes,
    clock: Clock,
    layout_default: str = "",
) -> Node:
    """Read ``node.json``, or write it in a new directory; the caller holds the lock.

    Args:
        disk: its root is the data directory.
        layout: what the directory must hold; None for whatever it holds.
        path: names the directory in messages.
        random_bytes: gives a new directory its identity.
        clock: dates it.
        layout_default: of a new directory if ``layout`` is None.
    """
    data = disk.read(_NODE)
    if data is None:
        return _create_node(disk, layout or layout_default, path, random_bytes, clock)
    try:
        node = msgspec.json.decode(data, type=Node)
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"{path / _NODE} is damaged: {error}",
            hint="restore the file, or start with an empty directory: the replicas fill it",
        ) from error
    if node.format not in (FORMAT, FORMAT_PACKED):
        raise StorageError(
            f"{path} has format {node.format}; this version reads formats up to {FORMAT_PACKED}",
            hint="use the version that wrote it, or another --data-dir",
        )
    if layout is not None and node.layout != layout:
        raise SettingInvalid(
            f"{path} holds the layout {node.layout!r}, not {layout!r}",
            hint=f"start with --storage {node.layout}, or with another --data-dir",
        )
    return node


def _create_node(
    disk: Disk, layout: str, path: Path, random_bytes: RandomBytes, clock: Clock
) -> Node:
    orphans = sorted(_LAYOUT_FILES.intersection(disk.names("")))
    if orphans:
        raise StorageError(
            f"{path} holds {', '.join(orphans)} but no {_NODE}",
            hint=f"restore {_NODE}, or use an empty directory",
        )
    node = Node(FORMAT, layout, random_bytes(IDENTITY_BYTES).hex(), clock.now_ms())
    _save_node(disk, node)
    return node


def raise_format(disk: Disk, node: Node, *, data_keys: bool) -> Node:
    """Note that records may be packed from now on; older versions then refuse the directory.

    Args:
        disk: its root is the data directory, which is locked.
        node: what it says.
        data_keys: records may also be encrypted.

    Returns:
        What it says now, durably.

    Raises:
        NoSpace, StorageError: the disk refused.
    """
    raised = msgspec.structs.replace(
        node, format=FORMAT_PACKED, data_keys=node.data_keys or data_keys
    )
    if raised != node:
        _save_node(disk, raised)
    return raised


def _save_node(disk: Disk, node: Node) -> None:
    disk.unlink(_NEW_NODE)
    text = msgspec.json.format(msgspec.json.encode(node), indent=2)
    disk.sync_files([disk.create(_NEW_NODE, text, b"\n")])
    disk.rename(_NEW_NODE, _NODE)
    disk.sync_directories([""])


def _make(path: Path) -> None:
    """Make the directory and those above it, durably."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        for directory in missing:
            handle = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        raise refusal(error, "make the data directory", str(path)) from error


def _take_lock(path: Path) -> int:
    """The descriptor of the locked file; closing it gives the lock back."""
    try:
        handle = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise refusal(error, "open the lock of", str(path)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise DataDirectoryInUse(
            f"the data directory {path} is in use by process {holder or '(unknown)'}",
            hint="stop that process, or give this one another --data-dir",
        ) from error
    except OSError as error:
        os.close(handle)
        raise refusal(error, "lock", str(path)) from error
    return handle
