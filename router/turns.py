"""Changes of one thing, one after the other: under a lease, whichever router makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from common.errors import PutterError, WriteConflict
from common.logs import get_logger
from common.meta.interface import Metadata

_log = get_logger(__name__)
_LEASE_MS: Final = 60_000
_WAIT_S: Final = 10.0
_LOOK_S: Final = 0.05


@asynccontextmanager
async def turn(meta: Metadata, lease: str, holder: str, what: str) -> AsyncIterator[None]:
    """Wait until nobody else changes the same thing, and keep them waiting meanwhile.

    Args:
        meta: knows the leases.
        lease: stands for the thing.
        holder: who changes it; another word for each change.
        what: is changed, for people: ``the settings of bucket 'photos'``.

    Raises:
        WriteConflict: another change does not come to an end.
        MetadataUnavailable: Redis does not answer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_S
    while not await meta.leases.acquire(lease, holder, _LEASE_MS):
        if loop.time() > deadline:
            raise WriteConflict(
                f"another change of {what} is under way", hint="try again in a minute"
            )
        await asyncio.sleep(_LOOK_S)
    try:
        yield
    finally:
        try:
            await meta.leases.release(lease, holder)
        except PutterError as error:
            _log.debug("a lease runs out by itself", reason=str(error))
