"""Lends the node's keys, and what it knows of records, to its engine, which knows neither."""

from __future__ import annotations

from collections.abc import Callable

from common import records
from common.checksum import Buffer
from common.errors import IntegrityError, NotAuthorised
from common.keys import Keyring
from common.tickets import format_id
from common.wire import frames
from common.wire.frames import Statuses

Verify = Callable[[str, int, int, bytes], bool | None]


def frames_verifier(keyring: Keyring) -> Verify:
    """A function ``(key_id, first, frame_bytes, frames)``: whether all frames fit.

    It answers None for a key that the ring does not hold.
    """

    def verify(key_id: str, first: int, frame_bytes: int, rows: bytes) -> bool | None:
        try:
            key = keyring.named(key_id)
        except NotAuthorised:
            return None
        copy = memoryview(bytearray(rows))
        return not frames.check(copy, first, frame_bytes, key.checksum).any()

    return verify


class NodeCheck:
    """`putter.storage.scrub.Check` with the keys of a node.

    Args:
        keyring: the cluster keys.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def frames(self, key_id: str, first: int, frame_bytes: int, rows: Buffer) -> Statuses | None:
        """One status a ticket; None for a key that the ring does not hold."""
        try:
            key = self._keyring.named(key_id)
        except NotAuthorised:
            return None
        return frames.check(memoryview(bytearray(rows)), first, frame_bytes, key.checksum)

    def sums(self, key_id: str, first: int, frame_bytes: int, rows: Buffer, wanted: str) -> bytes:
        """The checksums of frames that are verified here, with another key if that is wanted.

        Args:
            key_id: of the key that the frames have.
            first: number of the first ticket.
            frame_bytes: data bytes of every frame but the last.
            rows: whole frames.
            wanted: id of the key for the answer.

        Raises:
            NotAuthorised: a key that the ring does not hold.
            IntegrityError: some are damaged.
        """
        key = self._keyring.named(key_id)
        statuses = frames.check(
            memoryview(bytearray(rows)), first, frame_bytes, key.checksum
        ).astype(bool)
        if statuses.any():
            raise IntegrityError(
                f"{int(statuses.sum())} of {len(statuses)} tickets from {format_id(first)} on are "
                f"damaged"
            )
        if wanted == key_id:
            return frames.checksums(rows, frame_bytes)
        other = self._keyring.named(wanted).checksum
        return frames.checksums_under(rows, first, frame_bytes, other)

    def record(self, body: bytes) -> bool:
        """Whether this is a commit record of this or a later version."""
        try:
            records.decode(body)
        except IntegrityError:
            return False
        return True
