"""Who takes part, in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from common.errors import IntegrityError
from common.limits import MEMBER_LOST_MS
from common.membership import Decision, Refusal, Verdict
from common.meta.calls import Calls
from common.meta.link import Command
from common.meta.register import Member, Seen
from common.meta.schema import COUNTERS, DECISIONS, FENCES, MARKS, MEMBERS
from common.meta.scripts import script
from common.meta.values import token

SILENT_ROUTER_KEPT_MS: Final = 24 * 60 * 60 * 1000
"""A router that was killed is listed for so long; a putter for ever: it owns data."""

_SEEN_WORDS: Final = 4
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Member).decode


class RedisMembers:
    """`common.meta.register.Members` in Redis.

    Args:
        calls: the way there.
        random_word: stands for the run where the server knows no INFO.
    """

    def __init__(self, calls: Calls, random_word: str) -> None:
        self._calls = calls
        self._random_word = random_word

    async def heartbeat(self, member: Member, *, asks: bool = False) -> Verdict:
        """Register, or renew with fresh numbers, unless somebody else speaks for the node."""
        about = (
            member.node,
            token(member.role),
            _encode(member),
            MEMBER_LOST_MS,
            token(member.instance),
            member.starts,
            member.records,
            int(asks),
            member.address,
        )
        command = Command((4, MEMBERS, FENCES, DECISIONS, MARKS, *about), script("heartbeat"))
        refusal, known = await self._calls.run(command)
        return Verdict(Refusal(refusal.decode()), known.decode()) if refusal else Verdict()

    async def leave(self, node: str, instance: str = "") -> None:
        """A clean stop: not seen any more; what is known of a putter's directory is kept."""
        await self._calls.run(Command((2, MEMBERS, FENCES, node, instance), script("leave")))

    async def seen(self) -> list[Seen]:
        """All that registered and did not leave, sorted by node."""
        words = (COUNTERS, MEMBERS, DECISIONS, MARKS, self._random_word, SILENT_ROUTER_KEPT_MS)
        reply = await self._calls.run(Command((4, *words), script("seen")))
        rows = [reply[at : at + _SEEN_WORDS] for at in range(0, len(reply), _SEEN_WORDS)]
        try:
            found = [
                Seen(_decode(packed), int(age_ms), _decision(decision), applied == b"1")
                for age_ms, decision, applied, packed in rows
            ]
        except msgspec.MsgspecError as error:
            raise IntegrityError(f"Redis holds something else than members: {error}") from error
        return sorted(found, key=lambda each: each.member.node)

    async def declare(self, node: str, decision: Decision | None) -> bool:
        """Note what the operator decided of a putter; None takes it back."""
        words = (MEMBERS, FENCES, DECISIONS, MARKS, node, decision or "")
        return bool(await self._calls.run(Command((4, *words), script("declare"))))

    async def redeclare(self, decisions: Mapping[str, Decision]) -> bool:
        """Put decisions in force again that records tell of."""
        words = [word for node, decision in decisions.items() for word in (node, decision)]
        return bool(
            await self._calls.run(Command((2, DECISIONS, MARKS, *words), script("redeclare")))
        )

    async def decisions(self) -> Mapping[str, Decision]:
        """What was decided, by node; also of nodes that are not seen."""
        reply = await self._calls.run(Command((1, DECISIONS), script("decided")))
        return {
            node.decode(): Decision(decision.decode())
            for node, decision in zip(reply[::2], reply[1::2], strict=True)
        }


def _decision(word: bytes) -> Decision | None:
    return Decision(word.decode()) if word else None
