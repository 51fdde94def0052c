"""A name claimed by one conditional write, so that only the winner writes a commit record.

Of several writes that want a name to be what it is now (``If-Match``, ``If-None-Match``), one may
succeed. It takes the name in Redis for a short time and goes on; the others wait, and as soon as it
has published they learn that their condition does not hold any more: 412, and nothing of them was
ever durable. If it fails or dies, one of those that wait comes next. Only if nothing is decided for
longer than a lease they are told so (409), because 412 might not be true.
"""

from __future__ import annotations

import asyncio
from typing import Final

from common.errors import PreconditionFailed, PutterError, WriteConflict
from common.limits import CLAIM_LEASE_MS, CLAIM_WAIT_MS
from common.logs import get_logger
from common.meta.claims import Claim, ClaimOutcome, Claims
from common.names import format_name
from router.targets import Target

_log = get_logger(__name__)
_LOOK_MS_MIN: Final = 2
_LOOK_MS_MAX: Final = 100


class NameClaim:
    """The claim of one write.

    Args:
        claims: of the coordinator.
        target: the name and the condition.
        holder: names the write.
    """

    def __init__(self, claims: Claims, target: Target, holder: str) -> None:
        assert target.if_match is not None
        self._claims = claims
        self._claim = Claim(target.bucket, target.key, holder, CLAIM_LEASE_MS, target.if_match)
        self._asked = False

    async def take(self) -> None:
        """Take the name, or keep it for another lease.

        Raises:
            PreconditionFailed: the condition does not hold.
            WriteConflict: another write has the name, and does not come to an end.
            MetadataUnavailable: Redis did not answer.
        """
        claim = self._claim
        name = format_name(claim.bucket, claim.key)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLAIM_WAIT_MS / 1000
        look_ms = _LOOK_MS_MIN
        self._asked = True
        while True:
            outcome = await self._claims.take(claim)
            if outcome is ClaimOutcome.CLAIMED:
                return
            if outcome is ClaimOutcome.REFUSED:
                raise PreconditionFailed(f"{name} holds another version")
            if loop.time() + look_ms / 1000 > deadline:
                raise WriteConflict(
                    f"another conditional write of {name} is under way",
                    hint="read the file again, then send it again if that is still right",
                )
            await asyncio.sleep(look_ms / 1000)
            look_ms = min(2 * look_ms, _LOOK_MS_MAX)

    async def give_back(self) -> None:
        """Nothing was published: let others have the name."""
        if not self._asked:
            return
        claim = self._claim
        try:
            await self._claims.drop(claim.bucket, claim.key, claim.holder)
        except PutterError as error:
            _log.debug("a claim runs out by itself", reason=str(error))
