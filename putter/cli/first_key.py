"""The access key that a new store begins with, to be shown once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from common.errors import PutterError
from common.logs import get_logger
from common.pairs import Pair

_log = get_logger(__name__)
_MADE_S: Final = 30.0
_AGAIN_S: Final = 0.1


async def first_key(ask: Callable[[], Awaitable[bytes]]) -> Pair | None:
    """The first access key, if the store is new.

    A store that cannot make one now starts all the same.

    Args:
        ask: makes it, or finds that it is not needed (`router.access_keys.AccessKeys.first_told`);
            may be called again.
    """
    trouble = "no answer"
    try:
        async with asyncio.timeout(_MADE_S):
            while True:
                try:
                    told = await ask()
                    return msgspec.json.decode(told, type=Pair) if told else None
                except (PutterError, TimeoutError) as error:
                    trouble = str(error) or trouble
                await asyncio.sleep(_AGAIN_S)
    except TimeoutError:
        _log.warning("no access key was made: putter keys create makes one", reason=trouble)
        return None


def pair_lines(made: Pair) -> list[str]:
    """What people are told of it."""
    return [
        f"  access key     {made.access_key_id}",
        f"  secret key     {made.secret_key}",
        "                 Keep them: the secret is shown only now. More: putter keys --help",
    ]
