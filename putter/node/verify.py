"""Lends the node's keys to its engine, which has none of its own."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import NotAuthorised
from common.keys import Keyring
from common.wire import frames

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
