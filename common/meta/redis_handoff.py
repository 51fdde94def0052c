"""Records that putters missed, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from common.errors import IntegrityError
from common.meta.calls import BucketVerb, Calls, bucket_script
from common.meta.files import RedisFiles
from common.meta.handoff import Lacking, Missed
from common.meta.values import pack_nodes, token, unpack_nodes

_LOOKED_MAX: Final = 1_000
"""Entries in one call of a script: a server does nothing else meanwhile."""


class RedisHandOff:
    """`common.meta.handoff.HandOff` in Redis."""

    def __init__(self, calls: Calls, files: RedisFiles) -> None:
        self._calls = calls
        self._files = files
        self._miss = BucketVerb("miss", registers=True)
        self._given = BucketVerb("given")

    async def note(self, missed: Sequence[Missed]) -> None:
        """Putters lack records."""
        await asyncio.gather(
            *(
                self._calls.gather(
                    self._miss,
                    each.bucket,
                    (
                        f"{token(each.node)} {each.stamp:020}",
                        len(each.body),
                        b"%s %s" % (pack_nodes(each.holders).encode(), each.body),
                    ),
                )
                for each in missed
            )
        )

    async def lacking(self) -> Mapping[str, Lacking]:
        """How much each putter lacks; only those that lack something."""
        found: dict[str, Lacking] = {}
        for lacking in (await self._lacking()).values():
            for node, each in lacking.items():
                so_far = found.get(node, Lacking())
                found[node] = Lacking(so_far.records + each.records, so_far.size + each.size)
        return found

    async def missed(self, node: str, limit: int, after: str = "") -> list[Missed]:
        """Some of what a putter lacks, by bucket and stamp in their order."""
        if limit < 1:
            raise ValueError(f"a limit is 1 or more, not {limit}")
        after_bucket, _, after_stamp = after.partition(" ")
        found: list[Missed] = []
        for bucket, lacking in (await self._lacking()).items():
            if node not in lacking or bucket < after_bucket:
                continue
            at, more = (after_stamp if bucket == after_bucket else ""), True
            while more and len(found) < limit:
                looks = min(limit - len(found), _LOOKED_MAX)
                rows = await self._calls.run(bucket_script("missed", bucket, node, at, looks))
                found += [_unpacked(bucket, row) for row in rows]
                more = len(rows) == looks
                at = f"{found[-1].stamp:020}" if rows else at
        return found

    async def given(self, missed: Sequence[Missed]) -> None:
        """Putters have these records now, or need them no more."""
        await asyncio.gather(
            *(
                self._calls.gather(self._given, each.bucket, (f"{each.node} {each.stamp:020}",))
                for each in missed
            )
        )

    # -- inside ----------------------------------------------------------------------------

    async def _lacking(self) -> dict[str, dict[str, Lacking]]:
        """By bucket, in order, and putter."""
        buckets = await self._files.registered()
        replies = await self._calls.run_all([bucket_script("missing", each) for each in buckets])
        return {
            bucket: {
                node.decode(): Lacking(*(int(number) for number in packed.split()))
                for node, packed in zip(reply[::2], reply[1::2], strict=True)
            }
            for bucket, reply in zip(buckets, replies, strict=True)
        }


def _unpacked(bucket: str, member: bytes) -> Missed:
    try:
        node, stamp, nodes, body = member.split(b" ", 3)
        return Missed(node.decode(), bucket, int(stamp), unpack_nodes(nodes), body)
    except ValueError as error:
        raise IntegrityError(f"Redis holds something else than a record of {bucket!r}") from error
