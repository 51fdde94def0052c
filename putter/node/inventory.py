"""What a node tells of its inventory: digests of ranges, and entries (`common.digests`)."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from common.checksum import Buffer
from common.digests import LEAVES_MAX, Entries, Grid, Leaves, Space
from common.errors import ProtocolError
from common.wire.inventory import AskDigests, AskEntries, DigestList, EntryList
from common.wire.message import Message
from putter.storage.engine import Engine

Answer = tuple[Message, Buffer]
_POSITIONS_MAX: Final = 1 << 62
_STEP: Final = 64
"""Leaves of tickets that are looked at in one piece: other work of the node goes between."""
_LONG_S: Final = 1.0
"""An answer that takes longer is cut short."""
_ENTRIES_MAX: Final = 65_536
_SEED_MAX: Final = (1 << 64) - 1


async def answer_inventory(
    message: AskDigests | AskEntries, engine: Engine, readers: Executor
) -> Answer:
    """Digests of leaves, or entries of a range."""
    if isinstance(message, AskDigests):
        return await _digests(message, engine, readers)
    return await _entries(message, engine, readers)


async def _digests(message: AskDigests, engine: Engine, readers: Executor) -> Answer:
    """Digests of leaves, as many as are told in a moment; one portion at least."""
    space = _space(message.space)
    if message.width < 1 or not 0 <= message.seed <= _SEED_MAX:
        raise ProtocolError("a grid has a width of 1 or more, and a seed of 64 bits")
    if not 0 <= message.low < message.high <= message.low + LEAVES_MAX:
        raise ProtocolError(f"leaves {message.low} … {message.high} are none or too many")
    if message.high * message.width > _POSITIONS_MAX:
        raise ProtocolError("there are no such positions")
    grid = Grid(space, message.width, message.seed)
    loop = asyncio.get_running_loop()
    begun, at = loop.time(), message.low
    found: list[Leaves] = []
    while at < message.high and (not found or loop.time() - begun < _LONG_S):
        stop = message.high if space is not Space.TICKETS else min(message.high, at + _STEP)
        found.append(await loop.run_in_executor(readers, engine.digests, grid, at, stop))
        at = stop
    return DigestList(message.request, at), Leaves.added(found).pack()


async def _entries(message: AskEntries, engine: Engine, readers: Executor) -> Answer:
    """Entries in order, as many as one message holds."""
    space = _space(message.space)
    if not 0 <= message.first < message.end <= _POSITIONS_MAX:
        raise ProtocolError(f"there are no positions {message.first} … {message.end}")
    loop = asyncio.get_running_loop()
    found: Entries = await loop.run_in_executor(
        readers, engine.entries, space, message.first, message.end
    )
    behind = message.end
    if len(found) > _ENTRIES_MAX:
        behind = int(found.first[_ENTRIES_MAX])
        found = found.within(message.first, behind)
    return EntryList(message.request, behind), found.pack()


def _space(name: str) -> Space:
    try:
        return Space(name)
    except ValueError:
        raise ProtocolError(f"there is no inventory of {name[:40]!r}") from None
