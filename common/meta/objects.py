"""The life of objects, in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final

from common.errors import ObjectGone
from common.meta.calls import Args, BucketVerb, Calls, bucket_script
from common.meta.claims import condition
from common.meta.files import RedisFiles
from common.meta.interface import Begin, Commit, ObjectState, Outcome, Progress
from common.meta.values import (
    debtors,
    named_nodes,
    pack_debts,
    pack_nodes,
    pack_post,
    pack_ranges,
    pack_version,
    pack_writing,
    token,
    unpack_object,
    unpack_version,
)
from common.records import Version

_BEGUN: Final = ord("b")
_YES: Final = ord("1")
OUTCOMES: Final = {
    ord("P"): Outcome.PUBLISHED,
    ord("S"): Outcome.SUPERSEDED,
    ord("I"): Outcome.INCOMPLETE,
    ord("G"): Outcome.GONE,
    ord("R"): Outcome.REFUSED,
    ord("V"): Outcome.ELSEWHERE,
    ord("Q"): Outcome.OVER_QUOTA,
    ord("A"): Outcome.ABSENT,
}


class RedisObjects:
    """`common.meta.interface.Objects` in Redis."""

    def __init__(self, calls: Calls, files: RedisFiles, grace_ms: int) -> None:
        self._calls = calls
        self._files = files
        self._begin = BucketVerb("begin", registers=True, translate=_begun)
        self._progress = BucketVerb("progress")
        self._commit = BucketVerb("commit", (grace_ms,), registers=True, translate=_outcome)
        self._fail = BucketVerb("fail", (grace_ms,))
        self._forget = BucketVerb("forget")
        self._postpone = BucketVerb("postpone")
        self._hold = BucketVerb("hold")
        self._release = BucketVerb("release")

    def begin(self, item: Begin) -> Awaitable[None]:
        """``— → writing``, on its way at once; see `common.meta.interface.Objects.begin`."""
        value = pack_writing(item.router, item.nodes, item.ranges)
        args = (item.object_id, item.router, item.lease_ms, value)
        return self._calls.submit(self._begin, item.bucket, args)

    async def progress(self, item: Progress) -> bool:
        """Note ticket totals and extend the lease. False if the object is not ``writing``."""
        nodes = "" if item.nodes is None else pack_nodes(item.nodes)
        ranges = "" if item.ranges is None else pack_ranges(item.ranges)
        answer = await self._calls.gather(
            self._progress,
            item.bucket,
            (item.object_id, item.lease_ms, item.acked, nodes, ranges),
        )
        return bool(answer == _YES)

    def commit(self, item: Commit) -> Awaitable[Outcome]:
        """Publish a version, on its way at once; see `common.meta.interface.Objects.commit`."""
        version = item.version
        value = pack_version(version)
        event = pack_post(item.post)
        args = (version.key, value, _check(item), _named(version), _owed(version), event)
        return self._calls.submit(self._commit, version.bucket, args)

    async def fail(self, bucket: str, object_id: str) -> bool:
        """``writing → failed``. False if it was not ``writing`` (or failed already)."""
        return bool(await self._calls.gather(self._fail, bucket, (object_id,)) == _YES)

    async def postpone(self, bucket: str, object_id: str, delay_ms: int) -> None:
        """Leave a ``failed`` or ``deleted`` object out of `to_free` for so long."""
        await self._calls.gather(self._postpone, bucket, (object_id, delay_ms))

    async def forget(self, bucket: str, object_id: str) -> None:
        """Remove what is left of a ``failed`` or ``deleted`` object."""
        await self._calls.gather(self._forget, bucket, (object_id,))

    async def hold(self, bucket: str, object_id: str, reader: str, lease_ms: int) -> bool:
        """Keep a written object's bytes while ``reader`` reads them; repeat it to extend."""
        args = (object_id, token(reader), lease_ms)
        return bool(await self._calls.gather(self._hold, bucket, args) == _YES)

    async def release(self, bucket: str, object_id: str, reader: str) -> None:
        """The reader is done."""
        await self._calls.gather(self._release, bucket, (object_id, token(reader)))

    async def get(self, object_id: str) -> ObjectState | None:
        """Look an object up in all buckets."""
        buckets = await self._files.registered()
        replies = await self._calls.run_all(
            [bucket_script("find", bucket, object_id) for bucket in buckets]
        )
        for bucket, reply in zip(buckets, replies, strict=True):
            if reply:
                value, *of_version = reply
                version = _version_of(bucket, value, of_version[0] if of_version else None)
                return unpack_object(bucket, object_id, value, version)
        return None

    async def stale(self, limit: int) -> list[ObjectState]:
        """Objects still ``writing`` although their lease ran out, oldest first."""
        found: list[tuple[float, ObjectState]] = []
        for bucket, rows in await self._in_all_buckets("stale", limit):
            for object_id, deadline_ms, value in _triples(rows):
                state = unpack_object(bucket, object_id.decode(), value, None)
                found.append((float(deadline_ms), state))
        return _first(found, limit)

    async def to_free(self, limit: int) -> list[ObjectState]:
        """Objects ``failed`` or ``deleted`` whose grace time is over and that nobody reads."""
        found: list[tuple[float, ObjectState]] = []
        for bucket, (rows, named) in await self._in_all_buckets("trash", limit):
            versions = {
                name: _unpack(bucket, name, value)
                for name, value in zip(named[::2], named[1::2], strict=True)
            }
            for object_id, free_after_ms, value in _triples(rows):
                version = versions.get(_version_name(value))
                state = unpack_object(bucket, object_id.decode(), value, version)
                found.append((float(free_after_ms), state))
        return _first(found, limit)

    async def _in_all_buckets(self, name: str, limit: int) -> list[tuple[str, Any]]:
        if limit < 1:
            raise ValueError(f"a limit is 1 or more, not {limit}")
        buckets = await self._files.registered()
        commands = [bucket_script(name, bucket, limit) for bucket in buckets]
        return list(zip(buckets, await self._calls.run_all(commands), strict=True))


def _begun(answer: int, args: Args) -> ObjectGone | None:
    """The result of a begin."""
    if answer == _BEGUN:
        return None
    return ObjectGone(f"object {args[0]!s} was begun by another router")


def _outcome(answer: int, _args: Args) -> Outcome:
    return OUTCOMES[answer]


def _check(item: Commit) -> str:
    """Counts and condition, as the script wants them."""
    complete = "+" if item.acked == item.tickets else "!"
    if item.if_match is None:
        return complete
    return complete + (f"@{item.replaces}" if item.replaces else condition(item.if_match))


def _named(version: Version) -> str:
    """For each object the putters that its extents name."""
    return "".join([pack_nodes(named_nodes(stored)) + ";" for stored in version.objects])


def _owed(version: Version) -> str:
    """For each object what putters lack of it; "" if none lacks anything."""
    owed = [pack_debts(stored, debtors(stored)) + ";" for stored in version.objects]
    return "".join(owed) if any(each != ";" for each in owed) else ""


def _version_name(value: bytes) -> bytes:
    """The field of ``versions`` in which a deleted object's version stands."""
    state, stamp, _, _, key = value.split(b" ", 4)
    return b"%s %s" % (stamp, key) if state == b"d" else b""


def _version_of(bucket: str, value: bytes, packed: bytes | None) -> Version | None:
    if packed is None:
        return None
    return unpack_version(bucket, value.split(b" ", 4)[4].decode(), packed)


def _unpack(bucket: str, name: bytes, packed: bytes) -> Version | None:
    return unpack_version(bucket, name.split(b" ", 1)[1].decode(), packed)


def _triples(rows: Sequence[bytes]) -> Sequence[tuple[bytes, bytes, bytes]]:
    return list(zip(rows[::3], rows[1::3], rows[2::3], strict=True))


def _first(found: list[tuple[float, ObjectState]], limit: int) -> list[ObjectState]:
    found.sort(key=lambda each: each[0])
    return [state for _, state in found[:limit]]
