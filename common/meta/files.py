"""Names and what they hold, in Redis."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Final

from common.limits import LIST_PAGE_MAX
from common.meta.calls import Args, BucketVerb, Calls, bucket_script
from common.meta.interface import Entry, Outcome, Page
from common.meta.link import Command
from common.meta.outbox import Post
from common.meta.outcomes import UNGUARDED, Guard
from common.meta.schema import BUCKETS, COUNTERS, bucket_key
from common.meta.scripts import script
from common.meta.values import pack_post, stamp_in, unpack_entry, unpack_version
from common.records import Tombstone, Version
from common.versions import has_versions, read_version_name, version_bounds, versions_of

DELETE_OUTCOMES: Final = {
    ord("P"): Outcome.PUBLISHED,
    ord("S"): Outcome.SUPERSEDED,
    ord("A"): Outcome.ABSENT,
    ord("R"): Outcome.REFUSED,
    ord("L"): Outcome.LOCKED,
}
_ABOVE_UTF8: Final = b"\xff"
"""Larger than any byte of UTF-8: a prefix with it behind is above all keys with the prefix."""


Held = bytes | list[bytes] | None
"""What a name holds as scripts answer: a file value, with the name of the version if it has one."""


class ResolveVerb:
    """Names of one bucket that are asked for in the same moment: one script.

    Args:
        name: of the script.
    """

    registers = False
    absent = None

    def __init__(self, name: str) -> None:
        self._name = name

    def command(self, group: str, calls: Sequence[Args]) -> Command:
        """One call of the script for all names."""
        return bucket_script(self._name, group, *(key for (key,) in calls))

    def results(self, reply: Any, calls: Sequence[Args]) -> Sequence[Held]:
        """What each name holds."""
        values: list[Held] = reply
        assert len(values) == len(calls)
        return values


class RedisFiles:
    """`common.meta.interface.Files` in Redis."""

    def __init__(self, calls: Calls, grace_ms: int, tombstone_ms: int, random_word: str) -> None:
        self._calls = calls
        self._random_word = random_word
        self._delete = BucketVerb("delete", (grace_ms, tombstone_ms), registers=True)
        self._resolve = ResolveVerb("resolve")
        self._held = ResolveVerb("held")

    async def resolve(
        self, bucket: str, key: str, patience_ms: int | None = None
    ) -> Version | None:
        """The version the name holds now, or None."""
        verb = self._held if has_versions(bucket) else self._resolve
        found = await self._calls.gather(verb, bucket, (key,), patience_ms)
        version = unpack_held(bucket, key, found)
        return None if version is None or version.is_marker else version

    async def delete(
        self, tombstone: Tombstone, post: Post | None = None, guard: Guard = UNGUARDED
    ) -> Outcome:
        """The name holds nothing from the tombstone's stamp on."""
        words = (tombstone.key, tombstone.stamp, tombstone.of, pack_post(post), guard.word)
        answer = await self._calls.gather(self._delete, tombstone.bucket, words)
        return DELETE_OUTCOMES[answer]

    async def list(self, bucket: str, prefix: str, after: str, limit: int) -> Page:
        """Names that start with ``prefix`` and sort behind ``after``, a page of them."""
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise ValueError(f"a page has 1…{LIST_PAGE_MAX} entries, not {limit}")
        names, next_after, values = await self._page(bucket, prefix, after, limit, limit)
        found = (
            unpack_entry(bucket, name.decode(), value)
            for name, value in zip(names, values, strict=True)
        )
        entries: tuple[Entry, ...] = tuple(entry for entry in found if entry and entry.etag)
        return Page(entries, next_after)

    async def names(
        self, bucket: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[bytes], str | None]:
        """Names that hold something or have versions, and behind which the next page begins."""
        names, next_after, _ = await self._page(bucket, prefix, after, limit, 0)
        return names, next_after

    async def _page(
        self, bucket: str, prefix: str, after: str, limit: int, told: int
    ) -> tuple[Sequence[bytes], str | None, Sequence[bytes]]:
        """The same, with what the first of them hold now."""
        bounds = (*lex_bounds(prefix, after), limit + 1, *version_bounds(prefix, after), told)
        names, kept, values, kept_values, limit = await self._calls.run(
            bucket_script("page", bucket, *bounds), absent=((), (), (), (), limit)
        )
        if kept:
            keys = [read_version_name(name.decode()) for name in kept]
            held = dict(zip(names[:told], values, strict=True))
            for (key, number), value in zip(keys[:told], kept_values, strict=True):
                name = key.encode()
                null = held.get(name)
                if null is None or stamp_in(null) < number:
                    held[name] = value
            names = sorted({key.encode() for key, _ in keys}.union(names))
            values = [held[name] for name in names[: min(told, limit)]]
        next_after = names[limit - 1].decode() if len(names) > limit else None
        return names[:limit], next_after, values[:limit]

    async def buckets(self) -> builtins.list[str]:
        """All buckets that ever held a file, sorted."""
        names = await self.registered()
        held = await self._calls.run_all(
            [Command((b"HEXISTS", bucket_key(name, "bucket"), b"since")) for name in names]
        )
        return [name for name, yes in zip(names, held, strict=True) if yes]

    async def registered(self) -> builtins.list[str]:
        """All buckets that were ever written to, sorted."""
        command = Command((2, COUNTERS, BUCKETS, self._random_word), script("registered"))
        names = await self._calls.run(command)
        return sorted(name.decode() for name in names)


def unpack_held(bucket: str, key: str, found: Held) -> Version | None:
    """The version in what a script answers for a name; None if it holds nothing."""
    if isinstance(found, list):
        value, name = found
        return unpack_version(versions_of(bucket), name.decode(), value)
    return None if found is None else unpack_version(bucket, key, found)


def lex_bounds(prefix: str, after: str) -> tuple[bytes, bytes]:
    """The bounds of ZRANGEBYLEX for keys with a prefix that sort behind another one."""
    first, behind = prefix.encode(), after.encode()
    high = b"(" + first + _ABOVE_UTF8
    if behind and behind >= first:
        return b"(" + behind, high
    return b"[" + first if first else b"-", high
