"""What putters lack, and what they hold too much, in Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from common.errors import IntegrityError
from common.limits import LIST_PAGE_MAX
from common.meta.calls import BucketVerb, Calls, bucket_script
from common.meta.files import RedisFiles, lex_bounds
from common.meta.link import Argument
from common.meta.moves import is_same, moves, surplus_of
from common.meta.outbox import Post
from common.meta.repairs import Debt, Described, Owed, Surplus
from common.meta.values import (
    debtors,
    pack_debts,
    pack_post,
    pack_version,
    token,
    unpack_version,
)
from common.records import StoredObject, Version

_LOOKED_MAX: Final = 1_000
"""Entries in one call of a script: a server does nothing else meanwhile."""
_YES: Final = ord("1")


class RedisRepairs:
    """`common.meta.repairs.Repairs` in Redis."""

    def __init__(self, calls: Calls, files: RedisFiles, grace_ms: int, reach_ms: int) -> None:
        self._calls = calls
        self._files = files
        self._grace_ms = grace_ms
        self._reach = BucketVerb("reach", (reach_ms,))
        self._freed = BucketVerb("freed")

    async def debts(self) -> Mapping[str, Debt]:
        """How much each putter lacks; only those that lack something."""
        debts: dict[str, Debt] = {}
        for found in (await self._debts()).values():
            for node, debt in found.items():
                so_far = debts.get(node, Debt())
                debts[node] = Debt(so_far.objects + debt.objects, so_far.size + debt.size)
        return debts

    async def owed(self, node: str, limit: int, after: str = "") -> list[Owed]:
        """Some of what a putter lacks, by bucket and ObjectID in the order of their bytes."""
        _check_limit(limit)
        after_bucket, _, after_object = after.partition(" ")
        found: list[Owed] = []
        for bucket, debts in (await self._debts()).items():
            if node in debts and bucket >= after_bucket:
                behind = after_object if bucket == after_bucket else ""
                found += await self._owed(bucket, node, limit - len(found), behind)
                if len(found) == limit:
                    break
        return found

    async def described(self, bucket: str, after: str, limit: int) -> list[Described]:
        """What the names of a bucket hold, in the order of their bytes."""
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise ValueError(f"a page has 1…{LIST_PAGE_MAX} entries, not {limit}")
        low, high = lex_bounds("", after)
        rows = await self._calls.run(
            bucket_script("described", bucket, low, high, limit), absent=[]
        )
        return [
            Described(_version(bucket, key, value), value)
            for key, value in zip(rows[::2], rows[1::2], strict=True)
        ]

    async def at(self, bucket: str, key: str) -> Described | None:
        """What a name of this very bucket holds; None if it holds nothing."""
        [value] = await self._calls.run(bucket_script("held", bucket, key), absent=[None])
        version = None if value is None else unpack_version(bucket, key, value)
        return None if version is None else Described(version, value)

    async def reach(self, bucket: str, object_id: str, node: str) -> bool:
        """Note that a putter may hold some of a written object, before it is sent any of it."""
        answer = await self._calls.gather(self._reach, bucket, (object_id, token(node)))
        return bool(answer == _YES)

    async def amend(self, token: bytes, version: Version, post: Post | None = None) -> bool:
        """Replace the description of a version that a name holds, in one step."""
        return await describe_anew(self._calls, "amend", token, version, self._grace_ms, post)

    async def surplus(
        self, limit: int, after: str = "", absent: Collection[str] = ()
    ) -> list[Surplus]:
        """What may be freed now, by bucket, putter and ObjectID in the order of their bytes."""
        _check_limit(limit)
        after_bucket, _, after_entry = after.partition(" ")
        buckets = [each for each in await self._files.registered() if each >= after_bucket]
        looks = min(limit, _LOOKED_MAX)
        words = sorted(absent)
        behind = [after_entry if bucket == after_bucket else "" for bucket in buckets]
        replies = await self._calls.run_all(
            [
                bucket_script("surplus", bucket, entry, looks, *words)
                for bucket, entry in zip(buckets, behind, strict=True)
            ]
        )
        found: list[Surplus] = []
        for bucket, (last, *rows) in zip(buckets, replies, strict=True):
            found += _surpluses(bucket, rows)
            at = last
            while at and len(found) < limit:
                script = bucket_script("surplus", bucket, at, looks, *words)
                at, *further = await self._calls.run(script)
                found += _surpluses(bucket, further)
            if len(found) >= limit:
                return found[:limit]
        return found

    async def freed(self, surplus: Surplus) -> None:
        """It is freed there. Nothing changes if it became another surplus, or none, meanwhile."""
        args = (surplus.node, surplus.object_id, surplus.due_ms)
        await self._calls.gather(self._freed, surplus.bucket, args)

    # -- inside ----------------------------------------------------------------------------

    async def _debts(self) -> dict[str, dict[str, Debt]]:
        """By bucket, in order, and putter."""
        buckets = await self._files.registered()
        replies = await self._calls.run_all([bucket_script("debts", each) for each in buckets])
        return {
            bucket: {
                node.decode(): Debt(*(int(number) for number in packed.split()))
                for node, packed in zip(reply[::2], reply[1::2], strict=True)
            }
            for bucket, reply in zip(buckets, replies, strict=True)
        }

    async def _owed(self, bucket: str, node: str, limit: int, after: str) -> list[Owed]:
        found: list[Owed] = []
        last: Argument = after
        while len(found) < limit:
            looks = min(limit - len(found), _LOOKED_MAX)
            last, *rows = await self._calls.run(bucket_script("owed", bucket, node, last, looks))
            for object_id, key, value in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
                version = _version(bucket, key, value)
                found.append(Owed(node, object_id.decode(), version, value))
            if not last:
                break
        return found


async def describe_anew(
    calls: Calls,
    name: str,
    before: bytes,
    version: Version,
    grace_ms: int,
    post: Post | None = None,
) -> bool:
    """Replace the description of a version in Redis.

    Args:
        calls: the way there.
        name: ``amend``, or ``correct`` for a record that is replayed.
        before: file value that is replaced.
        version: the new description.
        grace_ms: how long what is not needed any more is kept at least.
        post: the event that waits from then on.

    Returns:
        False if the name holds something else, or ``amend`` may not do it.

    Raises:
        ValueError: the file value is of another version.
    """
    old = unpack_version(version.bucket, version.key, before)
    if old is None or not is_same(old, version):
        raise ValueError("a version is described anew with the same name, stamp and objects")
    forced = int(name == "correct")
    words: list[Argument] = [grace_ms, forced, version.key, before, pack_version(version)]
    words.append(pack_post(post))
    for was, now in zip(old.objects, version.objects, strict=True):
        words += _changes(was, now)
    return bool(await calls.run(bucket_script(name, version.bucket, *words)))


def _changes(old: StoredObject, new: StoredObject) -> list[Argument]:
    """What changes for an object, as the script wants it."""
    lacked, lacks = set(debtors(old)), set(debtors(new))
    same = lacked & lacks if old.size == new.size else set()
    change = moves(old, new)
    return [
        new.object_id,
        pack_debts(new, tuple(lacks - same)),
        pack_debts(old, tuple(lacked - same)),
        *(",".join(nodes) for nodes in (change.gaining, change.losing, change.entire)),
    ]


def _surpluses(bucket: str, rows: Sequence[bytes]) -> list[Surplus]:
    return [
        surplus_of(_version(bucket, key, value), object_id.decode(), node.decode(), int(due_ms))
        for node, object_id, due_ms, key, value in zip(*(rows[n::5] for n in range(5)), strict=True)
    ]


def _version(bucket: str, key: bytes, value: bytes) -> Version:
    version = unpack_version(bucket, key.decode(), value)
    if version is None:
        raise IntegrityError(f"Redis holds a deletion where {bucket}/{key.decode()} has a version")
    return version


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"a limit is 1 or more, not {limit}")
