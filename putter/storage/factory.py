"""From the name of a layout to an open engine."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from common.clock import Clock
from common.errors import SettingInvalid
from common.limits import GIB, MIB
from putter.storage.datadir import IDENTITY_BYTES, RandomBytes, open_data_directory
from putter.storage.disk import RealDisk
from putter.storage.engine import Engine
from putter.storage.memory import MemoryEngine
from putter.storage.tree import TreeEngine

LAYOUTS: Final = ("tree", "memory")
RESERVE_BYTES_DEFAULT: Final = 64 * MIB
"""What new tickets leave free on a disk: deleting needs space, too."""


def open_engine(
    layout: str,
    path: Path,
    *,
    reserve_bytes: int = RESERVE_BYTES_DEFAULT,
    memory_bytes: int = 4 * GIB,
    random_bytes: RandomBytes = secrets.token_bytes,
    clock: Clock | None = None,
) -> Engine:
    """Open the engine of a layout, ready to use; `Engine.close` gives everything back.

    Args:
        layout: one of `LAYOUTS`.
        path: the data directory; made if it is not there, unused by ``memory``.
        reserve_bytes: free space of the disk that new tickets must leave.
        memory_bytes: the capacity of ``memory``.
        random_bytes: gives a new directory, or a memory engine, its identity.
        clock: dates a new directory; the machine's by default.

    Raises:
        SettingInvalid: no such layout, or the directory holds another one.
        DataDirectoryInUse: another process uses the directory.
        StorageError: the directory cannot be used.
    """
    if layout == "memory":
        identity = random_bytes(IDENTITY_BYTES).hex()
        return MemoryEngine(capacity_bytes=memory_bytes, identity=identity)
    if layout == "tree":
        return _open_tree(path, reserve_bytes, random_bytes, clock)
    raise SettingInvalid(
        f"there is no layout {layout!r}", hint=f"--storage is one of: {', '.join(LAYOUTS)}"
    )


def _open_tree(
    path: Path, reserve_bytes: int, random_bytes: RandomBytes, clock: Clock | None
) -> TreeEngine:
    directory = open_data_directory(path, "tree", random_bytes=random_bytes, clock=clock)
    try:
        disk = RealDisk(path)
        try:
            return TreeEngine(
                disk,
                identity=directory.identity,
                reserve_bytes=reserve_bytes,
                release=directory.close,
            )
        except BaseException:
            disk.close()
            raise
    except BaseException:
        directory.close()
        raise
