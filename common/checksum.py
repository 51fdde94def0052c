"""Hashes of the store, all BLAKE3 (the BLAKE3 paper, sections 2.3 and 2.5).

A frame's checksum is the first 8 bytes of keyed BLAKE3 over its 8 ticket bytes followed by its
data: it authenticates the data and binds it to the ticket. A whole object is named by the plain
32-byte BLAKE3 of all its bytes.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

CHECKSUM_BYTES: Final = 8
KEY_BYTES: Final = 32
DIGEST_BYTES: Final = 32

Buffer = bytes | bytearray | memoryview


def checksum(key: bytes, field: bytes, data: Buffer) -> bytes:
    """The eight checksum bytes of one frame.

    Args:
        key: the 32-byte checksum subkey.
        field: the 8 ticket bytes.
        data: the frame's data, 1 byte or more.
    """
    hasher = blake3(field, key=key)
    hasher.update(data)
    return hasher.digest(CHECKSUM_BYTES)


def column(key: bytes, rows: memoryview, stride: int, offset: int) -> bytes:
    """The checksums of frames that lie in memory at equal distances.

    Each row holds its ticket bytes directly before its data from ``offset`` on, so that one call
    hashes both: this is the only Python work that a frame costs.

    Args:
        key: the 32-byte checksum subkey.
        rows: the bytes of all rows; the last row may be shorter than ``stride``.
        stride: bytes from one row to the next.
        offset: where the ticket bytes start in each row.

    Returns:
        8 bytes for each row, concatenated.
    """
    # One hasher for all rows: making one costs as much as hashing 250 bytes.
    hasher = blake3(key=key)
    reset, update, digest = hasher.reset, hasher.update, hasher.digest
    sums: list[bytes] = []
    for start in range(0, len(rows), stride):
        reset()
        update(rows[start + offset : start + stride])
        sums.append(digest(CHECKSUM_BYTES))
    return b"".join(sums)


class ObjectHash:
    """The running BLAKE3 of an object's bytes."""

    def __init__(self) -> None:
        self._hasher = blake3()

    def update(self, data: Buffer) -> None:
        """Add the next bytes of the object."""
        self._hasher.update(data)

    def digest(self) -> bytes:
        """The 32 bytes of all that was added so far."""
        return self._hasher.digest()


def object_digest(data: Buffer) -> bytes:
    """The 32-byte BLAKE3 of an object that lies in memory as a whole."""
    return blake3(data).digest()


def keyed_digest(key: bytes, *parts: Buffer) -> bytes:
    """A 32-byte message authentication code over the concatenation of the parts."""
    hasher = blake3(key=key)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def derive_key(context: str, material: bytes) -> bytes:
    """A 32-byte subkey for one purpose (BLAKE3 derive-key mode)."""
    return blake3(material, derive_key_context=context).digest()
