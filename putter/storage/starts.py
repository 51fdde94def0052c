"""How often a data directory was started: what tells it from an older copy of itself.

```
<data directory>/starts     two blocks of 4096 bytes, written in turn

offset size
     0    8  magic and version: DPSTART, 01
     8    8  how often it was started, unsigned, little endian
    16   16  first half of the BLAKE3 of the 16 bytes before
    32 4064  zeros
```

Start number n is written to block n mod 2, in place, and synced before anybody hears of it. The
other block holds number n - 1 all the while, so a write that breaks off costs nothing, and a disk
that is full can still count. A directory without the file was started 0 times.
"""

from __future__ import annotations

import logging
import struct
from typing import Final

from common.checksum import object_digest
from putter.storage.block_file import BLOCK_BYTES, BlockFile, aligned_buffer
from putter.storage.disk import Disk

NAME: Final = "starts"
MAGIC: Final = b"DPSTART\x01"
_NEW: Final = "starts.new"
_HEAD: Final = struct.Struct("<8sQ")
_DIGEST_BYTES: Final = 16
_BLOCKS: Final = 2
_log = logging.getLogger(__name__)

assert _HEAD.size == 16


def count(disk: Disk) -> int:
    """Count one more start; durable when it returns.

    Args:
        disk: its root is the data directory, which this process has locked.

    Returns:
        How often the directory was started, this time included.

    Raises:
        NoSpace: there is no room for the file, which is not there yet.
        StorageError: the disk refused.
    """
    if NAME not in disk.names(""):
        _create(disk)
        return 1
    file = disk.blocks(NAME)
    try:
        found = [_decode(file.read(at * BLOCK_BYTES, BLOCK_BYTES)) for at in range(_BLOCKS)]
        if not any(found):
            _log.warning("how often this data directory was started is lost: counting from 1")
        number = max(found) + 1
        _write(file, number)
    finally:
        file.close()
    return number


def encode(number: int) -> bytes:
    """The block of a number."""
    head = _HEAD.pack(MAGIC, number)
    return (head + object_digest(head)[:_DIGEST_BYTES]).ljust(BLOCK_BYTES, b"\0")


def _decode(block: bytes) -> int:
    """The number in a block; 0 if it is none of ours, or damaged."""
    head, digest = block[: _HEAD.size], block[_HEAD.size : _HEAD.size + _DIGEST_BYTES]
    if not head.startswith(MAGIC) or object_digest(head)[:_DIGEST_BYTES] != digest:
        return 0
    number: int = _HEAD.unpack(head)[1]
    return number


def _create(disk: Disk) -> None:
    """Make the file with number 1, whole or not at all."""
    disk.unlink(_NEW)
    file = disk.blocks(_NEW, _BLOCKS * BLOCK_BYTES)
    try:
        _write(file, 0)
        _write(file, 1)
    finally:
        file.close()
    disk.rename(_NEW, NAME)
    disk.sync_directories([""])


def _write(file: BlockFile, number: int) -> None:
    buffer = aligned_buffer(BLOCK_BYTES)
    buffer[:] = encode(number)
    file.write(number % _BLOCKS * BLOCK_BYTES, buffer)
    file.sync()
