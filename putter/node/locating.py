"""Tells routers on this machine where tickets lie, so that they need not ask for the bytes."""

from __future__ import annotations

from typing import Final

from common.checksum import Buffer
from common.wire.locations import Locate, SegmentFile, Spot, Spots
from common.wire.message import Message
from putter.storage.engine import Engine
from putter.storage.located import Whereabouts

Answer = tuple[Message, Buffer]
_SPOTS_MAX: Final = 256


def answer_locate(message: Locate, engine: Engine) -> Answer:
    """On a thread: the answer to `Locate`."""
    limit = max(1, min(message.limit, _SPOTS_MAX))
    found = engine.locate(message.first, message.count, limit)
    files: dict[Whereabouts, int] = {}
    spots = tuple(
        Spot(
            each.first,
            each.count,
            each.frame_bytes,
            each.key_id,
            files.setdefault(each.file, len(files)),
            each.offset,
            each.length,
        )
        for each in found.locations
    )
    listed = tuple(SegmentFile(each.path, each.device, each.inode) for each in files)
    return Spots(message.request, found.until, listed, spots), b""
