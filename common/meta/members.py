"""Who takes part, in Redis."""

from __future__ import annotations

from typing import Final

import msgspec

from common.errors import IntegrityError
from common.meta.calls import Calls
from common.meta.interface import Member, Seen
from common.meta.link import Command
from common.meta.schema import MEMBERS
from common.meta.scripts import script
from common.meta.values import token

SILENT_ROUTER_KEPT_MS: Final = 24 * 60 * 60 * 1000
"""A router that was killed is listed for so long; a putter for ever: it owns data."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Member).decode


class RedisMembers:
    """`common.meta.interface.Members` in Redis."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def heartbeat(self, member: Member) -> None:
        """Register, or renew with fresh numbers."""
        words = (member.node, token(member.role), _encode(member))
        await self._calls.run(Command((1, MEMBERS, *words), script("heartbeat")))

    async def leave(self, node: str) -> None:
        """A clean stop: not seen any more, identity kept out of the list."""
        await self._calls.run(Command((b"HDEL", MEMBERS, node)))

    async def seen(self) -> list[Seen]:
        """All that registered and did not leave, sorted by node."""
        reply = await self._calls.run(Command((1, MEMBERS, SILENT_ROUTER_KEPT_MS), script("seen")))
        try:
            found = [
                Seen(_decode(packed), int(age_ms))
                for age_ms, packed in zip(reply[::2], reply[1::2], strict=True)
            ]
        except msgspec.MsgspecError as error:
            raise IntegrityError(f"Redis holds something else than members: {error}") from error
        return sorted(found, key=lambda each: each.member.node)
