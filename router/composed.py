"""Objects that a router has read whole once: their tickets, in their order, are their bytes.

A frame's checksum covers its TicketID and its data, so frames that fit are what was once sent under
these tickets. What no frame can tell is whether these tickets in this order are the object. The
BLAKE3 of all its bytes does, and what held once holds for as long as the description is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec
from blake3 import blake3

from common.records import StoredObject

_KNOWN_MAX: Final = 8_192
_encode: Final = msgspec.msgpack.Encoder().encode


class Composed:
    """The last of them, by what was found."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def holds(self, stored: StoredObject) -> bool:
        """Whether this object, described like this, was read whole and had its BLAKE3."""
        return self._known.get(stored.object_id) == _description(stored)

    def note(self, stored: StoredObject) -> None:
        """It was, and had."""
        self._known[stored.object_id] = _description(stored)
        self._known.move_to_end(stored.object_id)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)


def _description(stored: StoredObject) -> bytes:
    """A digest of what the bytes depend on; where they lie does not matter."""
    tickets = [(extent.first, extent.count, extent.size) for extent in stored.extents]
    return blake3(
        _encode((stored.object_id, stored.size, stored.frame_bytes, stored.blake3, tickets))
    ).digest()
