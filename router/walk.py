"""A walk through everything that is stored, slow enough not to be felt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from common.errors import PutterError
from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.repairs import Described
from common.records import Version

_log = get_logger(__name__)
_PAGE: Final = 500
_PAUSE_S: Final = 0.02
"""Between two pages."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a walk has come to.

    Attributes:
        bucket, key: behind this name; empty: at the start.
    """

    bucket: str = ""
    key: str = ""


START: Final = Place()


async def pages(
    meta: Metadata, after: Place = START
) -> AsyncGenerator[tuple[Place, list[Described]], None]:
    """What the names hold, by bucket and name, with the place behind each page.

    Raises:
        PutterError: Redis does not answer.
    """
    for bucket in sorted(await meta.files.buckets()):
        if bucket < after.bucket:
            continue
        key, more = (after.key if bucket == after.bucket else ""), True
        while more:
            page = await meta.repairs.described(bucket, key, _PAGE)
            more = len(page) == _PAGE
            if page:
                key = page[-1].version.key
                yield Place(bucket, key), page
            await asyncio.sleep(_PAUSE_S)


async def redescribe(meta: Metadata, each: Described, changed: Version) -> bool:
    """Have the coordinator describe a version so that its extents owe something else.

    Returns:
        Whether the coordinator has taken the new description, if there is one.
    """
    if changed == each.version:
        return True
    try:
        return await meta.repairs.amend(each.token, changed)
    except PutterError as error:
        _log.info("a debt is noted at the next walk", reason=str(error))
        return False
