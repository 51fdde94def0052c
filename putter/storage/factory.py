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
from putter.storage.segments.engine import SegmentsEngine, believe
from putter.storage.segments.replay import Verify
from putter.storage.tree import TreeEngine

LAYOUTS: Final = ("segments", "tree", "memory")
LAYOUT_DEFAULT: Final = "segments"
RESERVE_BYTES_DEFAULT: Final = 64 * MIB
"""What new tickets leave free on a disk: deleting needs space, too."""


def open_engine(
    layout: str | None,
    path: Path,
    *,
    verify: Verify | None = None,
    reserve_bytes: int = RESERVE_BYTES_DEFAULT,
    memory_bytes: int = 4 * GIB,
    random_bytes: RandomBytes = secrets.token_bytes,
    clock: Clock | None = None,
) -> Engine:
    """Open the engine of a layout, ready to use; `Engine.close` gives everything back.

    Args:
        layout: one of `LAYOUTS`; None for what the directory holds, `LAYOUT_DEFAULT` in a new one.
        path: the data directory; made if it is not there, unused by ``memory``.
        verify: tells whether frames fit their checksums: the end of a log is checked at the start.
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
    if layout is not None and layout not in LAYOUTS:
        raise SettingInvalid(
            f"there is no layout {layout!r}", hint=f"--storage is one of: {', '.join(LAYOUTS)}"
        )
    directory = open_data_directory(
        path, layout, LAYOUT_DEFAULT, random_bytes=random_bytes, clock=clock
    )
    try:
        disk = RealDisk(path)
        try:
            if directory.node.layout == "tree":
                return TreeEngine(
                    disk,
                    identity=directory.identity,
                    reserve_bytes=reserve_bytes,
                    release=directory.close,
                )
            return SegmentsEngine(
                disk,
                identity=directory.identity,
                reserve_bytes=reserve_bytes,
                verify=verify or believe,
                random_bytes=random_bytes,
                release=directory.close,
            )
        except BaseException:
            disk.close()
            raise
    except BaseException:
        directory.close()
        raise
