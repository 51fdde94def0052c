"""From the name of a layout to an open engine."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.clock import Clock
from common.errors import NoSpace, SettingInvalid
from common.keys import Keyring
from common.limits import GIB, MIB
from putter.storage import starts
from putter.storage.datadir import (
    IDENTITY_BYTES,
    DataDirectory,
    RandomBytes,
    open_data_directory,
    raise_format,
)
from putter.storage.disk import Disk, RealDisk
from putter.storage.engine import Engine
from putter.storage.envelope import KeyFiles, open_data_keys
from putter.storage.memory import MemoryEngine
from putter.storage.notes import DiskNotes, MemoryNotes, Notes
from putter.storage.segments.engine import SegmentsEngine, believe
from putter.storage.segments.files import SEGMENT_BYTES_MIN
from putter.storage.segments.packing import AtRest
from putter.storage.segments.replay import Verify
from putter.storage.tree import TreeEngine

_log: Final = logging.getLogger(__name__)
LAYOUTS: Final = ("segments", "tree", "memory")
LAYOUT_DEFAULT: Final = "segments"
RESERVE_BYTES_DEFAULT: Final = 64 * MIB
"""What new tickets leave free on a disk: deleting needs space, too."""
EMERGENCY_BYTES: Final = 2 * SEGMENT_BYTES_MIN + MIB
"""What `segments` leave whatever the reserve: a segment for tombstones and removals, one for what
compaction copies, and the small files beside them."""


@dataclass(frozen=True)
class Protection:
    """How data is to lie on the disk.

    Attributes:
        compress: what shrinks is compressed.
        encrypt: everything new is encrypted.
        keyring: wraps the data keys; without one, nothing that is encrypted can be opened.
    """

    compress: bool = False
    encrypt: bool = False
    keyring: Keyring | None = None


def open_engine(
    layout: str | None,
    path: Path,
    *,
    protection: Protection = Protection(),
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
        protection: compression and encryption, for the layout ``segments`` only.
        verify: tells whether frames fit their checksums: the end of a log is checked at the start.
        reserve_bytes: free space of the disk that new tickets must leave; ``segments`` leave some
            in any case, so that a full disk can be emptied.
        memory_bytes: the capacity of ``memory``.
        random_bytes: gives a new directory, or a memory engine, its identity.
        clock: dates a new directory; the machine's by default.

    Raises:
        SettingInvalid: no such layout, the directory holds another one, or it cannot protect.
        NotAuthorised: the cluster key that wraps the data keys is missing.
        DataDirectoryInUse: another process uses the directory.
        StorageError: the directory cannot be used.
    """
    if layout == "memory":
        _refuse_protection(protection, layout)
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
                _refuse_protection(protection, "tree")
                return TreeEngine(
                    disk,
                    identity=directory.identity,
                    reserve_bytes=reserve_bytes,
                    release=directory.close,
                )
            at_rest, key_files = _at_rest(disk, directory, protection, random_bytes)
            return SegmentsEngine(
                disk,
                identity=directory.identity,
                reserve_bytes=max(reserve_bytes, _least_reserve(disk)),
                verify=verify or believe,
                at_rest=at_rest,
                key_files=key_files,
                random_bytes=random_bytes,
                release=directory.close,
            )
        except BaseException:
            disk.close()
            raise
    except BaseException:
        directory.close()
        raise


def _least_reserve(disk: Disk) -> int:
    """What emptying a full disk takes, where an operator reserves less."""
    return min(EMERGENCY_BYTES, disk.capacity().total_bytes // 4)


def _refuse_protection(protection: Protection, layout: str) -> None:
    if protection.compress or protection.encrypt:
        raise SettingInvalid(
            f"the layout {layout!r} neither compresses nor encrypts",
            hint="leave --compress and --encrypt off, or use --storage segments in a new directory",
        )


def _at_rest(
    disk: Disk, directory: DataDirectory, wanted: Protection, random_bytes: RandomBytes
) -> tuple[AtRest, KeyFiles | None]:
    """What the engine needs; everything that older versions must know of is durable before."""
    node = directory.node
    keys = None
    if wanted.keyring is not None:
        keys = open_data_keys(
            disk,
            node.identity,
            wanted.keyring,
            encrypt=wanted.encrypt,
            expected=node.data_keys,
            random_bytes=random_bytes,
        )
    elif wanted.encrypt or node.data_keys:
        raise SettingInvalid("a node that encrypts needs a cluster key")
    if wanted.compress or wanted.encrypt:
        directory.node = raise_format(disk, node, data_keys=wanted.encrypt)
    writing = keys.writing if keys is not None and wanted.encrypt else None
    if keys is None:
        return AtRest(wanted.compress, writing), None
    return AtRest(wanted.compress, writing, keys.keys), keys.files


def count_start(layout: str, path: Path) -> int:
    """Count one more start of a data directory that this process has opened.

    Returns:
        How often it was started, durably; 0 if the disk has no room for the count.

    Raises:
        StorageError: the disk refused.
    """
    if layout == "memory":
        return 1
    disk = RealDisk(path)
    try:
        return starts.count(disk)
    except NoSpace as error:
        _log.warning("this start is not counted: %s", error)
        return 0
    finally:
        disk.close()


def open_notes(layout: str, path: Path) -> Notes:
    """The notes beside an engine of this layout, in its data directory.

    Raises:
        StorageError: the directory cannot be opened.
    """
    return MemoryNotes() if layout == "memory" else DiskNotes(RealDisk(path))
